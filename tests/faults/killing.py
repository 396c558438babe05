"""Exactly once, proven: the gateway is killed again and again in the middle of writes that carry keys.

Callers send each write until it is answered. Afterwards each must be there once, whatever the gateway was at when it
died: before the write, in it, at its COMMIT, between COMMIT and answer, or with half of the answer sent.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from random import Random

from sqlhttp import NeonDbError, neon_async
from tests.faults.episodes import INSERT
from tests.faults.world import VARIABLE, World, environment
from tests.support.gateway import free_port

CALLERS = 24
_ALIVE = (0.0, 0.15)
"""Seconds between a gateway's first answer and its end."""
_STARTS_WITHIN = 60.0
_ANSWERED_WITHIN = 30.0
"""Seconds in which the last gateway has to answer what is left."""


@dataclass(slots=True)
class Killing:
    """What happened."""

    kills: int = 0
    writes: int = 0
    interrupted: int = 0
    """Attempts that were sent whole and got no whole answer."""
    unanswered: int = 0
    """Writes that got no answer from the last gateway, which nobody kills."""


async def kill_again_and_again(world: World, *, seed: int, seconds: float) -> Killing:
    """Do so for so many seconds with gateways of its own."""
    told = Killing()
    luck = Random(seed)
    stopping = asyncio.Event()
    numbers = itertools.count()
    port = free_port()

    async def call() -> None:
        endpoint = f"http://127.0.0.1:{port}/sql"
        sql = neon_async(world.database.url, endpoint=endpoint, retry=None, timeout=10)
        while not stopping.is_set():
            tag = f"kill-{seed}-{next(numbers)}"
            world.ledger.expect([tag])
            while True:
                try:
                    await sql.query(INSERT, [tag, "k"], idempotency_key=tag)
                except NeonDbError as error:
                    told.interrupted += error.may_have_run
                    await asyncio.sleep(0.02)
                    continue
                world.ledger.acknowledge([tag])
                told.writes += 1
                break

    nursery = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.nursery", str(port)),
        env={**os.environ, **environment(world.upstream), **({VARIABLE: world.broken} if world.broken else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    until = time.monotonic() + _STARTS_WITHIN
    pid = 0
    try:
        while True:
            nursery.stdin.write(b"\n")
            pid = int(await nursery.stdout.readline())
            answered = told.writes
            while told.writes == answered and time.monotonic() < until + _STARTS_WITHIN:  # noqa: ASYNC110
                await asyncio.sleep(0.002)  # until the new gateway has answered, of which nobody tells
            if not told.kills:
                until = time.monotonic() + seconds  # the first one had all of its imports to do
            await asyncio.sleep(luck.uniform(*_ALIVE))
            if time.monotonic() > until and told.kills:
                break  # this one lives
            os.kill(pid, signal.SIGKILL)
            told.kills += 1
        stopping.set()
        _, late = await asyncio.wait(callers, timeout=_ANSWERED_WITHIN)
        told.unanswered = len(late)
    finally:
        for task in callers:
            task.cancel()
        if pid:  # 0 would be all of us
            os.kill(pid, signal.SIGKILL)
        nursery.kill()
        await nursery.wait()
    await neon_async(world.database.url).close()
    return told
