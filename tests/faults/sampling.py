"""What the gateway holds and how quick it is, looked at from outside once a second. Nothing here judges.

Beside the looks goes a steady probe: ten times a second one statement through the gateway on a kept connection, and the
same statement on a connection of our own that goes past it, so that a slow machine can be told from a slow gateway.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import asyncpg
import httpx

from tests.faults.doors import head
from tests.faults.grants import ROLES
from tests.faults.world import World
from tests.support.processes import cpu_seconds, open_connections, threads

EVERY = 1.0
PROBE_EVERY = 0.1
PROBE_TIMEOUT = 10.0
"""Seconds after which a probe that is not answered counts as a failure."""
_BODY = b'{"query":"SELECT 1 AS one"}'
_COUNT = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    f" AND (usename IN {ROLES} OR application_name = 'sqlhttp')"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One second. Latencies are in milliseconds; None where nothing was there to measure, as while Postgres is away."""

    at: float
    """Seconds since the beginning."""
    memory: float
    """MiB."""
    descriptors: int
    callers: int
    """Of these, connections of callers who are there still: their number is the callers' doing."""
    threads: int
    cpu: float
    """Seconds of CPU time that the gateway used in this second."""
    leased: int | None
    """Permits in use: connections that somebody has."""
    waiting: int | None
    backends: int | None
    """As Postgres counts them."""
    requests: int
    """Answered in this second, by way of HTTP."""
    errors: dict[str, int]
    """Of these, how many ended otherwise than `ok`, by how they ended."""
    p50: float | None
    p99: float | None
    direct: float | None
    """The probe's p50 past the gateway."""
    failed: int
    """Probes that were refused or not answered."""


@dataclass(slots=True)
class _Probes:
    """Of the second that runs."""

    through: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    failed: int = 0


@asynccontextmanager
async def sampling(world: World) -> AsyncIterator[list[Sample]]:
    """Look while the block runs; the list grows."""
    samples: list[Sample] = []
    probes = _Probes()
    began = time.monotonic()
    tasks = [
        asyncio.create_task(_sample(world, samples, probes, began)),
        asyncio.create_task(_probe_through(world, probes)),
        asyncio.create_task(_probe_direct(world, probes)),
    ]
    try:
        yield samples
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise AssertionError("the samples ended before their time") from end


async def _sample(world: World, samples: list[Sample], probes: _Probes, began: float) -> None:
    cpu, counts = _cpu(world), {}
    with _Counting(world) as count:
        async with httpx.AsyncClient(timeout=5, verify=world.tls or True) as http:
            for number in itertools.count(1):
                await asyncio.sleep(max(0.0, began + number * EVERY - time.monotonic()))
                status = await _status(world, http)
                before_cpu, cpu = cpu, _cpu(world)
                before, counts = counts, status.get("requests", counts)
                ended = {name: more for name, total in counts.items() if (more := total - before.get(name, 0))}
                through, direct = sorted(probes.through), sorted(probes.direct)
                pools = status.get("pools")
                samples.append(
                    Sample(
                        at=round(time.monotonic() - began, 2),
                        memory=round(world.memory() / 2**20, 2),
                        descriptors=world.descriptors(),
                        callers=open_connections(*(each.port for each in world.gateways), world.door.port),
                        threads=sum(threads(pid) for pid in world.serving),
                        cpu=round(_more(before_cpu, cpu), 2),
                        leased=None if pools is None else sum(pool["leased"] for pool in pools),
                        waiting=None if pools is None else sum(pool["waiting"] for pool in pools),
                        backends=await count.now(),
                        requests=sum(ended.values()),
                        errors={name: more for name, more in ended.items() if name != "ok"},
                        p50=_at(through, 0.5),
                        p99=_at(through, 0.99),
                        direct=_at(direct, 0.5),
                        failed=probes.failed,
                    )
                )
                probes.through, probes.direct, probes.failed = [], [], 0


async def _status(world: World, http: httpx.AsyncClient) -> dict[str, Any]:
    try:
        found: dict[str, Any] = (await http.get(f"{world.gateway.url}/status")).json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return {}
    return found


def _cpu(world: World) -> dict[int, float]:
    """Seconds of CPU time of each process that serves."""
    return {pid: cpu_seconds(pid) for pid in world.serving}


def _more(before: dict[int, float], now: dict[int, float]) -> float:
    """What was used in between, by those that are there now."""
    return sum(used - before.get(pid, 0.0) for pid, used in now.items())


def _at(ordered: list[float], part: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 3) if ordered else None


class _Counting:
    """A connection that is made again when it has gone; for use in a `with` block."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._connection: Any = None

    async def now(self) -> int | None:
        """How many backends the gateway has; None while Postgres does not tell."""
        try:
            if self._connection is None:
                self._connection = await self._world.cluster.maintenance.connect()
            found: int = await self._connection.fetchval(_COUNT, timeout=2)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            self._end()
            return None
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None


async def _probe_through(world: World, probes: _Probes) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        async for _ in _ticks():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port, ssl=world.tls)
                    writer.write(head(world, len(_BODY)) + _BODY)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                    await reader.readexactly(length)
            except (OSError, EOFError, TimeoutError):
                probes.failed += 1
                if writer is not None:
                    writer.transport.abort()
                reader = writer = None
                continue
            if answer.startswith(b"HTTP/1.1 200"):
                probes.through.append(time.perf_counter() - began)
            else:
                probes.failed += 1
    finally:
        if writer is not None:
            writer.transport.abort()


async def _probe_direct(world: World, probes: _Probes) -> None:
    connection: Any = None
    try:
        async for _ in _ticks():
            try:
                if connection is None:
                    connection = await world.cluster.database("postgres").connect()
                began = time.perf_counter()
                await connection.fetch("SELECT 1 AS one", timeout=PROBE_TIMEOUT)
                probes.direct.append(time.perf_counter() - began)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
                if connection is not None:
                    connection.terminate()
                connection = None
    finally:
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()


async def _ticks() -> AsyncIterator[int]:
    """Moments `PROBE_EVERY` apart; those that were missed are left out."""
    due = time.monotonic()
    for number in itertools.count():
        due = max(due + PROBE_EVERY, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        yield number
