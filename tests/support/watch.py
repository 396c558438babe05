"""A look at pg_stat_activity beside the gateway: how many backends there are, and what they do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.support.cluster import Database

EVERY = 0.002  # seconds
DEADLINE = 20.0  # seconds


@dataclass(slots=True)
class Seen:
    """What was seen while a block ran."""

    most: int = 0
    looks: int = 0
    history: list[int] = field(default_factory=list)


class Watch:
    """Counts the backends of one database, all but its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def backends(self, condition: str = "true") -> int:
        """How many backends there are now that meet a condition on pg_stat_activity."""
        async with self._lock:
            count = await self._connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                f"AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND ({condition})"
            )
        return int(count)

    async def value(self, sql: str) -> Any:
        """The one value of a question beside the gateway."""
        async with self._lock:
            return await self._connection.fetchval(sql)

    async def run(self, sql: str) -> None:
        """Run something beside the gateway."""
        async with self._lock:
            await self._connection.execute(sql)

    async def until(self, count: int, condition: str = "true") -> None:
        """Wait until so many meet the condition."""
        async with asyncio.timeout(DEADLINE):
            while await self.backends(condition) != count:  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(EVERY)

    @asynccontextmanager
    async def counting(self, condition: str = "true") -> AsyncIterator[Seen]:
        """Look again and again while the block runs."""
        seen = Seen()

        async def look() -> None:
            while True:
                count = await self.backends(condition)
                seen.most = max(seen.most, count)
                seen.looks += 1
                await asyncio.sleep(EVERY)

        looking = asyncio.create_task(look())
        try:
            yield seen
        finally:
            looking.cancel()
            await asyncio.wait({looking})


@asynccontextmanager
async def watching(database: Database) -> AsyncIterator[Watch]:
    """A watch for the length of the block."""
    connection = await database.connect()
    try:
        yield Watch(connection)
    finally:
        await connection.close()
