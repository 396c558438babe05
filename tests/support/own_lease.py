"""A lease of the gateway's own role on a test's database, without a gateway around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import Settings
from tests.support.cluster import Database


def targets_of(database: Database) -> Targets:
    """The targets of a gateway whose default this database is."""
    return Targets(Settings(database_url=SecretStr(database.url)))


@asynccontextmanager
async def running_registry() -> AsyncIterator[PoolRegistry]:
    """Pools for the length of the block."""
    registry = PoolRegistry(max_total=4, cancel_timeout=5.0, observe=unobserved)
    try:
        yield registry
    finally:
        await registry.drain(5.0)


@asynccontextmanager
async def own_lease(database: Database) -> AsyncIterator[Lease]:
    """A lease for the length of the block."""
    async with running_registry() as registry, OwnAccess(registry).lease(targets_of(database).default) as lease:
        yield lease
