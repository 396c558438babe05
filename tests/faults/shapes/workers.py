"""Two workers: beside all that happens anyway, one is killed, told to end, or frozen, and a database is paused.

The bound is one over both; a cached answer is given by neither once a write by way of the other is acknowledged; a key
for cancelling is good whichever worker it is shown to; what is paused is paused in both.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from random import Random

from tests.faults.doors import tcp
from tests.faults.episodes import EPISODES, Caller, Outcome
from tests.faults.grants import ROLES
from tests.faults.leaving import LEAVING
from tests.faults.shapes.shape import Shape
from tests.faults.troubles import OF_WORKERS, TROUBLES
from tests.faults.world import POSTGRES, Ground, World
from tests.support.cluster import running_cluster

WORKERS = 2
_CANCELLED = "57014"
_SECONDS = 20.0
"""How long a statement runs that is to be cancelled; long, beside what a cancel may take."""
_NOTHING_PAUSED = "0A000"
"""What RESUME is told by a worker that knows of no pause."""
_PATIENCE = 15.0


@contextmanager
def standing(options: Mapping[str, str]) -> Iterator[Shape]:
    """On one Postgres."""
    with running_cluster(POSTGRES | dict(options)) as cluster:
        yield Shape(
            Ground((cluster,), workers=WORKERS),
            troubles=TROUBLES | OF_WORKERS | {"freeze worker": (6, freeze_worker), "pause": (2, pause)},
            kinds=EPISODES | LEAVING | {"cancel": (3, cancel)},
        )


async def freeze_worker(world: World, luck: Random) -> None:
    """One of them stands still, as in a debugger or on a machine that swaps; what it is told meanwhile has to wait."""
    frozen = luck.choice(world.serving)
    os.kill(frozen, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.2 + luck.random())
    finally:
        with suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGCONT)


async def pause(world: World, luck: Random) -> None:
    """All databases are paused by way of one worker, and go on by way of whichever is met then.

    Once PAUSE is answered no caller has a backend, in either worker, and none comes before the RESUME.
    """
    if await _say(world, "PAUSE"):
        direct = await world.cluster.maintenance.connect()
        for _ in range(5):
            if left := await direct.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE usename IN {ROLES}"):
                world.ledger.strange.append(f"{left} backends of callers while all is paused")
                break
            await asyncio.sleep(0.1)
        direct.terminate()
    deadline = time.monotonic() + _PATIENCE
    while not await _say(world, "RESUME"):
        assert time.monotonic() < deadline, "nothing goes on"


async def _say(world: World, command: str) -> bool:
    """Whether a worker has heard it."""
    console = replace(world.cluster.database("sqlhttp"), host=world.door.host, port=world.door.port)
    try:
        async with asyncio.timeout(_PATIENCE), tcp(world, console) as program:
            if (await program.log_in()).status != "I":
                return False
            answer = await program.query(command)
    except (OSError, EOFError, TimeoutError):
        return False
    return bool(answer.commands) or answer.code == _NOTHING_PAUSED


async def cancel(caller: Caller) -> Outcome:
    """A statement that its own program cancels, over connections that either worker may get: it does not run on.

    What ends it is looked at, since a time limit says the same SQLSTATE.
    """
    try:
        async with asyncio.timeout(60), tcp(caller.world) as program:
            if (await program.log_in()).status != "I":
                return "refused"
            answering = asyncio.create_task(program.query(f"SELECT pg_sleep({_SECONDS})"))
            try:
                while not answering.done():
                    async with tcp(caller.world) as other:
                        await other.send(program.cancel_request())
                        await other.ended()
                    await asyncio.wait({answering}, timeout=1.0)  # it may have come before the statement
                answer = await answering
            finally:
                answering.cancel()
    except (OSError, EOFError, TimeoutError):
        return "refused"
    if answer.commands or "timeout" in answer.error.get("M", ""):
        caller.world.ledger.strange.append(f"{caller.tag} was not cancelled: {answer.commands or answer.error}")
    return "ok" if answer.code == _CANCELLED else "refused"
