"""Limits of which nobody takes the measure in passing: how many programs may be connected, how long a pause may last.

As `probes`: measured from outside, a row each.
"""

import asyncio
import contextlib
import time
from urllib.parse import urlsplit

from sqlhttp import NeonDbError, neon_async
from sqlhttp_gateway.wire.frontend import encode_query
from tests.faults.probes import Measured, full, until_waiting
from tests.faults.world import MAX_PROGRAMS, WAIT_TIMEOUT, World
from tests.support.cluster import Database
from tests.support.wire_program import SocketPipe, WireProgram

_BEYOND = 20
_FAR = 10.0
_PAUSED = 0.5
"""Seconds of the pause."""


async def programs(world: World) -> Measured:
    """How many programs more than `listen.max_connections` are let in, none of which is idle."""
    where = urlsplit(world.gateway.sql)
    writers: list[asyncio.StreamWriter] = []

    async def come() -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writers.append(writer)
        writer.write(b"POST /sql HTTP/1.1\r\n")  # and no more: it is told only that there is no place
        return reader

    try:
        first = await asyncio.gather(*(come() for _ in range(MAX_PROGRAMS)))
        last = [await come() for _ in range(_BEYOND)]
        told = await asyncio.gather(*(_told(reader) for reader in (*first, *last)))
    finally:
        for writer in writers:
            writer.transport.abort()
    turned_away = sum(each.startswith(b"HTTP/1.1 503") for each in told)
    return Measured("programs beyond listen.max_connections", len(told) - turned_away - MAX_PROGRAMS, 0)


async def pauses(world: World) -> Measured:
    """How much longer than its limit, the pause aside, a request waits that was in line before the pause."""
    console = Database(world.door.host, world.door.port, "sqlhttp")
    async with await _operator(console) as one, await _operator(console) as other, full(world):
        waiting = asyncio.create_task(_answered(world))
        await until_waiting(world, 1)
        began = time.perf_counter()
        await one.send(encode_query(b"PAUSE postgres"))
        await asyncio.sleep(_PAUSED)
        assert (await other.query("RESUME postgres")).commands == ["RESUME"]
        paused = time.perf_counter() - began
        beyond = await waiting - WAIT_TIMEOUT - paused
    return Measured("wait beyond pool.wait_timeout and a pause", beyond, 0.05)


async def _answered(world: World) -> float:
    """Seconds until a request is answered, by whatever."""
    began = time.perf_counter()
    with contextlib.suppress(NeonDbError):
        await neon_async(world.database.url, endpoint=world.gateway.sql, retry=None)("SELECT 1")
    return time.perf_counter() - began


async def _told(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_FAR):
            return await reader.readexactly(12)
    return b""


async def _operator(console: Database) -> WireProgram:
    reader, writer = await asyncio.open_connection(console.host, console.port)
    program = WireProgram(SocketPipe(reader, writer), console)
    assert (await program.log_in()).status == "I"
    return program
