"""What goes back over HTTP for one request, and how an error is told there."""

import os
from random import getrandbits
from typing import Final, NamedTuple

from sqlhttp_gateway.deadline import Due
from sqlhttp_gateway.errors import EncodedBody, GatewayError
from sqlhttp_gateway.neon.headers import JSON_HEADERS, RAN
from sqlhttp_gateway.neon.response import encode_error

Headers = tuple[tuple[bytes, bytes], ...]


class Reply(NamedTuple):
    """What goes back over HTTP."""

    status: int
    headers: Headers
    """All but the request id's and the body's length."""
    request_id: str
    body: bytes
    timing: bytes = b""
    """The value of Server-Timing; none without it."""
    due: Due | None = None
    """Until when it has to be sent; None: in any time."""

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.request_id}, {len(self.body)} bytes)"  # of a caller's values


def error_reply(error: GatewayError, request_id: str) -> Reply:
    """An error as HTTP tells it."""
    headers: Headers = (*JSON_HEADERS, (RAN, error.ran.encode()))
    if error.retry_after is not None:
        headers = (*headers, (b"retry-after", b"%d" % error.retry_after))
    if isinstance(error, EncodedBody):
        headers = (*headers, (b"accept-encoding", b"identity"))  # RFC 9110, 15.5.16
    return Reply(error.status, headers, request_id, encode_error(error))


class _Ids:
    """Ids of one process: what it drew at random, and a number that comes again after 2^48 requests."""

    def __init__(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Begin anew, as a process that was forked has to."""
        text = f"{getrandbits(80):020x}"
        self.prefix = f"{text[:8]}-{text[8:12]}-4{text[12:15]}-a{text[15:18]}-"
        self.number = getrandbits(48)


_IDS: Final = _Ids()
_STEP: Final = 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFF
"""Odd, so that every number comes once; large, so that ids that follow each other do not look alike."""
os.register_at_fork(after_in_child=_IDS.draw)


def new_request_id() -> str:
    """A UUID of version 4's form, other than all others."""
    # Nothing rests on it being hard to guess; to draw and cut all of its digits costs five times as much.
    _IDS.number = number = (_IDS.number + _STEP) & 0xFFFFFFFFFFFF
    return _IDS.prefix + number.to_bytes(6).hex()  # in half the time that a format takes
