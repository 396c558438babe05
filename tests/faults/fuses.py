"""When a gateway is to be killed: at a moment, at a step of its program, or at a byte of what it hears and says.

A fuse is drawn from a seed. Steps are counted by the gateway's own process, which the nursery prepares; bytes by the
networks in front of it and behind it, which kill it once the last of them has passed, and pass nothing more.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from types import FrameType
from typing import Any

from tests.support.bad_network import BadNetwork, Fault, Way

_CHUNK = 65536


class Where(StrEnum):
    """What is counted until the end."""

    START = "calls from the very start"
    CALLS = "calls once it listens"
    MOMENT = "microseconds once it listens"
    HEARD = "bytes from callers"
    ANSWERED = "bytes to callers"
    ASKED = "bytes to Postgres"
    TOLD = "bytes from Postgres"


_POWERS = {Where.START: (3.5, 4.8), Where.CALLS: (1.0, 5.3), Where.MOMENT: (2.0, 5.3)}
_OF_BYTES = (0.0, 4.6)
"""Powers of ten. Most of what happens once happens at the beginning, so that each power is tried as often as the next.

To listen takes some ten thousand calls; a write under a key some hundreds, and some hundred bytes of each stream.
"""
_WEIGHTS = {Where.START: 1, Where.CALLS: 4, Where.MOMENT: 2}
ARM = signal.SIGUSR1
"""To a gateway whose calls are counted from now on."""


@dataclass(frozen=True, slots=True)
class Fuse:
    """The end of one gateway: after so many of what `where` counts."""

    where: Where
    after: int


def draw(luck: Random) -> Fuse:
    """The next one's."""
    [where] = luck.choices(list(Where), [_WEIGHTS.get(each, 1) for each in Where])
    return Fuse(where, int(10 ** luck.uniform(*_POWERS.get(where, _OF_BYTES))))


def fit(fuse: Fuse) -> None:
    """Into this process, before it begins to serve."""
    if fuse.where is Where.START:
        _count(fuse.after)
    elif fuse.where is Where.CALLS:
        signal.signal(ARM, lambda number, frame: _count(fuse.after))


def _count(calls: int) -> None:
    """Each call, of Python and of C, and each return from one, is a step."""
    step = itertools.count(1)

    def burn(frame: FrameType, event: str, argument: Any) -> None:
        if next(step) >= calls:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(burn)


class FusedNetwork(BadNetwork):
    """A network on which nothing goes wrong until it is armed, and the byte is reached at which `blow` is called.

    It counts also who was waiting: connections that ended with something sent to the server, and no answer since.
    """

    def __init__(self, host: str, port: int, mark: bytes) -> None:
        """`mark` is looked for in what the server says."""
        super().__init__(host, port, lambda number: Fault(way=Way.TO_SERVER))  # so that `_carry` knows which it carries
        self.waiting = 0
        """Connections that ended so."""
        self.marked = 0
        """How often the mark was passed on."""
        self._mark = mark
        self._left: dict[Way, int] = {}
        self._blow: Callable[[], object] = lambda: None
        self._asked: set[frozenset[asyncio.StreamWriter]] = set()

    def arm(self, way: Way, after: int, blow: Callable[[], object]) -> None:
        """From now on, over all connections."""
        self._loop.call_soon_threadsafe(self._arm, way, after, blow)

    def disarm(self) -> None:
        """Whatever it was armed for."""
        self._loop.call_soon_threadsafe(self._disarm)

    def _disarm(self) -> None:
        self._left = {}

    def _arm(self, way: Way, after: int, blow: Callable[[], object]) -> None:
        self._left = {way: after}
        self._blow = blow

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, pair: set[asyncio.StreamWriter]
    ) -> None:
        who = frozenset(pair)
        try:
            while data := await reader.read(_CHUNK):
                left = self._left.get(fault.way)
                if left is not None and len(data) >= left:
                    del self._left[fault.way]
                    writer.write(data[:left])
                    self._blow()
                    self._asked.add(who)
                    break
                if left is not None:
                    self._left[fault.way] = left - len(data)
                if fault.way is Way.TO_CLIENT:
                    self.marked += data.count(self._mark)
                (self._asked.add if fault.way is Way.TO_SERVER else self._asked.discard)(who)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        if who in self._asked:
            self._asked.discard(who)
            self.waiting += 1
        for each in pair:
            each.close()  # what has passed arrives


@contextmanager
def fused_network(host: str, port: int, mark: bytes) -> Iterator[FusedNetwork]:
    """One in front of `host` and `port` for the length of the block."""
    network = FusedNetwork(host, port, mark)
    network.start()
    try:
        yield network
    finally:
        network.stop()
