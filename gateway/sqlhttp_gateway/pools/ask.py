"""A question of the gateway's own to Postgres: one statement over a lease, its rows as plain tuples."""

from collections.abc import Sequence

from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.rows import rows_of

ANSWER_TIMEOUT = 5.0
"""Seconds that one of these may take."""


async def ask(
    lease: Lease, text: str, params: Sequence[bytes | None] = (), *, max_bytes: int = 1 << 20
) -> list[tuple[bytes | None, ...]]:
    """The rows of one statement, of `max_bytes` at most; 0 sets no bound.

    Raises:
        GatewayError: whatever went wrong with it.
    """
    statements = lease.backend.statements
    name = statements.find(text)
    frames = statements.take_closing()
    new_name = b""
    if name is None:
        name = new_name = statements.new_name(text)
        frames += encode_parse(name, text.encode())
    exchange = Exchange(max_bytes=max_bytes)
    await lease.run(
        frames + encode_bind(name, params) + EXECUTE + SYNC, exchange, timeout=ANSWER_TIMEOUT, scrub_behind=True
    )
    if exchange.parsed:
        statements.add(text, new_name)
    if (error := exchange.take_error()) is not None:
        raise error
    return [row for result in exchange.results for row in rows_of(result.rows)]
