"""The loader's callers by asyncpg, without any gateway."""

import itertools
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from tests.bench.tally import Call, Tally, repeat

POOL_SIZE = 10  # as the gateway's default


class Direct:
    """asyncpg without any gateway. Pools and connections are kept from one order to the next."""

    def __init__(self, kept: AsyncExitStack) -> None:
        self._kept = kept
        self._pools: dict[str, Any] = {}
        self._single: dict[tuple[str, bool], list[Any]] = {}

    async def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """`how`: pool; single, a connection for each caller; text, the same with text for results; fresh, a connection
        for each call; pooler, the same to PgBouncer."""
        callers = order["connections"]
        call = await self._call(order, callers)
        tally = Tally(order["seconds"], order["most"])
        await repeat(call, callers, tally)
        return tally.summary()

    async def _call(self, order: dict[str, Any], callers: int) -> Call:
        url, batch = order["url"], order["batch"]
        statement: str = order["statement"]
        arguments = itertools.cycle(order["arguments"])

        async def ask(connection: Any) -> None:
            if batch:
                async with connection.transaction():
                    for _ in range(batch):
                        await connection.fetch(statement, *next(arguments))
            else:
                await connection.fetch(statement, *next(arguments))

        match order["how"]:
            case "pool":
                pool = await self._pool(url)

                async def call() -> None:
                    async with pool.acquire() as connection:
                        await ask(connection)

            case "single" | "text":
                free = await self._connections(url, callers, as_text=order["how"] == "text")

                async def call() -> None:
                    connection = free.pop()
                    try:
                        await ask(connection)
                    finally:
                        free.append(connection)

            case "fresh" | "pooler":
                # A transaction pooler may run the next statement elsewhere, where no prepared one is known.
                cache_size = 0 if order["how"] == "pooler" else 100

                async def call() -> None:
                    connection = await asyncpg.connect(url, ssl=False, statement_cache_size=cache_size)
                    try:
                        await ask(connection)
                    finally:
                        await connection.close()

            case how:
                raise ValueError(how)
        return call

    async def _pool(self, url: str) -> Any:
        if url not in self._pools:
            self._pools[url] = await self._kept.enter_async_context(
                asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE, ssl=False)
            )
        return self._pools[url]

    async def _connections(self, url: str, count: int, *, as_text: bool) -> list[Any]:
        kept = self._single.setdefault((url, as_text), [])
        while len(kept) < count:
            connection = await asyncpg.connect(url, ssl=False)
            if as_text:
                await decode_as_text(connection)
            self._kept.push_async_callback(connection.close)
            kept.append(connection)
        return kept[:count]


async def decode_as_text(connection: Any) -> None:
    """Let asyncpg hand out Postgres's own text for every type."""
    # The public set_builtin_type_codec refuses arrays, although its C code reads their text like any other.
    settings = connection._protocol.get_settings()
    for oid, name in await connection.fetch("SELECT oid, typname::text FROM pg_type WHERE typtype = 'b'"):
        settings.set_builtin_type_codec(oid, name, "pg_catalog", "scalar", "text", "text")
