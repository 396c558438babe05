"""The suite's own source of load, a process that stays: `python -m tests.bench.loader`.

It takes one order a line on stdin and answers one line on stdout, both JSON; the end of stdin ends it. Orders:

{"do": "http", "port", "requests": […], "connections", "seconds", "most", "keep_alive"}
{"do": "direct", "how", "url", "statement", "arguments": […], "batch", "connections", "seconds", "most"}

`most` bounds the calls. Every caller waits for its answer before it asks again, so nothing is under way at the end.
"""

import asyncio
import itertools
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from tests.bench.measure import percentile

POOL_SIZE = 10
_CALL_TIMEOUT = 30.0  # seconds
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)

Call = Callable[[], Awaitable[None]]


class Tally:
    """What the callers of one order have seen so far, and whether they go on."""

    def __init__(self, seconds: float, most: int) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.fault = ""
        self._left = most
        self._began = time.perf_counter()
        self._end = self._began + seconds
        self._cpu = time.process_time()

    def may_begin(self) -> bool:
        """Whether one more call may be made; counts it."""
        if self._left <= 0 or time.perf_counter() >= self._end:
            return False
        self._left -= 1
        return True

    def note_error(self, text: str) -> None:
        self.errors += 1
        self.fault = self.fault or text

    def summary(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "seconds": seconds,
            "errors": self.errors,
            "fault": self.fault,
            "p50": percentile(ordered, 50) * 1e6 if ordered else None,
            "p99": percentile(ordered, 99) * 1e6 if ordered else None,
            "client_cpu": cpu / len(ordered) * 1e6 if ordered else None,
        }


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Caller(asyncio.Protocol):
    """One HTTP connection that sends, waits for the whole answer, and sends again."""

    def __init__(self, tally: Tally, requests: Iterator[bytes], *, once: bool = False) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._requests = requests
        self._once = once
        self._began = time.perf_counter()
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end + 2)
            if length is None:
                self._fail("an answer without Content-Length")
                return
            self._missing = end + 4 + int(length[1]) - len(self._head)
            if not self._head.startswith(b"HTTP/1.1 200 "):
                self._tally.note_error(self._head[:2000].decode("latin-1"))
        if self._missing > 0:
            return
        self._missing = 0
        self._head = b""
        self._tally.latencies.append(time.perf_counter() - self._began)
        if self._once:
            self._transport.close()
        else:
            self._began = time.perf_counter()
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            if self._head or self._missing:
                self._tally.note_error(f"the connection was lost: {error}")
            self.done.set_result(None)

    def _next(self) -> None:
        if self._once or self._tally.may_begin():
            self._transport.write(next(self._requests))
        else:
            self._transport.close()

    def _fail(self, text: str) -> None:
        self._tally.note_error(text)
        self._transport.abort()


async def http(order: dict[str, Any]) -> dict[str, Any]:
    """Keep-alive connections, or with `keep_alive` false a new connection for each request."""
    loop = asyncio.get_running_loop()
    requests = itertools.cycle(request.encode("latin-1") for request in order["requests"])
    tally = Tally(order["seconds"], order["most"])

    async def keep_alive() -> None:
        _, caller = await loop.create_connection(lambda: Caller(tally, requests), "127.0.0.1", order["port"])
        await caller.done

    async def anew() -> None:
        _, caller = await loop.create_connection(lambda: Caller(tally, requests, once=True), "127.0.0.1", order["port"])
        await caller.done

    if order["keep_alive"]:
        await asyncio.gather(*(keep_alive() for _ in range(order["connections"])))
    else:
        await _repeat(anew, order["connections"], tally, timed=False)
    return tally.summary()


async def _repeat(call: Call, callers: int, tally: Tally, *, timed: bool = True) -> None:
    """`callers` tasks that call until the tally ends them; `timed` calls are noted here, others note themselves."""

    async def caller() -> None:
        while tally.may_begin():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(_CALL_TIMEOUT):
                    await call()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                tally.note_error(f"{type(error).__name__}: {error}")
            else:
                if timed:
                    tally.latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))


# ── asyncpg ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Direct:
    """asyncpg without any gateway. Pools and connections are kept from one order to the next."""

    def __init__(self, kept: AsyncExitStack) -> None:
        self._kept = kept
        self._pools: dict[str, Any] = {}
        self._single: dict[str, list[Any]] = {}

    async def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """`how`: pool; single, a connection for each caller; fresh, one for each call; pooler, that to PgBouncer."""
        callers = order["connections"]
        call = await self._call(order, callers)
        tally = Tally(order["seconds"], order["most"])
        await _repeat(call, callers, tally)
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

            case "single":
                free = await self._connections(url, callers)

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

    async def _connections(self, url: str, count: int) -> list[Any]:
        kept = self._single.setdefault(url, [])
        while len(kept) < count:
            connection = await asyncpg.connect(url, ssl=False)
            self._kept.push_async_callback(connection.close)
            kept.append(connection)
        return kept[:count]


async def main() -> None:
    """Serve orders until stdin ends."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as kept:
        direct = Direct(kept)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            async with asyncio.timeout(order["seconds"] + _CALL_TIMEOUT):
                summary = await (http(order) if order["do"] == "http" else direct.run(order))
            print(json.dumps(summary), flush=True)


def run() -> None:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())


if __name__ == "__main__":
    run()
