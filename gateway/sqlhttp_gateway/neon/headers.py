"""The headers of Neon's protocol: their names, the wishes read from a request, and those an answer carries.

Names are lower-case bytes, as ASGI gives them. Values are compared exactly: "True" and "1" are not "true". The
connection string has a file of its own, `neon.dsn`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import IsolationLevel, Options, TransactionOptions

CONNECTION_STRING = b"neon-connection-string"
RAW_TEXT_OUTPUT = b"neon-raw-text-output"
ARRAY_MODE = b"neon-array-mode"
BATCH_ISOLATION_LEVEL = b"neon-batch-isolation-level"
BATCH_READ_ONLY = b"neon-batch-read-only"
BATCH_DEFERRABLE = b"neon-batch-deferrable"
AUTHORIZATION = b"authorization"
ORIGIN = b"origin"
HOST = b"host"
CONTENT_ENCODING = b"content-encoding"
TIMEOUT = b"sqlhttp-timeout"
READ_ONLY = b"sqlhttp-read-only"
IDEMPOTENCY_KEY = b"idempotency-key"
REQUEST_ID = b"neon-request-id"
RAN = b"sqlhttp-ran"

_TRUE = b"true"
_SECONDS = re.compile(rb"[0-9]{1,6}(?:\.[0-9]{1,9})?")
_LEVELS = {level.value.encode(): level for level in IsolationLevel}


def options_from_headers(headers: Mapping[bytes, bytes]) -> Options:
    """What the headers ask for; every header but a bad isolation level may be absent or say anything.

    The isolation level is checked for single statements too, as Neon does, although only a batch has a use for it.

    Raises:
        BadRequest: the isolation level is none of Postgres's four as Neon spells them.
    """
    get = headers.get
    return _options(
        get(RAW_TEXT_OUTPUT) == _TRUE,
        get(ARRAY_MODE) == _TRUE,
        get(BATCH_ISOLATION_LEVEL),
        get(BATCH_READ_ONLY) == _TRUE,
        get(BATCH_DEFERRABLE) == _TRUE,
        get(READ_ONLY) == _TRUE,
    )


@lru_cache(maxsize=256)  # room for all the 160 there are; a value that raises is not kept
def _options(
    raw_text: bool,
    array_mode: bool,
    isolation_level: bytes | None,
    batch_read_only: bool,
    deferrable: bool,
    read_only: bool,
) -> Options:
    level = None
    if isolation_level is not None:
        level = _LEVELS.get(isolation_level)
        if level is None:
            raise BadRequest("invalid isolation level", hint=f"One of {', '.join(IsolationLevel)}, spelled like this.")
    return Options(
        raw_text=raw_text,
        array_mode=array_mode,
        transaction=TransactionOptions(
            isolation_level=level, read_only=batch_read_only or read_only, deferrable=deferrable
        ),
        read_only=read_only,
    )


def timeout_from_header(value: bytes) -> float:
    """Seconds.

    Raises:
        BadRequest: it is no decimal number above 0.
    """
    seconds = float(value) if _SECONDS.fullmatch(value) else 0.0
    if not seconds:
        raise BadRequest("invalid sqlhttp-timeout", hint="A number of seconds above 0, such as 2.5.")
    return seconds


def batch_echo(options: TransactionOptions) -> list[tuple[bytes, bytes]]:
    """The headers by which a successful batch tells how its transaction began; what was not asked for is absent."""
    echo = []
    if options.read_only:
        echo.append((BATCH_READ_ONLY, _TRUE))
    if options.deferrable:
        echo.append((BATCH_DEFERRABLE, _TRUE))
    if options.isolation_level is not None:
        echo.append((BATCH_ISOLATION_LEVEL, options.isolation_level.value.encode()))
    return echo


IS_REPLAYED = (b"idempotent-replayed", b"true")
"""Told, under Stripe's name, with an answer that was given before."""
JSON_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"application/json"),
    (b"access-control-allow-origin", b"*"),
    # Neon sends no such header, so that a page cannot read the request id it should report.
    (b"access-control-expose-headers", b"*"),
)
"""What every answer of `POST /sql` carries, errors included."""

REQUEST_HEADERS: dict[str, str] = {
    "Authorization": "Bearer, and an API key or a token, in place of a password.",
    # This and Batch-Deferrable are missing from Neon's list, where pages then fail the preflight.
    "Content-Type": "Anything: the body is read as JSON.",
    "Neon-Connection-String": "postgres://role:password@host/database; the host only chooses among the targets.",
    "Neon-Raw-Text-Output": "true: values are Postgres's own text, with no type changed.",
    "Neon-Array-Mode": "true: rows are arrays; else objects.",
    "Neon-Pool-Opt-In": "Nothing: every request uses a pool.",
    "Neon-Batch-Read-Only": "true: the batch's transaction is READ ONLY.",
    "Neon-Batch-Isolation-Level": "ReadUncommitted, ReadCommitted, RepeatableRead or Serializable, for the batch.",
    "Neon-Batch-Deferrable": "true: the batch's transaction is DEFERRABLE.",
    "Idempotency-Key": "Carries a write out once, however often it comes: its first answer is the answer of all.",
    "Sqlhttp-Read-Only": "true: the transaction is READ ONLY, a single statement's too, so that a replica may run it.",
    "Sqlhttp-Bookmark": "That of an earlier answer: this one shows nothing older. Of several, the greatest as text.",
    "Sqlhttp-Timeout": "Seconds, such as 2.5, after which the request is cancelled and answered with 504, whatever it "
    "waits for; request.deadline is the most.",
    "Cache-Control": "max-age and stale-while-revalidate in seconds, no-cache, no-store, only-if-cached: what the "
    "result cache may do.",
    "Sqlhttp-Cache-Tags": "Names, with commas between them, by which the answer can be invalidated.",
    "Traceparent": "The trace that the request belongs to, as W3C's Trace Context has it.",
}
"""What each header of a request to /sql means; one that is not listed means nothing."""

RESPONSE_HEADERS: dict[str, str] = {
    "Neon-Request-Id": "A UUID for this request, which the log has, too.",
    "Server-Timing": "Milliseconds of queue, connect, execute and encode, once there was a connection.",
    "Sqlhttp-Bookmark": "How far a target of several servers had come by then; to be sent with later requests.",
    "Sqlhttp-Served-By": "Which server of a target that has several.",
    "Sqlhttp-Ran": "With an error: whether what was asked has taken effect all the same: no, maybe or yes.",
    "Retry-After": "Seconds after which the same request may succeed; with 429 and 503.",
    "Idempotent-Replayed": "true: the answer was given before, to the same Idempotency-Key; nothing was run.",
    "Cache-Status": "What the result cache did with the request, as RFC 9211 says it; none where it was not asked.",
    "Age": "Seconds since the answer was fetched, when it comes from the cache.",
    "Neon-Batch-Read-Only": "How a batch's transaction began, if it was asked for.",
    "Neon-Batch-Isolation-Level": "How a batch's transaction began, if it was asked for.",
    "Neon-Batch-Deferrable": "How a batch's transaction began, if it was asked for.",
}
"""What each header of an answer from /sql means, those of HTTP and of CORS aside."""

ALLOWED_REQUEST_HEADERS = tuple(REQUEST_HEADERS)
"""Every request header that a page in a browser may send; one that is not listed fails its preflight."""

CORS_PREFLIGHT: tuple[tuple[bytes, bytes], ...] = (
    (b"allow", b"OPTIONS, POST, QUERY"),
    (b"access-control-allow-methods", b"POST, QUERY"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", ", ".join(ALLOWED_REQUEST_HEADERS).encode()),
    (b"access-control-max-age", b"86400"),
)
"""The headers that answer `OPTIONS /sql`, with status 200 and no body."""
