"""The header `Sqlhttp-Bookmark`: how far a program has seen a target's log, for its next reads not to show less.

Programs keep the greatest value they got, compared as text, and send it back; more they need not understand. It holds
no secret, and one that was made up makes its own request wait at most, or be refused.
"""

import re

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import Bookmark

BOOKMARK = b"sqlhttp-bookmark"
_FORM = re.compile(rb"v1-([0-9a-f]{16})-([0-9a-f]{8})-([0-9a-f]{16})")


def encode_bookmark(bookmark: Bookmark) -> bytes:
    """The value of the header. In hex of one width, the later of two is the greater text."""
    return b"v1-%016x-%08x-%016x" % bookmark


def decode_bookmark(value: bytes) -> Bookmark:
    """What the header says.

    Raises:
        BadRequest: it is none that a gateway gave.
    """
    match = _FORM.fullmatch(value)
    if match is None:
        raise BadRequest(
            "invalid header: sqlhttp-bookmark", hint="Send back what an answer had in this header, or leave it out."
        )
    return Bookmark(*(int(part, 16) for part in match.groups()))
