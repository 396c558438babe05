"""What goes back over HTTP for one request, and how an error is told there."""

from random import getrandbits
from typing import NamedTuple

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.neon.headers import JSON_HEADERS
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


def error_reply(error: GatewayError, request_id: str) -> Reply:
    """An error as HTTP tells it."""
    headers: Headers = JSON_HEADERS
    if error.retry_after is not None:
        headers = (*JSON_HEADERS, (b"retry-after", b"%d" % error.retry_after))
    return Reply(error.status, headers, request_id, encode_error(error))


def new_request_id() -> str:
    """A random UUID, version 4."""
    # Nothing rests on it being hard to guess, and asking the system for each would cost a call; forks reseed it.
    text = f"{getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
