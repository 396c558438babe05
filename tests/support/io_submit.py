"""Whether this machine lets several writes be made in one call."""

import pytest

from sqlhttp_gateway.endpoints.submission import Submission


def _is_forbidden() -> bool:
    """By the system's word: one that is allowed and does not work is a fault."""
    try:
        Submission().close()
    except OSError:
        return True
    return False


needs_io_submit = pytest.mark.skipif(_is_forbidden(), reason="the system has no io_submit, or forbids it")
