"""A reply in one write. uvicorn writes header and body apart, which costs a system call a request, a tenth of it all.

Where the server is a uvicorn whose request cycle is known to look as it does here, the bytes go straight to its
transport and the cycle is told that it is over; anywhere else, and whenever the connection is in any unusual state,
the reply goes by plain ASGI. Measured on two cores at 64 connections: 26 µs of CPU a request instead of 31.
"""

from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Send

from sqlhttp_gateway.neon.caching import AGE, CACHE_STATUS
from sqlhttp_gateway.neon.headers import JSON_HEADERS, REQUEST_ID
from sqlhttp_gateway.neon.response import Pieces
from sqlhttp_gateway.neon.timing import SERVER_TIMING
from sqlhttp_gateway.reply import Headers, Reply
from sqlhttp_gateway.sql.hits import Hit

_NEEDED: Final = frozenset(
    {
        "default_headers",
        "disconnected",
        "flow",
        "keep_alive",
        "message_event",
        "on_response",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    }
)
"""What the cycle's constructor has to set."""


def _cycle_type() -> Any:
    """uvicorn's class for one request, if it is the one that this file was written for."""
    try:
        from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    except ImportError:
        return None
    names = set(RequestResponseCycle.__init__.__code__.co_names)
    return RequestResponseCycle if names >= _NEEDED else None


_CYCLE: Final = _cycle_type()
_LAST: Final = b"\r\nconnection: close\r\n\r\n"
"""Where uvicorn has it, too."""
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole reply, in one write if the server allows it."""
    cycle: Any = getattr(send, "__self__", None)
    if _CYCLE is not None and isinstance(cycle, _CYCLE) and _is_usual(cycle):
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(reply_bytes(reply))
        _tell_of(cycle, reply)
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return
    headers = [
        *reply.headers,
        (REQUEST_ID, reply.request_id.encode()),
        (b"content-length", b"%d" % len(reply.body)),
    ]
    if reply.timing:
        headers.append((SERVER_TIMING, reply.timing))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
    _tell_of(cycle, reply)


def _tell_of(cycle: Any, reply: Reply) -> None:
    """Let the connection know what it has to send in time, if it is one that looks after that (`lane`)."""
    protocol = getattr(getattr(cycle, "on_response", None), "__self__", None)
    wrote = getattr(protocol, "wrote", None)
    if wrote is not None:
        wrote(reply)


def _is_usual(cycle: Any) -> bool:
    return bool(
        cycle.keep_alive
        and not cycle.disconnected
        and not cycle.response_started
        and not cycle.flow.write_paused
        and not cycle.default_headers
        and cycle.scope["method"] != "HEAD"  # whose answer has no body, so that what follows would not be read as one
    )


@lru_cache(maxsize=256)
def _head(status: int, headers: Headers) -> bytes:
    """All that is the same from one reply to the next, up to the request id."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b%b%b: " % (_STATUS_LINES[status], lines, REQUEST_ID)


_PLAIN: Final = _head(200, JSON_HEADERS)
_PLAIN_TIMED_HEAD: Final = _PLAIN + b"%b\r\nserver-timing: %b\r\ncontent-length: %d\r\n\r\n"
_PLAIN_UNTIMED_HEAD: Final = _PLAIN + b"%b\r\ncontent-length: %d\r\n\r\n"
_PLAIN_TIMED: Final = _PLAIN_TIMED_HEAD + b"%b"
_PLAIN_UNTIMED: Final = _PLAIN_UNTIMED_HEAD + b"%b"


def plain_bytes(request_id: str, timing: bytes, body: bytes | Pieces) -> bytes:
    """`reply_bytes` of a Reply with status 200 and the headers of JSON, for a third of the price."""
    if timing:
        return _PLAIN_TIMED % (request_id.encode(), timing, len(body), body)
    return _PLAIN_UNTIMED % (request_id.encode(), len(body), body)


def plain_head(request_id: str, timing: bytes, size: int) -> bytes:
    """What stands in front of the body there, which has that size."""
    if timing:
        return _PLAIN_TIMED_HEAD % (request_id.encode(), timing, size)
    return _PLAIN_UNTIMED_HEAD % (request_id.encode(), size)


_KEPT: Final = (
    _PLAIN.replace(b"%b: " % REQUEST_ID, b"%b: %%b\r\n%b: %%d\r\n%b: %%b\r\n" % (CACHE_STATUS, AGE, REQUEST_ID))
    + b"content-length: %d\r\n\r\n%b"
)


def kept_bytes(request_id: str, hit: Hit) -> bytes:
    """The same for an answer of the cache."""
    return _KEPT % (hit.status, hit.age, request_id.encode(), len(hit.body), hit.body)


def reply_bytes(reply: Reply, *, is_last: bool = False) -> bytes:
    """A whole response as HTTP/1.1 has it; `is_last` says that the connection closes behind it."""
    return b"".join(reply_parts(reply, is_last=is_last))


def reply_parts(reply: Reply, *, is_last: bool = False) -> tuple[bytes, bytes]:
    """The same without a copy of the body: what stands in front of it, and the body itself."""
    head = _head(reply.status, reply.headers)
    request_id, body = reply.request_id.encode(), reply.body
    end = _LAST if is_last else b"\r\n\r\n"
    if reply.timing:
        return b"%b%b\r\nserver-timing: %b\r\ncontent-length: %d%b" % (
            head,
            request_id,
            reply.timing,
            len(body),
            end,
        ), body
    return b"%b%b\r\ncontent-length: %d%b" % (head, request_id, len(body), end), body
