"""Runs a statement or a batch over a lease: everything in one write, a batch in its transaction included.

A statement that the connection has prepared is only bound. When such a statement has gone stale or missing on the
server, the request is run once more with fresh ones, silently, provided that nothing of it can have stayed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlhttp_gateway.errors import GatewayError, PostgresError, ResponseTooLarge
from sqlhttp_gateway.model import Batch, Options, Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import INSIDE, ROLLBACK
from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from sqlhttp_gateway.wire.frontend import DESCRIBE_PORTAL, EXECUTE, SYNC, encode_bind, encode_parse

_PLAIN = re.compile(r"\s*(?:select|insert|update|delete|with|values|merge|table)\b", re.IGNORECASE)
"""What begins like this cannot leave a transaction open, so its scrub may travel in the same write."""
_ENDS_TRANSACTION = (b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION", b"CALL", b"DO")
_COMMIT = "COMMIT"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take: `max_bytes` of rows, `statement_timeout` seconds for each statement (0: none)."""

    max_bytes: int
    statement_timeout: float


async def execute(lease: Lease, request: Statement | Batch, options: Options, limits: Limits) -> list[Result]:
    """The results of the caller's statements, in order.

    Raises:
        PostgresError: a statement failed; of a batch nothing stayed.
        ResponseTooLarge, StatementTimeout, UnsupportedStatement: the statement was cancelled.
        ConnectionBroken: nobody knows.
        NothingRan: the connection was over before it began.
    """
    exchange = await _attempt(lease, request, options, limits, reuse=True)
    if exchange.error is None:
        return exchange.results
    if exchange.fatal_first:
        raise NothingRan(exchange.error)
    if isinstance(exchange.error, _StaleStatement):
        if exchange.status != IDLE:
            await lease.run(ROLLBACK, Exchange())
        lease.backend.statements.forget()
        exchange = await _attempt(lease, request, options, limits, reuse=False)
        if exchange.error is None:
            return exchange.results
    raise _with_outcome(exchange, request)


class NothingRan(Exception):
    """Postgres had ended the connection before it began with the request, which can go to another one."""

    def __init__(self, reason: GatewayError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _StaleStatement(PostgresError):
    """A statement of ours, not of the caller, is out of date or gone, and nothing of the request has stayed."""


async def _attempt(
    lease: Lease, request: Statement | Batch, options: Options, limits: Limits, *, reuse: bool
) -> Exchange:
    """One exchange with the request; its results are the caller's own."""
    statements = lease.backend.statements
    is_pooler = lease.pool.upstream.is_pooler
    if isinstance(request, Statement):
        texts: Sequence[Statement] = (request,)
        plain = _PLAIN.match(request.text) is not None
    else:
        texts = (Statement(options.transaction.begin), *request.statements, Statement(_COMMIT))
        plain = False
    parts = [statements.take_closing()]
    new: list[tuple[str, bytes]] = []
    cached: list[bool] = []
    for number, statement in enumerate(texts):
        name = statements.find(statement.text) if reuse else None
        cached.append(name is not None)
        if is_pooler and number == len(texts) - 1 and number:
            parts.append(INSIDE)
        if name is None:
            name = statements.new_name(statement.text)
            new.append((statement.text, name))
            parts.append(encode_parse(name, statement.text.encode()))
        parts.append(encode_bind(name, statement.params))
        parts.append(DESCRIBE_PORTAL)
        parts.append(EXECUTE)
    lease.parsed += len(new)
    lease.reused += len(cached) - len(new)
    scrubs_inside = is_pooler and (plain or len(texts) > 1)
    if scrubs_inside and len(texts) == 1:
        parts.append(INSIDE)
    parts.append(SYNC)
    count_names = not options.array_mode or any(statement.array_mode is False for statement in texts)
    exchange = Exchange(max_bytes=limits.max_bytes, count_names=count_names)
    await lease.run(
        b"".join(parts),
        exchange,
        timeout=limits.statement_timeout,
        scrub_behind=plain and not is_pooler,
        feeds_copy=len(texts) == 1,
    )
    if scrubs_inside:
        lease.was_scrubbed()
    for text, name in new[: exchange.parsed]:
        statements.add(text, name)
    if exchange.error is not None:
        _recognize_stale(exchange, cached)
    elif isinstance(request, Batch):
        exchange.results = exchange.results[1 : len(texts) - 1]
    else:
        exchange.results = exchange.results[:1]
    return exchange


def _recognize_stale(exchange: Exchange, cached: list[bool]) -> None:
    """Mark an error that a fresh Parse would heal: a Bind of a prepared statement failed, all before it was complete
    and is rolled back with the transaction."""
    error = exchange.error
    step = exchange.bound
    if not isinstance(error, PostgresError) or len(exchange.results) != step or step >= len(cached) or not cached[step]:
        return
    gone = error.code == "26000"
    changed = error.code == "0A000" and error.fields.get("R") == "RevalidateCachedQuery"
    if not (gone or changed):
        return
    if any(result.tag is not None and result.tag.startswith(_ENDS_TRANSACTION) for result in exchange.results):
        return
    exchange.error = _StaleStatement(error.fields)


def _with_outcome(exchange: Exchange, request: Statement | Batch) -> GatewayError:
    """The error to raise; a batch that was refused for its size says whether its COMMIT was quicker."""
    error = exchange.error
    assert error is not None
    if isinstance(error, ResponseTooLarge) and isinstance(request, Batch):
        committed = bool(exchange.results) and exchange.results[-1].tag == b"COMMIT" and exchange.status == IDLE
        fate = "it was committed before it could be stopped" if committed else "it was rolled back"
        return ResponseTooLarge(f"{error.message}; of the transaction: {fate}")
    return error
