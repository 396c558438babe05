"""Cancels that race with the end of what they are meant for, and with the next one who has the backend.

Half of the programs cancel what they run, by the wire or by hanging up, at a moment near its end; the other half never
cancel anything, on the same few backends. A cancel that comes late must find nobody: not one of the others' statements
may end with 57014, and each gets its own tag back.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from sqlhttp import NeonDbError, neon_async
from tests.faults.world import ASLEEP, World
from tests.support import watch as activity
from tests.support.wire_program import SocketPipe, WireProgram, dialled

CANCELLERS = 6
BYSTANDERS = 6
_LONGEST = 0.02
"""Seconds that a statement takes at most; the cancel comes at a moment from 0 to a little more."""
_CANCELLED = "57014"
_FULL = "53300"
"""The line before the pool is full of those who leave: nobody's statement was touched."""
_REPLACED = 5.0
"""Seconds in which a cancel has to have reached its worker, by way of one that has only just begun if need be."""
_PATIENCE = 30.0


@dataclass(slots=True)
class Race:
    """What happened."""

    sent: int = 0
    """Cancels, by the wire and by hanging up."""
    hit: int = 0
    """Those after which the statement said that it was cancelled; those by hanging up tell nobody."""
    undisturbed: int = 0
    """Statements of those who cancel nothing."""
    faults: list[str] = field(default_factory=list)


async def race(world: World, *, seed: int, seconds: float) -> Race:
    """Let them run for so many seconds."""
    told, luck, until = Race(), Random(seed), time.monotonic() + seconds
    async with asyncio.timeout(seconds + _PATIENCE), asyncio.TaskGroup() as group:
        for _ in range(CANCELLERS // 2):
            group.create_task(_cancel_by_wire(world, Random(luck.random()), told, until))
            group.create_task(_cancel_by_leaving(world, Random(luck.random()), told, until))
        for _ in range(BYSTANDERS // 2):
            group.create_task(_stand_by_wire(world, Random(luck.random()), told, until))
            group.create_task(_stand_by_http(world, Random(luck.random()), told, until))
    await neon_async(world.database.url).close()
    return told


async def _connected(world: World) -> WireProgram:
    reader, writer = await asyncio.open_connection(world.door.host, world.door.port)
    return WireProgram(SocketPipe(reader, writer), world.door)


@contextlib.asynccontextmanager
async def _logged_in(world: World, until: float) -> AsyncIterator[WireProgram]:
    """A program that has been let in; the line is as full for a log-in as for a statement, so it may have to ask again.

    An error of the test: anything else that it is told.
    """
    while True:
        async with await _connected(world) as program:
            greeting = await program.log_in()
            if greeting.code == _FULL and time.monotonic() < until:
                continue
            assert greeting.status == "I", f"a log-in was told {greeting.error or greeting.status}"
            yield program
            return


async def _cancel_by_wire(world: World, luck: Random, told: Race, until: float) -> None:
    async with _logged_in(world, until) as program:

        async def cancel(after: float) -> None:
            await asyncio.sleep(after)
            async with await _connected(world) as other:
                await other.send(program.cancel_request(program.key))
                await other.ended()  # the gateway closes it once it has passed the cancel on
            told.sent += 1

        while time.monotonic() < until:
            length = _LONGEST * luck.random()
            # A little later than the end as often as before it.
            cancelling = asyncio.create_task(cancel(2 * length * luck.random()))
            answer = await program.ask("SELECT pg_sleep($1::float8)", length)
            await cancelling
            told.hit += answer.code == _CANCELLED
            if answer.status != "I" or answer.code not in ("", _CANCELLED, _FULL):
                told.faults.append(f"one who cancels was told {answer.error or answer.status}")
                return


async def _cancel_by_leaving(world: World, luck: Random, told: Race, until: float) -> None:
    where = urlsplit(world.gateway.sql)
    while time.monotonic() < until:
        length = _LONGEST * luck.random()
        body = json.dumps({"query": f"SELECT pg_sleep({length})"}).encode()
        head = f"Host: x\r\nContent-Length: {len(body)}\r\nNeon-Connection-String: {world.database.url}"
        with contextlib.suppress(OSError):
            async with dialled(where.hostname, where.port) as (_, writer):
                writer.write(f"POST /sql HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
                # It is noticed some 20 ms after the statement began, and not before.
                await asyncio.sleep(2 * length * luck.random())
        told.sent += 1


async def _stand_by_wire(world: World, luck: Random, told: Race, until: float) -> None:
    async with _logged_in(world, until) as program:
        number = 0
        while time.monotonic() < until:
            number += 1
            tag = f"{luck.random()}-{number}"
            answer = await program.ask("SELECT $1::text FROM pg_sleep($2::float8)", tag, _LONGEST * luck.random() / 2)
            if answer.code == _FULL:
                continue
            if answer.status != "I" or answer.error or answer.rows != [[tag]]:
                told.faults.append(f"one who cancels nothing was told {answer.error or answer.rows}")
                return
            told.undisturbed += 1


async def _stand_by_http(world: World, luck: Random, told: Race, until: float) -> None:
    sql = neon_async(world.database.url, endpoint=world.gateway.sql, retry=None)
    number = 0
    while time.monotonic() < until:
        number += 1
        tag = f"{luck.random()}-{number}"
        try:
            [row] = await sql("SELECT $1::text AS tag FROM pg_sleep($2::float8)", tag, _LONGEST * luck.random() / 2)
        except NeonDbError as error:
            if error.code == _FULL:
                continue
            told.faults.append(f"one who cancels nothing was told {error}")
            return
        if row["tag"] != tag:
            told.faults.append(f"{tag} was told {row['tag']}")
        told.undisturbed += 1


async def keys_of_survivors(world: World) -> list[str]:
    """Kill one worker while programs of all run statements; what is false of the keys of those that are left."""
    async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
        programs: list[WireProgram] = []
        while len({_worker(program, world) for program in programs}) < world.workers or len(programs) < world.pool:
            program = await stack.enter_async_context(await _connected(world))
            greeting = await program.log_in()
            assert greeting.status == "I", greeting.error
            if sum(_worker(each, world) == _worker(program, world) for each in programs) < world.pool // world.workers:
                programs.append(program)  # one more would wait for a backend
        answers = [group.create_task(program.query("SELECT pg_sleep(30)")) for program in programs]
        beside = await stack.enter_async_context(activity.watching(world.cluster.maintenance))
        await beside.until(len(programs), ASLEEP)
        victim, *_ = world.serving  # in the order in which they were made, and so of their numbers
        os.kill(victim, signal.SIGKILL)
        # What it accepts in its last moment is lost, as it may be: its memory goes before what it listens on does.
        while await asyncio.to_thread(Path(f"/proc/{victim}").exists):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        faults = []
        for program, answer in zip(programs, answers, strict=True):
            if _worker(program, world) == 0:
                continue
            began = time.monotonic()
            while not answer.done() and time.monotonic() - began < _REPLACED:
                # Any worker may get it, also the one that has just taken the dead one's place.
                async with await _connected(world) as other:
                    await other.send(program.cancel_request(program.key))
                    await other.ended()
                await asyncio.wait({answer}, timeout=1.0)  # a cancel that Postgres does not take in time may be lost
            code, took = (await answer).code, time.monotonic() - began
            if code != _CANCELLED or took > _REPLACED:
                faults.append(f"a statement ended with {code or 'nothing'} {took:.2f} s after its cancel")
        return faults


def _worker(program: WireProgram, world: World) -> int:
    """The number of the worker whose cancel key this is."""
    return int.from_bytes(program.key[:4]) % world.workers
