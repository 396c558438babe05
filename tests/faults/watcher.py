"""Looks from outside while faults happen: how many backends there are, ten times a second."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from tests.faults.grants import ROLES
from tests.faults.world import World
from tests.support.cluster import Cluster

EVERY = 0.1
_COUNT = (
    "SELECT count(*), count(*) FILTER (WHERE usename = 'app'), count(*) FILTER (WHERE NOT ssl)"
    " FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
    f" WHERE backend_type = 'client backend' AND (usename IN {ROLES} OR application_name = 'sqlhttp')"
)


@dataclass(slots=True)
class Seen:
    """What was seen."""

    looks: int = 0
    most: int = 0
    """Backends of the gateways on all servers together, whoever's."""
    most_of_callers: int = 0
    """On one server."""
    faults: list[str] = field(default_factory=list)
    """What was not as it has to be."""
    _now: dict[int, int] = field(default_factory=dict)
    """Backends by server, as they were counted last."""

    def count(self, server: int, backends: int, of_callers: int) -> None:
        """These are there now, on one server."""
        self._now[server] = backends
        self.most = max(self.most, sum(self._now.values()))
        self.most_of_callers = max(self.most_of_callers, of_callers)
        self.looks += 1


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[Seen]:
    """Look while the block runs; when a server is away there is nothing to see of it."""
    seen = Seen()
    tasks = [
        asyncio.create_task(_look(cluster, number, seen, encrypts=world.ground.encrypts))
        for number, cluster in enumerate(world.ground.clusters)
    ]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(cluster: Cluster, number: int, seen: Seen, *, encrypts: bool) -> None:
    while True:
        try:
            connection = await cluster.maintenance.connect()
        except (asyncpg.PostgresError, OSError):
            seen.count(number, 0, 0)
            await asyncio.sleep(EVERY)
            continue
        try:
            due = time.monotonic()
            while True:
                backends, of_callers, in_clear = await connection.fetchrow(_COUNT) or (0, 0, 0)
                seen.count(number, backends, of_callers)
                if encrypts and in_clear and not seen.faults:
                    seen.faults.append(f"{in_clear} backends without TLS")
                due = max(due + EVERY, time.monotonic())  # what a look takes is no pause beside it; none is made up for
                await asyncio.sleep(due - time.monotonic())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            pass
        finally:
            connection.terminate()
