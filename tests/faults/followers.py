"""Who comes after whom: what one leaves a backend in for the next, and what is run once more when its backend ends.

As `probes`: measured from outside, a row each.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import asyncpg

from sqlhttp import NeonDbError, neon
from tests.faults.probes import Measured
from tests.faults.world import POOL, World
from tests.support.wire_program import SocketPipe, WireProgram

_FOR = 3.0
_FAR = 30.0
_PROGRAMS = 3 * POOL
_MEET = "SELECT coalesce(current_setting('app.tag', true), ''), 'nothing'"
"""What is there of others."""
_LEAVE = "SELECT coalesce(current_setting('app.tag', true), ''), leave_prepared()"
"""The same, and what the light scrub cannot undo and no command tag tells: see `world.prepare`."""
_LEAVE_EVERY = 4
"""After a deep scrub a backend has first to be taught the light one, which does not go ahead of anything then."""
_COUNT = "SELECT nextval('ended')::text AS number, pg_sleep($1::float8)::text"
"""A number is taken for good, whatever becomes of the transaction."""
_END = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


async def hand_overs(world: World) -> Measured:
    """How many programs met what the last one left, of a crowd that hands backends over as fast as it can."""
    met = taken = 0
    until = time.monotonic() + _FOR

    async def come_and_go() -> None:
        nonlocal met, taken
        reader, writer = await asyncio.open_connection(world.door.host, world.door.port)
        async with WireProgram(SocketPipe(reader, writer), world.door) as program:
            assert (await program.log_in()).status == "I"
            while time.monotonic() < until:
                taken += 1
                leaves = taken % _LEAVE_EVERY == 0
                # A text that nobody has seen, of which the scrub has to find out whether it left anything.
                answer = await program.ask(f"{_LEAVE if leaves else _MEET} -- {taken}")
                met += answer.rows != [["", "theirs" if leaves else "nothing"]]

    await asyncio.gather(*(come_and_go() for _ in range(_PROGRAMS)))
    assert taken > _PROGRAMS, "no backend went from one to the next"
    return Measured("programs that met what another left", met, 0)


async def run_again(world: World) -> Measured:
    """How many statements ran twice whose backend was ended in the middle, alone and in a batch, quick and not."""
    connection = await world.cluster.maintenance.connect()
    sql = neon(world.database.url, endpoint=world.gateway.sql, retry=None)
    sent = 0

    def alone(seconds: float) -> None:
        sql(_COUNT, seconds)

    def together(seconds: float) -> None:
        sql.transaction([sql.q(_COUNT, seconds), sql.q("SELECT 1")])

    try:
        await connection.execute("SELECT setval('ended', 1, false)")
        for send in (alone, together):
            for seconds in (0.0, 0.0, _FAR):  # what comes for the third time is foreseen
                calls = [asyncio.create_task(asyncio.to_thread(_quietly, send, seconds)) for _ in range(POOL)]
                sent += len(calls)
                await _end(connection, calls)
        again = await connection.fetchval("SELECT nextval('ended')") - 1 - sent
    finally:
        await connection.close()
        sql.close()
    return Measured("statements run again whose backend was ended", again, 0)


def _quietly(send: Callable[[float], None], seconds: float) -> None:
    with contextlib.suppress(NeonDbError):
        send(seconds)


async def _end(connection: "asyncpg.Connection[asyncpg.Record]", calls: "list[asyncio.Task[None]]") -> None:
    """End every backend that sleeps until all have their answers."""
    async with asyncio.timeout(_FAR):
        while not all(call.done() for call in calls):
            await connection.fetchval(_END)
            await asyncio.wait(calls, timeout=0.05)
    await asyncio.gather(*calls)
