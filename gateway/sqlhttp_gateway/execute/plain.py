"""One plain statement over a lease, without waiting: what `execute` does first, and what has come of it."""

from collections.abc import Callable
from typing import Final, NamedTuple

from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.outcome import refused_to_bind, with_outcome
from sqlhttp_gateway.model import Result, Statement
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.single import Single
from sqlhttp_gateway.pools.statements import Prepared
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, SYNC, encode_bind, encode_parse

_PREPARED: Final = (True,)
"""That one statement was prepared before."""


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
    elif refused_to_bind(exchange, _PREPARED) is not None:
        statements.drop(text)
        return None
    if exchange.fatal_first:
        return None
    raise with_outcome(exchange, lease, limits, in_transaction=False)
