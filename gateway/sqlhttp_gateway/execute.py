"""Runs a statement or a batch over a lease: everything in one write, a batch in its transaction included.

A statement that the connection has prepared is only bound. When the server refuses to bind such a statement, it may
have gone missing, or stale by a change of the schema: of the columns it returns, or of the types that its parameters
were found to have. The request is then run once more with fresh ones, silently, provided that nothing of it can have
stayed.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from sqlhttp_gateway.errors import ClaimsFailed, ConnectionBroken, GatewayError, HasRun, PostgresError, ResponseTooLarge
from sqlhttp_gateway.model import Allowance, Batch, Options, Prologue, Result, Statement, TransactionOptions
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.positions import Positions
from sqlhttp_gateway.pools.scrub import INSIDE, ROLLBACK, ScrubbedExchange
from sqlhttp_gateway.pools.single import Single
from sqlhttp_gateway.pools.statements import Prepared
from sqlhttp_gateway.wire.exchange import IDLE, Exchange, copy_refused
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, FLUSH, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.surrounded import SurroundedExchange

_PLAIN = re.compile(r"\s*(?:select|insert|update|delete|with|values|merge|table)\b", re.IGNORECASE)
"""What begins like this cannot leave a transaction open, so its scrub may travel in the same write."""
_ENDS_TRANSACTION = (b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION", b"CALL", b"DO")
_READS = re.compile(r"\s*(?:select|values|table|show)\b", re.IGNORECASE)
_ROWLESS = re.compile(
    r"\s*(?:insert|update|delete|merge|create|alter|drop|truncate|set|reset|lock|grant|revoke|comment|notify|do)\b",
    re.IGNORECASE,
)
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)
_STALE_CODES = ("0A000", "22", "26000", "42")
"""Codes, or classes of codes, of what a fresh Parse may heal: a changed result, a parameter that does not fit its type,
a missing statement, a name that means something else now."""
_BAD_PARAMETER = "22"
_NO_PRIVILEGE = "42501"
_COMMIT = "COMMIT"
_NO_OPTIONS = TransactionOptions()
_STREAMS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*[^*]*\*/)*+copy\b.*\b(?:from\s+stdin|to\s+stdout)\b", re.IGNORECASE | re.DOTALL
)
_QUERY_CANCELED = "57014"
_CLOCK_STEP = 0.002
"""Seconds by which two readings of the loop's clock, which has whole milliseconds, may say less than went by."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take: `max_bytes` of rows, `statement_timeout` seconds for each statement (0: none)."""

    max_bytes: int
    statement_timeout: float

    def within(self, allowance: Allowance) -> "Limits":
        """These, or those of a tenant where they are lower."""
        most, timeout = allowance.max_response_bytes, allowance.statement_timeout
        return Limits(
            max_bytes=min(most or self.max_bytes, self.max_bytes),
            statement_timeout=min(timeout, self.statement_timeout or inf) if timeout else self.statement_timeout,
        )


async def execute(
    lease: Lease,
    request: Statement | Batch,
    options: Options,
    limits: Limits,
    prologue: Prologue | None = None,
    positions: Positions | None = None,
) -> list[Result]:
    """The results of the caller's statements, in order. With a `prologue`, a single one has a transaction, too.

    What `positions` asks is answered in it, whatever becomes of the request.

    Raises:
        ClaimsFailed: the prologue failed; nothing of the caller's was run.
        PostgresError: a statement failed; of a batch nothing stayed.
        ResponseTooLarge, StatementTimeout: the statement was cancelled.
        UnsupportedStatement: it was not run, or cancelled.
        ConnectionBroken: nobody knows.
        NothingRan: the connection was over before it began.
    """
    exchange = await _attempt(lease, request, options, limits, prologue, positions, reuse=True)
    if isinstance(exchange.error, _StaleStatement):
        if exchange.status != IDLE:
            await lease.run(ROLLBACK, Exchange())
        exchange = await _attempt(lease, request, options, limits, prologue, positions, reuse=False)
    if exchange.error is None:
        return exchange.results
    if exchange.fatal_first:
        raise NothingRan(exchange.error)
    raise with_outcome(exchange, lease, limits, in_transaction=isinstance(request, Batch) or prologue is not None)


def is_plain(request: Statement) -> bool:
    """Whether the statement ends as a whole or not at all: no CALL or DO, which may commit on the way.

    `start_plain` may run it, where nothing is to run in front of it and no pooler is in between.
    """
    return is_plain_text(request.text)


def is_plain_text(text: str) -> bool:
    """The same of its text."""
    return _PLAIN.match(text) is not None


class NothingRan(Exception):
    """The connection was at its end before Postgres began with the request, which can go to another one."""

    def __init__(self, reason: GatewayError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _StaleStatement(PostgresError):
    """A statement of ours, not of the caller, may be out of date or gone, and nothing of the request has stayed."""


async def _attempt(
    lease: Lease,
    request: Statement | Batch,
    options: Options,
    limits: Limits,
    prologue: Prologue | None,
    positions: Positions | None,
    *,
    reuse: bool,
) -> Exchange:
    """One exchange with the request; its results are the caller's own."""
    statements = lease.backend.statements
    if lease.backend.closing:
        exchange = Exchange()
        exchange.refuse(ConnectionBroken("Postgres closed the connection before it was used"))
        exchange.fatal_first = True
        return exchange
    is_pooler = lease.pool.upstream.is_pooler
    ahead = 0
    """Statements of the gateway's own in front of the caller's."""
    if isinstance(request, Statement) and prologue is None:
        texts: Sequence[Statement] = (request,)
        plain = is_plain(request)
        modes = {_is_array_mode(request, options)}
    else:
        asked = request.statements if isinstance(request, Batch) else (request,)
        # Told by Postgres it would be too late: all of the batch is on its way then, its COMMIT included.
        refuse_streams(asked)
        before = beginning(options.transaction if isinstance(request, Batch) else _NO_OPTIONS, prologue)
        ahead = len(before)
        texts = (*before, *asked, Statement(_COMMIT))
        plain = False
        modes = {_is_array_mode(statement, options) for statement in asked}
    count_names = False in modes
    head = parts = [statements.take_closing()]
    new: list[tuple[str, bytes]] = []
    cached: list[bool] = []
    for number, statement in enumerate(texts):
        prepared = statements.prepared(statement.text) if reuse else None
        cached.append(prepared is not None)
        if number and number == len(texts) - 1:
            if is_pooler:
                parts.append(INSIDE)
            if _holds_commit(request, options):
                parts.append(FLUSH)
                parts = []
        if prepared is None:
            name = statements.new_name(statement.text)
            new.append((statement.text, name))
            parts.append(encode_parse(name, statement.text.encode()))
        else:
            name = prepared.name
        parts.append(encode_bind(name, statement.params))
        parts.append(DESCRIBE_AND_EXECUTE)
    lease.parsed += len(new)
    lease.reused += len(cached) - len(new)
    scrubs_inside = is_pooler and (plain or len(texts) > 1)
    if scrubs_inside and len(texts) == 1:
        parts.append(INSIDE)
    if positions is None:
        parts.append(SYNC)
        exchange = Exchange(max_bytes=limits.max_bytes, count_names=count_names)
    else:
        exchange = SurroundedExchange(
            max_bytes=limits.max_bytes,
            count_names=count_names,
            before=positions.asks_before,
            behind=positions.asks_behind and plain,
        )
        positions.surround(exchange, head, parts, statements, in_transaction=len(texts) > 1)
    if len(modes) == 1:
        exchange.reading = READINGS[not count_names, options.raw_text]
    try:
        await lease.run(
            b"".join(head),
            exchange,
            tail=b"" if parts is head else b"".join(parts),
            tail_after=len(texts) - 1,
            timeout=limits.statement_timeout,
            statements=max(1, len(texts) - ahead - 1),  # BEGIN and COMMIT take no time
            scrub_behind=plain and not is_pooler,
            feeds_copy=len(texts) == 1,
        )
    finally:
        for text, name in new[: exchange.parsed]:
            statements.add(text, name)
    if positions is not None and isinstance(exchange, SurroundedExchange):
        positions.settle(exchange, statements, statements_sent=len(texts))
    if scrubs_inside:
        lease.was_scrubbed()
    if exchange.error is not None:
        refused = refused_to_bind(exchange, cached)
        if refused is not None:
            statements.drop(texts[refused].text)
            if isinstance(exchange.error, PostgresError) and may_be_stale(exchange, ahead):
                exchange.error = _StaleStatement(exchange.error.fields)
        elif prologue is not None and len(exchange.results) < ahead and isinstance(exchange.error, PostgresError):
            exchange.error = ClaimsFailed(f"the claims could not be set: {exchange.error.message}")
    elif ahead:
        exchange.results = exchange.results[ahead : len(texts) - 1]
    else:
        exchange.results = exchange.results[:1]
    return exchange


# ── one plain statement, without waiting ─────────────────────────────────────────────────────────────────────────────


class Plain(NamedTuple):
    """An exchange with one plain statement, and what it has taken to begin it."""

    exchange: Exchange
    name: bytes
    prepared: Prepared | None
    """What the statement was prepared as before; None: it is parsed as `name` in this exchange."""


Started = Single | Plain
"""A plain statement under way."""


def start_plain(
    lease: Lease, statement: Statement, then: Callable[[], None], *, array_mode: bool, limits: Limits
) -> Started:
    """What `execute` does first, for one that `is_plain`; `then` is called at its end. The lease's backend is open."""
    backend = lease.backend
    statements = backend.statements
    text, params = statement.text, statement.params
    prepared = statements.prepared(text)
    if prepared is not None:
        lease.reused += 1
        if prepared.foreseen is not None and not statements.closing and backend.scrub_prepared:
            single = Single(
                lease, prepared, prepared.foreseen, then, max_bytes=limits.max_bytes, count_names=not array_mode
            )
            single.begin(params, timeout=limits.statement_timeout)
            return single
        name = prepared.name
        parse = b""
    else:
        lease.parsed += 1
        name = statements.new_name(text)
        parse = encode_parse(name, text.encode())
    frames = b"".join((statements.take_closing(), parse, encode_bind(name, params), DESCRIBE_AND_EXECUTE, SYNC))
    exchange = Exchange(max_bytes=limits.max_bytes, count_names=not array_mode)
    exchange.reading = READINGS[array_mode, True]
    started = Plain(exchange, name, prepared)
    lease.start(frames, exchange, then, timeout=limits.statement_timeout, scrub_behind=True)
    return started


def plain_result(lease: Lease, statement: Statement, started: Started, limits: Limits) -> Result | None:
    """What has come of it; None when it is worth a second try on this or another connection, and nothing has stayed.

    Raises:
        GatewayError: as `execute`.
    """
    if isinstance(started, Single):
        if started.result is not None:
            return started.result
        assert started.exchange is not None
        started = Plain(started.exchange, b"", started.prepared)
    exchange, name, prepared = started
    statements, text = lease.backend.statements, statement.text
    if exchange.error is None:
        result = exchange.results[0]
        if prepared is None:
            statements.add(text, name)
        elif prepared.foreseen is None or not prepared.foreseen.is_as(result):
            prepared.foreseen = Foreseen.after(result)
        return result
    if prepared is None:
        if exchange.parsed:
            statements.add(text, name)
    elif refused_to_bind(exchange, [True]) is not None:
        statements.drop(text)
        return None
    if exchange.fatal_first:
        return None
    raise with_outcome(exchange, lease, limits, in_transaction=False)


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse_streams(statements: Iterable[Statement]) -> None:
    """Let nothing begin that needs a stream of COPY data.

    Raises:
        UnsupportedStatement: one of the statements does.
    """
    if any(_STREAMS.match(statement.text) for statement in statements):
        raise copy_refused()


def beginning(transaction: TransactionOptions, prologue: Prologue | None) -> tuple[Statement, ...]:
    """What opens the transaction, and what the gateway runs in it first."""
    if prologue is None:
        return (Statement(transaction.begin),)
    if prologue.read_only:
        transaction = replace(transaction, read_only=True)
    return Statement(transaction.begin), *prologue.statements


def _holds_commit(request: Statement | Batch, options: Options) -> bool:
    if not isinstance(request, Batch) or options.transaction.read_only:
        return False
    return holds_commit([statement.text for statement in request.statements])


def holds_commit(texts: Collection[str]) -> bool:
    """Whether COMMIT has to wait until all results are here, which costs a round trip.

    A batch that wrote something must not be committed when its answer turns out to be too large to give.
    """
    return not all(map(_READS.match, texts)) and not all(map(_is_rowless, texts))


def _is_rowless(text: str) -> bool:
    return _ROWLESS.match(text) is not None and _RETURNING.search(text) is None


def refused_to_bind(exchange: Exchange, cached: Sequence[bool]) -> int | None:
    """Which of the statements that were prepared before could not be bound, if that is what went wrong."""
    error, step = exchange.error, exchange.bound
    if not isinstance(error, PostgresError) or len(exchange.results) != step or step >= len(cached) or not cached[step]:
        return None
    return step if error.code.startswith(_STALE_CODES) and error.code != _NO_PRIVILEGE else None


def may_be_stale(exchange: Exchange, ahead: int) -> bool:
    """Whether another try is worth it and does no harm: all before it is rolled back with the transaction. `ahead` are
    the gateway's own statements.
    """
    error, before = exchange.error, exchange.results
    assert isinstance(error, PostgresError)
    if any(result.tag is not None and result.tag.startswith(_ENDS_TRANSACTION) for result in before):
        return False
    # A bad parameter is nearly always the caller's own: for that, what ran before it is not run twice.
    return len(before) <= ahead or not error.code.startswith(_BAD_PARAMETER)


def _is_array_mode(statement: Statement, options: Options) -> bool:
    return options.array_mode if statement.array_mode is None else statement.array_mode


def _is_committed(exchange: Exchange) -> bool:
    if isinstance(exchange, ScrubbedExchange):
        return exchange.is_committed
    return bool(exchange.results) and exchange.results[-1].tag == b"COMMIT" and exchange.status == IDLE


def with_outcome(exchange: Exchange, lease: Lease, limits: Limits, *, in_transaction: bool) -> GatewayError:
    """The error to raise, and what the caller cannot know of it.

    A batch that was refused for its size says whether its COMMIT was quicker; a statement that Postgres ended at the
    gateway's limit says that it was the gateway's.
    """
    error = exchange.error
    assert error is not None
    if isinstance(error, PostgresError) and error.code == _QUERY_CANCELED and limits.statement_timeout:
        pool, timeout = lease.pool, limits.statement_timeout
        if pool.loop.time() - pool.leased[lease.backend] >= timeout - _CLOCK_STEP:
            return PostgresError(
                {"H": f"The limit is the gateway's: statement.timeout is {timeout:g} s."} | error.fields
            )
    if isinstance(error, ResponseTooLarge) and in_transaction:
        if _is_committed(exchange):
            fate, ran = "it was committed before it could be stopped", HasRun.YES
        elif exchange.status:
            fate, ran = "it was rolled back", HasRun.NO
        else:
            fate, ran = "whether it was committed is unknown", HasRun.MAYBE
        told = ResponseTooLarge(f"{error.message}; of the transaction: {fate}")
        told.ran = ran
        return told
    return error
