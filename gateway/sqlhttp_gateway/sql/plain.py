"""Which requests are plain: those for which `service` would do nothing but run statements on a connection.

Here alone is said what makes a request more than that, head, caller and body apart, so that `quick` need not know.
"""

from collections.abc import Mapping

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.execute.plain_batch import is_plain_batch
from sqlhttp_gateway.execute.texts import is_plain
from sqlhttp_gateway.model import Batch, Options, Statement
from sqlhttp_gateway.neon.caching import CACHE_CONTROL, CACHE_TAGS
from sqlhttp_gateway.neon.headers import (
    CONNECTION_STRING,
    ORIGIN,
    RAW_TEXT_OUTPUT,
    REQUEST_HEADERS,
    options_from_headers,
)
from sqlhttp_gateway.neon.request import decode_request

PLAIN_HEADERS = frozenset(
    {CONNECTION_STRING, RAW_TEXT_OUTPUT, b"content-type", b"neon-array-mode", b"neon-pool-opt-in"}
)
"""Headers that a plain request may have, beside those that mean nothing."""
_OF_CACHE = frozenset({CACHE_CONTROL, CACHE_TAGS})
_MEANING = frozenset({ORIGIN, *(name.lower().encode() for name in REQUEST_HEADERS)}) - PLAIN_HEADERS - _OF_CACHE
"""Headers that make a request more than plain: all that mean anything, but for those that are understood here."""


def plain_options(headers: Mapping[bytes, bytes]) -> Options | None:
    """The wishes of a head that asks for nothing but an answer in Postgres's own text, by a connection string."""
    if asks_cache(headers):
        return None
    options = options_beside_cache(headers)
    return options if options is not None and options.raw_text else None


def options_beside_cache(headers: Mapping[bytes, bytes]) -> Options | None:
    """The wishes of a head that asks by a connection string, whatever it asks of the cache, and for nothing more."""
    if CONNECTION_STRING not in headers or not _MEANING.isdisjoint(headers):
        return None
    return options_from_headers(headers)


def asks_cache(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a head has a wish for the cache."""
    return not _OF_CACHE.isdisjoint(headers) or b"cache_" in headers.get(CONNECTION_STRING, b"")


def is_plain_caller(caller: Caller) -> bool:
    """Whether nothing bounds what the caller may do, runs in front of it, or chooses between servers for it."""
    upstream = caller.pool.upstream
    return caller.grant is None and caller.allowance is None and not upstream.is_pooler and upstream.group is None


def plain_request(body: bytes) -> Statement | Batch | None:
    """What a body asks for that can be read: one statement that ends as a whole or not at all, or several of them in a
    transaction that need not be looked at before its end.
    """
    try:
        request = decode_request(body)
    except GatewayError:
        return None
    if isinstance(request, Statement):
        return request if is_plain(request) else None
    return request if is_plain_batch(request) else None
