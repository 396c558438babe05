"""A connection of the gateway's own role for the length of one command on the command line."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.errors import ConfigurationError, GatewayError
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.probe import look_once
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import DEFAULT, Targets
from sqlhttp_gateway.settings import Settings

Answer = TypeVar("Answer")


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What the work came to.

    Raises:
        ConfigurationError: Postgres, or the way to it, refuses.
    """
    try:
        return asyncio.run(work)
    except GatewayError as error:
        raise ConfigurationError(error.message if error.hint is None else f"{error.message}\n{error.hint}") from None


@asynccontextmanager
async def lease_for(settings: Settings, target: str = DEFAULT, *, database: str | None = None) -> AsyncIterator[Lease]:
    """A connection of the gateway's own role, for one command.

    Raises:
        ConfigurationError: there is no such target.
        GatewayError: Postgres refuses the gateway's own role.
    """
    upstream = Targets(settings).by_name.get(target)
    if upstream is None:
        raise ConfigurationError(f"there is no target {target!r} in the settings")
    if upstream.group is not None:
        await look_once([upstream.group])  # which of its servers takes writes
    registry = PoolRegistry(max_total=1, cancel_timeout=settings.statement.cancel_timeout, observe=unobserved)
    try:
        async with OwnAccess(registry).lease(upstream, database=database) as lease:
            yield lease
    finally:
        await registry.drain(1.0)
