"""A write and its key in one transaction: the key taken first, the answer kept last, then COMMIT.

The answer is made between two round trips, since it is to be kept with the write. Nothing is cached here: writes that
carry keys are few, and whatever a fresh Parse costs is little beside the commit.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlhttp_gateway.errors import (
    ClaimsFailed,
    ConnectionBroken,
    GatewayError,
    HasRun,
    IdempotencyUnavailable,
    KeyInFlight,
    KeyReused,
    KeyUnanswered,
    PostgresError,
    UnsupportedStatement,
)
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.outcome import NothingRan, with_outcome
from sqlhttp_gateway.execute.texts import beginning, refuse_streams
from sqlhttp_gateway.idempotency import table
from sqlhttp_gateway.idempotency.keys import ends_transaction
from sqlhttp_gateway.model import Batch, Options, Prologue, Result, Statement, TransactionOptions
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import INSIDE, ROLLBACK
from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from sqlhttp_gateway.wire.frontend import DESCRIBE_PORTAL, EXECUTE, SYNC, encode_bind, encode_parse

Answer = TypeVar("Answer")
Keep = Callable[[list[Result]], Awaitable[tuple[Answer, Statement]]]
"""From the results to the answer, and to the statement that keeps it."""

_IN_TRANSACTION = ord("T")
_NO_OPTIONS = TransactionOptions()


_GONE = ("3F000", "42883", "42P01", table.OTHER_SECRET)
"""The schema, the function or the table does not exist, or is not the one that the key was made for."""


class Answered(Exception):
    """The key has its answer, and nothing was run."""


class TableGone(Exception):
    """The table of keys is no longer there, or another one is, and nothing was run."""


async def run_once(
    lease: Lease,
    request: Statement | Batch,
    options: Options,
    limits: Limits,
    *,
    taking: Statement,
    keep: Keep[Answer],
    prologue: Prologue | None = None,
) -> Answer:
    """What `keep` made of the results. `taking` is the statement that takes the key.

    Raises:
        Answered: the key has its answer already.
        TableGone: there is no table of keys any more, or another one.
        KeyInFlight, KeyReused, KeyUnanswered: the key is another's, or nobody knows.
        IdempotencyUnavailable: the role may not take a key.
        PostgresError: a statement failed; nothing of the request stayed, and the key is free.
        ConnectionBroken: nobody knows; the same request with the same key will find out.
        NothingRan: the connection was over before it began.
        GatewayError: whatever else `execute` raises.
    """
    asked = request.statements if isinstance(request, Batch) else (request,)
    refuse_streams(asked)
    if ends_transaction(request):
        raise UnsupportedStatement(
            "a request with an Idempotency-Key cannot end its own transaction",
            hint="Leave out COMMIT and ROLLBACK: the request is one transaction.",
        )
    transaction = options.transaction if isinstance(request, Batch) else _NO_OPTIONS
    before = (*beginning(transaction, prologue), taking)
    exchange = Exchange(max_bytes=limits.max_bytes, count_names=True)
    if lease.backend.closing:
        raise NothingRan(ConnectionBroken("Postgres closed the connection before it was used"))
    frames = b"".join(map(_frames, (*before, *asked)))
    await lease.run(frames + SYNC, exchange, timeout=limits.statement_timeout, statements=len(asked))
    if exchange.error is not None:
        if exchange.fatal_first:
            raise NothingRan(exchange.error)
        if exchange.status != IDLE and not lease.backend.closing:
            await lease.run(ROLLBACK, Exchange(), timeout=limits.statement_timeout)
        if len(exchange.results) < len(before):
            raise _not_taken(exchange.error, is_key=len(exchange.results) == len(before) - 1)
        raise with_outcome(exchange, lease, limits, in_transaction=True)
    if exchange.status != _IN_TRANSACTION:
        raise KeyUnanswered("the request ended its own transaction: what it did stays, and its key is not kept")
    try:
        answer, keeping = await keep(exchange.results[len(before) :])
    except GatewayError as error:
        error.ran = HasRun.NO  # what cannot be kept is rolled back, whatever such an error means elsewhere
        raise
    is_pooler = lease.pool.upstream.is_pooler
    end = Exchange()
    frames = _frames(keeping) + (INSIDE if is_pooler else b"") + _frames(Statement("COMMIT")) + SYNC
    await lease.run(frames, end, timeout=limits.statement_timeout, statements=2)
    if is_pooler:
        lease.was_scrubbed()
    if end.error is not None:
        raise end.error
    return answer


def _frames(statement: Statement) -> bytes:
    return encode_parse(b"", statement.text.encode()) + encode_bind(b"", statement.params) + DESCRIBE_PORTAL + EXECUTE


def _not_taken(error: GatewayError, *, is_key: bool) -> Exception:
    """Why the request did not begin."""
    if not isinstance(error, PostgresError):
        return error
    if not is_key:
        return ClaimsFailed(f"the claims could not be set: {error.message}")
    if error.code in _GONE:
        return TableGone()
    match error.code:
        case table.ANSWERED | "40001":  # serialization_failure: in REPEATABLE READ, another has just committed
            return Answered()
        case table.OTHER_REQUEST:
            return KeyReused(
                "the Idempotency-Key was used with another request",
                hint="A key stands for one request: the same body, and the same headers that shape its answer.",
            )
        case table.UNANSWERED:
            return KeyUnanswered("a request with this Idempotency-Key was carried out and its answer is not known")
        case "42501":  # insufficient_privilege
            return IdempotencyUnavailable(
                f"the role of the request may not take an Idempotency-Key: {error.message}",
                hint="Run sqlhttp idempotency install: it grants the two functions to everybody again.",
            )
        case "55P03":  # lock_not_available
            return KeyInFlight("a request with this Idempotency-Key is being carried out", retry_after=1)
    return error
