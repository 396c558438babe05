"""Exactly once, proven: the gateway is killed again and again in the middle of writes that carry keys.

Callers send each write until it is answered. Afterwards each must be there once, whatever the gateway was at when it
died: before the write, in it, at its COMMIT, between COMMIT and answer, or with half of the answer sent. What it was at
is drawn from a seed: see `fuses`.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from sqlhttp import NeonDbError, neon_async
from tests.faults.episodes import INSERT
from tests.faults.fuses import ARM, Fuse, FusedNetwork, Where, draw, fused_network
from tests.faults.ledger import Ledger
from tests.faults.run import present
from tests.faults.world import VARIABLE, World, environment
from tests.support.bad_network import Way
from tests.support.cluster import Database
from tests.support.gateway import free_port

CALLERS = 24
_STARTS_WITHIN = 60.0
_LOOKS = 0.002
"""Seconds between two looks whether a gateway listens, of which nobody tells, and between two attempts."""
_LIVES = 2.0
"""Seconds after which a gateway that has not come to the end of its fuse is killed as it is."""
_WAITS = 10.0
"""Seconds of a caller for each attempt."""
_ANSWERED_WITHIN = 30.0
"""Seconds in which the last gateway has to answer what is left."""
_NEVER = Fuse(Where.MOMENT, 0)
_STREAMS = {
    Where.HEARD: ("front", Way.TO_SERVER),
    Where.ANSWERED: ("front", Way.TO_CLIENT),
    Where.ASKED: ("behind", Way.TO_SERVER),
    Where.TOLD: ("behind", Way.TO_CLIENT),
}
_REPLAYED = b"idempotent-replayed: true"
_KILLED = -signal.SIGKILL


@dataclass(slots=True)
class Killing:
    """What happened."""

    kills: int = 0
    by_fuse: Counter[Where] = field(default_factory=Counter)
    """Of the kills, those that came at the end of a fuse."""
    writes: int = 0
    """Rows whose writers were answered, in the end."""
    interrupted: int = 0
    """Requests that a gateway had, and had not answered whole, when it died."""
    replayed: int = 0
    """Requests that were sent again although they were done: their answers came from the table of keys."""
    there: int = 0
    """Rows of them in the database."""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        ends = ", ".join(f"{count} after {where}" for where, count in self.by_fuse.most_common())
        return [
            f"{self.kills} gateways killed in {self.seconds:.0f} s: {ends}",
            f"{self.interrupted} requests interrupted, {self.replayed} of them after they were done; "
            f"{self.writes} rows whose writers were answered, {self.there} there",
        ]


async def kill_again_and_again(world: World, *, seed: int, seconds: float, kills: int = sys.maxsize) -> Killing:
    """Do so for so many seconds, or so often, with gateways of its own."""
    told, luck, ledger = Killing(), Random(seed), Ledger()
    began = time.monotonic()
    async with _gateways(world) as gateways:
        callers = [
            asyncio.create_task(_call(world, gateways, ledger, f"kill-{seed}-{each}")) for each in range(CALLERS)
        ]
        try:
            while True:
                passed = time.monotonic() - began
                if (passed > seconds or told.kills >= kills) and (gateways.front.waiting or passed > _STARTS_WITHIN):
                    break
                fuse = draw(luck)
                if await gateways.live(fuse):
                    told.by_fuse[fuse.where] += 1
                told.kills += 1
            await gateways.begin(_NEVER)
            gateways.stopping = True
            _, late = await asyncio.wait(callers, timeout=_ANSWERED_WITHIN)
            told.faults += [f"{len(late)} writes with keys were never answered"] if late else []
        finally:
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        told.interrupted, told.replayed = gateways.front.waiting, gateways.front.marked
    there = await present(world, f"kill-{seed}-%")
    told.faults += ledger.faults(there)
    told.writes, told.there = len(ledger.acknowledged), len(there)
    told.seconds = time.monotonic() - began
    return told


class _Gateways:
    """One after another on the same port, and the networks in front of them and behind them."""

    def __init__(
        self, nursery: asyncio.subprocess.Process, port: int, *, front: FusedNetwork, behind: FusedNetwork
    ) -> None:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        self.front, self.behind = front, behind
        self.stopping = False
        """Nobody is to begin another write."""
        self.listens = asyncio.Event()
        """Set while there is somebody to ask."""
        self._to_nursery, self._from_nursery = nursery.stdin, nursery.stdout
        self._port = port
        self._pid = 0

    async def begin(self, fuse: Fuse) -> "asyncio.Task[bytes]":
        """The next gateway, until it listens or has come to its end before; what will be told of its end."""
        self._pid = 0
        self._to_nursery.write(f"{fuse.where} {fuse.after}\n".encode())
        self._pid = int(await self._from_nursery.readline())
        ended = asyncio.create_task(self._from_nursery.readline())
        async with asyncio.timeout(_STARTS_WITHIN):
            while not ended.done():
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.close()
                    self.listens.set()
                    break
                await asyncio.sleep(_LOOKS)
        return ended

    async def live(self, fuse: Fuse) -> bool:
        """A gateway from its beginning to its end; whether the fuse was what ended it."""
        ended = await self.begin(fuse)
        if fuse.where in _STREAMS:
            side, way = _STREAMS[fuse.where]
            (self.front if side == "front" else self.behind).arm(way, fuse.after, self.kill)
        elif fuse.where is Where.MOMENT:
            await asyncio.sleep(fuse.after / 1e6)
            self.kill()
        elif fuse.where is Where.CALLS and not ended.done():
            os.kill(self._pid, ARM)
        await asyncio.wait({ended}, timeout=_LIVES)
        by_fuse = ended.done()
        self.kill()
        status = int(await ended)
        self.listens.clear()
        self.front.disarm()
        self.behind.disarm()
        assert status == _KILLED, f"a gateway ended by itself, with status {status}"
        return by_fuse

    def kill(self) -> None:
        """The one that lives, if one does; from whatever thread."""
        if self._pid:  # of one that has ended the number is still its own, until the next one begins
            os.kill(self._pid, signal.SIGKILL)


@asynccontextmanager
async def _gateways(world: World) -> AsyncIterator[_Gateways]:
    port = free_port()
    with (
        fused_network("127.0.0.1", port, _REPLAYED) as front,
        fused_network(world.cluster.host, world.cluster.port, _REPLAYED) as behind,
    ):
        upstream = Database("127.0.0.1", behind.port, "postgres").url
        nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.nursery", str(port)),
            env={**os.environ, **environment(upstream), **({VARIABLE: world.broken} if world.broken else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        gateways = _Gateways(nursery, port, front=front, behind=behind)
        try:
            yield gateways
        finally:
            gateways.kill()
            nursery.kill()
            await nursery.wait()
            await neon_async(world.database.url).close()


async def _call(world: World, gateways: _Gateways, ledger: Ledger, name: str) -> None:
    """One write after another, each sent until it is answered: a statement, with rows or without, or two in a batch."""
    endpoint = f"http://127.0.0.1:{gateways.front.port}/sql"
    sql = neon_async(world.database.url, endpoint=endpoint, retry=None, timeout=_WAITS)
    for number in itertools.count():
        if gateways.stopping:
            return
        tag = f"{name}-{number}"
        tags = [tag, f"{tag}-second"] if number % 3 == 0 else [tag]
        insert = f"{INSERT} RETURNING tag" if number % 3 == 1 else INSERT
        ledger.expect(tags)
        while True:
            await gateways.listens.wait()
            try:
                if len(tags) > 1:
                    await sql.transaction([sql.q(insert, each, "k") for each in tags], idempotency_key=tag)
                else:
                    await sql.query(insert, [tag, "k"], idempotency_key=tag)
            except NeonDbError:
                await asyncio.sleep(_LOOKS)
                continue
            ledger.acknowledge(tags)
            break
