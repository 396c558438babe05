"""Runs a statement or a batch over a lease: everything in one write, a batch in its transaction included."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlhttp_gateway.errors import ClaimsFailed, ConnectionBroken, PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.outcome import NothingRan, StaleStatement, may_be_stale, refused_to_bind, with_outcome
from sqlhttp_gateway.execute.texts import beginning, holds_commit, is_plain, refuse_streams
from sqlhttp_gateway.model import Batch, Options, Prologue, Result, Statement, TransactionOptions
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.positions import Positions
from sqlhttp_gateway.pools.scrub import INSIDE, ROLLBACK, needs_deep_scrub
from sqlhttp_gateway.pools.statements import Statements
from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, FLUSH, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.surrounded import SurroundedExchange

_COMMIT = Statement("COMMIT")
_NO_OPTIONS = TransactionOptions()
_ARRAY_MODES = (frozenset((False,)), frozenset((True,)))


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
    if isinstance(exchange.error, StaleStatement):
        if exchange.status != IDLE:
            await lease.run(ROLLBACK, Exchange(), timeout=limits.statement_timeout)
        if positions is not None:
            positions.bookmark = None  # what was told stands before what is run now
        exchange = await _attempt(lease, request, options, limits, prologue, positions, reuse=False)
    if exchange.error is None:
        return exchange.results
    if exchange.fatal_first:
        raise NothingRan(exchange.error)
    raise with_outcome(exchange, lease, limits, in_transaction=isinstance(request, Batch) or prologue is not None)


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
    if lease.backend.closing:
        return _closed_before()
    statements, is_pooler = lease.backend.statements, lease.pool.upstream.is_pooler
    script = _script(request, options, prologue)
    if prologue is not None:
        lease.look_next()
    texts, ahead, array_modes, is_plain_one, _ = script
    count = len(texts)
    head, tail, new, cached = _write(script, statements, is_pooler=is_pooler, reuse=reuse)
    parsed = len(new)
    lease.parsed += parsed
    lease.reused += count - parsed
    count_names = False in array_modes
    if positions is None:
        tail.append(SYNC)
        exchange = Exchange(max_bytes=limits.max_bytes, count_names=count_names)
    else:
        exchange = SurroundedExchange(
            max_bytes=limits.max_bytes,
            count_names=count_names,
            before=positions.asks_before,
            behind=positions.asks_behind and is_plain_one,
        )
        positions.surround(exchange, head, tail, statements, in_transaction=count > 1)
    if len(array_modes) == 1:
        exchange.reading = READINGS[not count_names, options.raw_text]
    try:
        await lease.run(
            b"".join(head),
            exchange,
            tail=b"" if tail is head else b"".join(tail),
            tail_after=count - 1,
            timeout=limits.statement_timeout,
            statements=max(1, count - ahead - 1),  # BEGIN and COMMIT take no time
            scrub_behind=is_plain_one or (is_pooler and count == 1),
            feeds_copy=count == 1,
        )
    finally:
        for text, name in new[: exchange.parsed]:
            statements.add(text, name)
    if positions is not None and isinstance(exchange, SurroundedExchange):
        positions.settle(exchange, statements, statements_sent=count)
    if is_pooler and not (count == 1 and exchange.results and needs_deep_scrub(exchange.results[0].tag)):
        lease.was_scrubbed()
    if exchange.error is not None:
        refused = refused_to_bind(exchange, cached)
        if refused is not None:
            statements.drop(texts[refused].text)
            if isinstance(exchange.error, PostgresError) and may_be_stale(exchange, ahead):
                exchange.error = StaleStatement(exchange.error.fields)
        elif prologue is not None and len(exchange.results) < ahead and isinstance(exchange.error, PostgresError):
            exchange.error = ClaimsFailed(f"the claims could not be set: {exchange.error.message}")
    else:
        exchange.results = exchange.results[ahead : count - 1 or 1]
    return exchange


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Script(NamedTuple):
    """What a request is to Postgres."""

    texts: Sequence[Statement]
    """The caller's statements, or between those that open and end their transaction."""
    ahead: int
    """Statements of the gateway's own in front of the caller's."""
    array_modes: frozenset[bool]
    """Of the caller's statements: whether rows are arrays."""
    is_plain: bool
    """Whether it cannot leave a transaction open, so that its scrub may travel in the same write."""
    holds_commit: bool
    """Whether the last one is sent only when the results of all others are here."""


def _script(request: Statement | Batch, options: Options, prologue: Prologue | None) -> _Script:
    """Raises:
    UnsupportedStatement: it needs a stream of COPY data.
    """
    asked = request.statements if isinstance(request, Batch) else (request,)
    # Told by Postgres it would be too late: all of the request is on its way then, or has run.
    refuse_streams(asked)
    if isinstance(request, Statement) and prologue is None:
        return _Script(asked, 0, _ARRAY_MODES[_is_array_mode(request, options)], is_plain(request), False)
    before = beginning(options.transaction if isinstance(request, Batch) else _NO_OPTIONS, prologue)
    modes = frozenset(_is_array_mode(statement, options) for statement in asked)
    return _Script((*before, *asked, _COMMIT), len(before), modes, False, _holds_commit(request, options))


Parsed = list[tuple[str, bytes]]
"""Texts that are parsed in a write, with their names."""


def _write(
    script: _Script, statements: Statements, *, is_pooler: bool, reuse: bool
) -> tuple[list[bytes], list[bytes], Parsed, list[bool]]:
    """The script in frames, all but the Sync, as this connection is sent them.

    They are: the head; what is held back until that was answered, or the head itself if nothing is; what is parsed in
    them; and which of the statements were prepared before. Behind a pooler the scrub goes into the caller's own
    transaction: after it, it would meet another connection.
    """
    texts = script.texts
    last = len(texts) - 1
    head = parts = [statements.take_closing()]
    new: Parsed = []
    cached: list[bool] = []
    named: dict[str, bytes] = {}
    prepared_as, is_kept = statements.of_transaction([text for text, _, _ in texts])
    for number, (text, params, _) in enumerate(texts):
        if number and number == last:
            if is_pooler:
                parts.append(INSIDE)
            if script.holds_commit:
                parts.append(FLUSH)
                parts = []
        prepared = prepared_as[number] if reuse else None
        name = prepared.name if prepared is not None else named.get(text)
        cached.append(name is not None)
        if name is None:
            name = statements.new_name(text) if is_kept else b""
            new.append((text, name))
            parts.append(encode_parse(name, text.encode()))
            if name and reuse:  # the unnamed statement is another one the next time
                named[text] = name
        parts.append(encode_bind(name, params))
        parts.append(DESCRIBE_AND_EXECUTE)
    if is_pooler and not last:
        parts.append(INSIDE)
    return head, parts, new, cached


def _holds_commit(request: Statement | Batch, options: Options) -> bool:
    if not isinstance(request, Batch) or options.transaction.read_only:
        return False
    return holds_commit([statement.text for statement in request.statements])


def _closed_before() -> Exchange:
    exchange = Exchange()
    exchange.refuse(ConnectionBroken("Postgres closed the connection before it was used"))
    exchange.fatal_first = True
    return exchange


def _is_array_mode(statement: Statement, options: Options) -> bool:
    return options.array_mode if statement.array_mode is None else statement.array_mode
