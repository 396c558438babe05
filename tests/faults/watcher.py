"""Looks from outside while faults happen: how many backends there are, ten times a second."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tests.faults.grants import ROLES
from tests.faults.world import World

EVERY = 0.1
_COUNT = (
    "SELECT count(*), count(*) FILTER (WHERE usename = 'app') FROM pg_stat_activity"
    f" WHERE backend_type = 'client backend' AND (usename IN {ROLES} OR application_name = 'sqlhttp')"
)


@dataclass(slots=True)
class Seen:
    """What was seen."""

    looks: int = 0
    most: int = 0
    """Backends of the gateway, whoever's."""
    most_of_callers: int = 0


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[Seen]:
    """Look while the block runs; when Postgres is away there is nothing to see."""
    seen = Seen()
    task = asyncio.create_task(_look(world, seen))
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _look(world: World, seen: Seen) -> None:
    while True:
        try:
            connection = await world.cluster.maintenance.connect()
        except (asyncpg.PostgresError, OSError):
            await asyncio.sleep(EVERY)
            continue
        try:
            due = time.monotonic()
            while True:
                backends, callers = await connection.fetchrow(_COUNT) or (0, 0)
                seen.most, seen.most_of_callers = max(seen.most, backends), max(seen.most_of_callers, callers)
                seen.looks += 1
                due = max(due + EVERY, time.monotonic())  # what a look takes is no pause beside it; none is made up for
                await asyncio.sleep(due - time.monotonic())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            pass
        finally:
            connection.terminate()
