"""Cleaning a connection whose state is not known: after a cancel, in an open transaction, after a scrub that failed.

This costs a round trip and every prepared statement, and somebody waits for it. What cleans a connection that is only
used, in the same write as the statement, is `scrub`.
"""

import asyncio
import contextlib

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.backend import Backend


async def clean_deeply(backend: Backend, *, is_idle: bool, timeout: float) -> bool:
    """End the transaction, unless it `is_idle`, and drop the session's state and the prepared statements.

    True when Postgres confirms within `timeout` seconds; else the connection is fit for nobody.
    """
    if not backend.closing:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                # Twice, since a cancel may have reached the first.
                return await _try(backend, is_idle=is_idle) or await _try(backend, is_idle=False)
    return False


async def _try(backend: Backend, *, is_idle: bool) -> bool:
    backend.forget_statements()
    rollback, discard = scrub.Scrub(), scrub.Scrub()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(error: GatewayError | None) -> None:
        if not done.done():
            done.set_result(None)

    if is_idle:
        backend.send(scrub.DEEP, (discard, finish))
    else:
        backend.send(scrub.ROLLBACK + scrub.DEEP, (rollback, _ignore), (discard, finish))
    await done
    backend.note_parameters((*rollback.parameters, *discard.parameters))
    return discard.is_clean and not backend.closing


def _ignore(error: GatewayError | None) -> None:
    """An answer whose content does not matter."""
