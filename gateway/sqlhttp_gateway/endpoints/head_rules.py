"""What the head of a request may be: its size, its number of headers, and one meaning for whoever reads it.

Pure: a head that was read comes in, and what is wrong with it is raised. Who reads it, and in which time, is the
business of `guarded`. What a header asks for is nobody's here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import httptools

from sqlhttp_gateway.errors import BadRequest, HeadTooLarge

MOST_HEADERS = 200
"""Headers of one request; Apache takes 100, Node 2,000."""


class HeadLimits(NamedTuple):
    """What the head of a request may be. The defaults are for where no settings say so: at the admin address."""

    timeout: float = 10.0
    """Seconds, as `request.head_timeout`."""
    max_bytes: int = 32_768
    """As `request.max_head_bytes`."""


class ReadHead(NamedTuple):
    """A whole head as the parser has read it."""

    method: bytes
    url: bytes
    version: str
    """Such as 1.1."""
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""


def check_head(head: ReadHead, limits: HeadLimits) -> None:
    """Return if it may be answered.

    Raises:
        HeadTooLarge: it has too many bytes or headers.
        BadRequest: two who read it could take it for two different things, or it asks for what the gateway is not.
    """
    size = len(head.url) + sum([len(name) + len(value) + 4 for name, value in head.headers])
    if size > limits.max_bytes:
        raise head_too_large(limits)
    if len(head.headers) > MOST_HEADERS:
        raise HeadTooLarge(f"the request has {len(head.headers)} headers (max is {MOST_HEADERS})")
    if head.version not in ("1.1", "1.0"):
        raise BadRequest(f"the version of HTTP is {head.version}, and must be 1.1 or 1.0")
    if head.method == b"CONNECT":
        raise BadRequest("the gateway is no proxy: CONNECT is not possible")
    _check_host(head)
    for name, value in head.headers:
        if name == b"transfer-encoding" and (value.strip().lower() != b"chunked" or head.version == "1.0"):
            # RFC 9112, 6.1: what was applied before would have to be undone, which the gateway does for none.
            raise BadRequest("transfer-encoding must be chunked and nothing else, in HTTP/1.1")


def head_too_large(limits: HeadLimits) -> HeadTooLarge:
    """What to say of it."""
    return HeadTooLarge(
        f"the head of the request is too large (max is {limits.max_bytes} bytes, request.max_head_bytes)"
    )


def _check_host(head: ReadHead) -> None:
    hosts = [value for name, value in head.headers if name == b"host"]
    if len(hosts) > 1:
        raise BadRequest("the header host came twice")
    if head.version == "1.1" and not hosts:  # RFC 9112, 3.2
        raise BadRequest("the header host is missing")
    if not head.url.startswith((b"/", b"*")) and hosts:
        asked, named = httptools.parse_url(head.url).host or b"", httptools.parse_url(b"http://" + hosts[0]).host
        if asked.lower() != (named or b"").lower():
            raise BadRequest("the request's target names another host than the header host")
