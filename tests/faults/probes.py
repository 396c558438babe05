"""How long things take that have a limit: measured from outside, a row each for the table of the long form."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import asyncpg
import httpx
from websockets.exceptions import WebSocketException

from sqlhttp import NeonDbError, neon_async
from sqlhttp_gateway.wire.frontend import encode_query
from tests.faults.world import ASLEEP, MAX_WAITING, POOL, WAIT_TIMEOUT, World
from tests.support.bad_network import Fault, Kind, Way
from tests.support.program import Program
from tests.support.sockets import begin
from tests.support.wire_program import WireProgram, connected, logged_in

_SLEEP = "SELECT pg_sleep(30)"
_FAR = 30.0
_CUT = 20
_CUTTING_FOR = 10.0
"""So many answers are cut, or as many as there are in so many seconds."""
_LINE = 12
"""Requests that wait, one behind the other."""
_LINES = 5
"""Such lines at most, on a machine so busy that those who stand in one are told to go before it is long enough."""
_OVERFLOWS = 10
"""Requests, one after the other, for which there is no place in the line."""
_OUTAGES = 3
_CANCELLED = "57014"
_NO_PLACE = "53300"
"""What is told who gets no connection, or no place in the line for one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: the worst of what was measured, in seconds, and what it may be."""

    what: str
    worst: float
    limit: float

    @property
    def is_kept(self) -> bool:
        return self.worst <= self.limit


async def probe(world: World) -> list[Measured]:
    """All of these rows, one after the other."""
    return [
        await waits(world),
        await waits_of_tunnels(world),
        await overflow(world),
        await order(world),
        await abort(world),
        await cancels(world),
        await answers(world),
        await cut_answers(world),
        await recovery(world),
    ]


async def waits(world: World) -> Measured:
    """How much longer than its limit a request waits for a connection that does not come."""
    async with full(world):
        times = await asyncio.gather(*(refused(world) for _ in range(10)))
    return Measured("wait beyond pool.wait_timeout", max(times) - WAIT_TIMEOUT, 0.05)


async def waits_of_tunnels(world: World) -> Measured:
    """The same of a statement over a WebSocket."""
    async with AsyncExitStack() as stack:
        programs = [await stack.enter_async_context(logged_in(world.gateway, world.database)) for _ in range(10)]
        async with full(world):
            times = await asyncio.gather(*(_refused_over_the_wire(program) for program in programs))
    return Measured("wait beyond pool.wait_timeout in a tunnel", max(times) - WAIT_TIMEOUT, 0.05)


async def overflow(world: World) -> Measured:
    """How long the one too many waits for its refusal."""
    async with full(world):
        program = _program(world)
        queue = [await begin(program, {"query": "SELECT 1"}) for _ in range(MAX_WAITING)]
        await until_waiting(world, MAX_WAITING)
        times = [await refused(world) for _ in range(_OVERFLOWS)]
        for request in queue:
            await request.hang_up()
    return Measured("refusal with a full queue", max(times), 0.01)


async def order(world: World) -> Measured:
    """How many requests were not begun in their turn.

    Each comes when the one before it is in line, and one connection serves them all, so that there is one order.
    """
    moments: list[float] = []
    for _ in range(_LINES):
        moments = await _begun(world)
        if len(moments) > 2:
            break
    else:
        raise AssertionError("nobody stood in line")
    begun = sorted(range(len(moments)), key=lambda number: moments[number])
    inversions = sum(place != number for place, number in enumerate(begun))
    return Measured("requests begun out of turn", inversions, 0)


async def _begun(world: World) -> list[float]:
    """When requests of a line were begun, in the order in which they came; those that waited too long are left out."""
    statement = {"query": "SELECT extract(epoch FROM clock_timestamp())::text"}
    requests = []
    async with full(world) as busy:
        until = time.monotonic() + WAIT_TIMEOUT / 2
        for number in range(_LINE):
            requests.append(await begin(_program(world), statement))
            # Where it cannot be seen in line in time it is the last of them, and their order is known all the same.
            if not await _stand(world, number + 1, until):
                break
        busy[0].cancel()
        answers = await asyncio.gather(*(request.answer() for request in requests))
    return [float(answer.json()["rows"][0][0]) for answer in answers if answer.status == 200]


async def abort(world: World) -> Measured:
    """How long a statement runs on whose caller has gone."""
    connection = await world.cluster.maintenance.connect()
    program = _program(world)
    times = []
    for number in range(10):
        request = await begin(program, {"query": _SLEEP}, kept=bool(number % 2))
        await _sleeping(connection, 1)
        gone = time.perf_counter()
        await request.hang_up()
        with contextlib.suppress(TimeoutError):  # it runs to its end
            await _sleeping(connection, 0)
        times.append(time.perf_counter() - gone)
    await connection.close()
    return Measured("statement after its caller has gone", max(times), 1.0)


async def cancels(world: World) -> Measured:
    """How many statements were cancelled by somebody else's cancel, of those that came right behind one."""
    cancelled, _ = await _behind_others(world)
    return Measured("statements cancelled by somebody else's cancel", cancelled, 0)


async def answers(world: World) -> Measured:
    """How many statements got an answer that was meant for somebody who has gone."""
    _, foreign = await _behind_others(world)
    return Measured("answers that were somebody else's", foreign, 0)


async def _behind_others(world: World) -> tuple[int, int]:
    """Statements behind those of others: how many were cancelled, and how many got an answer to something else.

    Programs go away, and programs cancel, at about the moment when what they asked for is over by itself.
    """
    stop = asyncio.Event()
    cancelled = foreign = 0
    luck = Random(1)

    async def go_away() -> None:
        program = _program(world)
        while not stop.is_set():
            asked = {"query": "SELECT 'gone' AS mine, pg_sleep(0.02)::text"}
            request = await begin(program, asked, kept=luck.random() < 0.5)
            await asyncio.sleep(0.04 * luck.random())
            await request.hang_up()

    async def cancel() -> None:
        nonlocal foreign
        try:
            async with logged_in(world.gateway, world.database) as program:
                while not stop.is_set():
                    await program.send(encode_query(b"SELECT pg_sleep(0.02)"))
                    await asyncio.sleep(0.04 * luck.random())
                    async with connected(world.gateway, world.database) as canceller:
                        await canceller.send(program.cancel_request())
                        await canceller.ended()
                    await program.answer()
        except WebSocketException:  # the gateway ends a tunnel whose backend says what nobody asked
            foreign += 1

    async def suffer() -> None:
        nonlocal cancelled, foreign
        sql = _client(world)
        for number in itertools.count():
            if stop.is_set():
                return
            try:
                rows = await sql("SELECT $1::text AS mine, pg_sleep(0.01)::text", str(number))
            except NeonDbError as error:
                cancelled += error.code == _CANCELLED
                continue
            foreign += [row.get("mine") for row in rows] != [str(number)]

    tasks = [asyncio.create_task(work()) for work in (go_away, go_away, go_away, cancel, suffer, suffer, suffer)]
    await asyncio.sleep(3)
    stop.set()
    await asyncio.gather(*tasks)
    return cancelled, foreign


async def cut_answers(world: World) -> Measured:
    """How many writes are there twice, of those whose answer was cut on its way to the gateway, at any byte.

    Each connection to Postgres ends in the middle of what Postgres says, behind its log-in.
    """
    luck = Random(2)
    stop = asyncio.Event()
    numbers = itertools.count()
    cut = 0

    async def write() -> None:
        nonlocal cut
        sql = _client(world)
        while not stop.is_set():
            try:
                await sql("INSERT INTO written (tag) VALUES ($1)", f"cut-{next(numbers)}")
            except NeonDbError as error:
                cut += error.may_have_run

    world.network.plan = lambda number: Fault(Kind.RESET, Way.TO_CLIENT, luck.randrange(1500, 3500))
    world.network.cut_all()
    try:
        writing = [asyncio.create_task(write()) for _ in range(6)]
        until = time.monotonic() + _CUTTING_FOR
        while cut < _CUT and time.monotonic() < until:  # noqa: ASYNC110 - until enough callers were told
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*writing)
    finally:
        world.network.plan = lambda number: Fault()
        world.network.cut_all()
    connection = await world.cluster.maintenance.connect()
    counts = await connection.fetch("SELECT count(*) FROM written WHERE tag LIKE 'cut-%' GROUP BY tag")
    await connection.execute("DELETE FROM written WHERE tag LIKE 'cut-%'")
    await connection.close()
    twice = sum(count > 1 for [count] in counts)
    assert cut or twice, "no answer was cut"
    return Measured("writes there twice whose answer was cut", twice, 0)


async def recovery(world: World) -> Measured:
    """How long after Postgres accepts connections again the first request succeeds; the worst of some outages."""
    return Measured("first success after Postgres is back", max([await _back(world) for _ in range(_OUTAGES)]), 1.0)


async def _back(world: World) -> float:
    sql = _client(world)
    stop = asyncio.Event()
    answered: list[float] = []

    async def ask() -> None:
        while not stop.is_set():
            with contextlib.suppress(NeonDbError):
                await sql("SELECT 1")
                answered.append(time.perf_counter())
            await asyncio.sleep(0.01)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    await asyncio.to_thread(world.cluster.stop)
    await asyncio.sleep(3)
    starting = asyncio.create_task(asyncio.to_thread(world.cluster.start))
    accepts = await _accepting(world)
    answered.clear()
    while not answered:  # noqa: ASYNC110 - until the first success
        await asyncio.sleep(0.005)
    await starting
    stop.set()
    await asyncio.gather(*asking)
    return answered[0] - accepts


def _program(world: World) -> Program:
    return Program(None, world.gateway.sql, world.database.url)  # type: ignore[arg-type]  # nothing is posted by it


def _client(world: World) -> Any:
    return neon_async(world.database.url, endpoint=world.gateway.sql, retry=None)


async def refused(world: World) -> float:
    """Seconds from a request to its refusal, without what a driver does around it."""
    request = await begin(_program(world), {"query": "SELECT 1"})
    began = time.perf_counter()
    answer = await request.response()
    seconds = time.perf_counter() - began
    await request.hang_up()
    assert answer.json()["code"] == _NO_PLACE, answer
    return seconds


async def _refused_over_the_wire(program: WireProgram) -> float:
    began = time.perf_counter()
    answer = await program.query("SELECT 1")
    assert answer.code == _NO_PLACE, answer.messages
    return time.perf_counter() - began


@asynccontextmanager
async def full(world: World) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Every connection of the pool is busy while the block runs, with one of these tasks."""
    await until_waiting(world, 0)  # whoever has just hung up may still be in line
    sql = _client(world)
    busy = [asyncio.create_task(sql(_SLEEP)) for _ in range(POOL)]
    connection = await world.cluster.maintenance.connect()
    await _sleeping(connection, POOL)
    try:
        yield busy
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await connection.close()


async def _sleeping(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    """As `Watch.until`, within another limit: some are awaited in vain."""
    async with asyncio.timeout(_FAR):
        while True:
            found = await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {ASLEEP}")
            if found == count:
                return
            await asyncio.sleep(0.002)


async def until_waiting(world: World, count: int) -> None:
    """Return when so many requests stand in line, or more; for 0, when none does."""
    assert await _stand(world, count, time.monotonic() + _FAR), f"not {count} in line"


async def _stand(world: World, count: int, until: float) -> bool:
    """The same, or False when the moment `until` has come before."""
    async with httpx.AsyncClient(timeout=_FAR) as http:
        while time.monotonic() < until:
            text = (await http.get(f"{world.gateway.url}/status")).json()
            waiting = sum(pool["waiting"] for pool in text["pools"])
            if waiting >= count > 0 or waiting == count:
                return True
            await asyncio.sleep(0.01)
    return False


async def _accepting(world: World) -> float:
    async with asyncio.timeout(_FAR):
        while True:
            try:
                connection = await world.cluster.maintenance.connect()
            except (asyncpg.PostgresError, OSError):
                await asyncio.sleep(0.005)
                continue
            connection.terminate()
            return time.perf_counter()
