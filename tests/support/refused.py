"""What is said of settings that cannot be used."""

from pathlib import Path

import pytest

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings import load_settings


def refused(*, file: Path | None = None, **given: object) -> str:
    """The words in which these settings are refused; fails if they are not."""
    with pytest.raises(ConfigurationError) as error:
        load_settings(file=file, **given)
    return str(error.value)
