"""Short messages between the workers of one gateway: a cancel key that is another's, a database to pause.

Each worker has a Unix datagram socket, made before the fork, that all others can write to. Nobody waits: a message that
a worker cannot take just now is held until it can, behind those that are held already, and goes to the one that takes
its place if it ends first. What a worker has read when it is killed is lost with it: whoever takes its place asks.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import NamedTuple

MAX_BYTES = 4096
"""Of one message."""
MAX_HELD = 10_000
"""Messages that are held for one worker: as many cancels as it can have tunnels, and a word on each database."""
LAST_WORDS = 1.0
"""Seconds in which a worker that ends still gets rid of what it holds for others."""
Handler = Callable[..., object]
"""Gets the words of a message."""
_LOG = logging.getLogger(__name__)


class _Line(NamedTuple):
    inward: socket.socket
    outward: socket.socket


class Lines:
    """A line to each of `count` workers. To be made before they are forked."""

    def __init__(self, count: int) -> None:
        self._lines = [_Line(*socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(count)]
        for line in self._lines:
            for end in line:
                end.setblocking(False)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, number: int) -> _Line:
        return self._lines[number]

    def close(self) -> None:
        """Let go of all sockets."""
        for line in self._lines:
            for end in line:
                end.close()


class Siblings:
    """This worker among all. Without `lines` it is the only one, and nobody is told anything."""

    def __init__(self, lines: Lines | None = None, number: int = 0) -> None:
        self._lines = lines
        self.number = number
        """Which of the workers this is."""
        self._handlers: dict[str, Handler] = {}
        self._held: dict[int, dict[bytes, None]] = {}
        """What others could not take yet, by their number, in order. All of it may be said twice, but not out of order:
        what is said again goes to the end."""

    @property
    def count(self) -> int:
        """How many workers there are, this one included."""
        return len(self._lines) if self._lines is not None else 1

    def on(self, kind: str, handler: Handler) -> None:
        """Let `handler` have the words of messages of this kind."""
        self._handlers[kind] = handler

    def start(self) -> None:
        """Begin to listen."""
        if self._lines is not None:
            asyncio.get_running_loop().add_reader(self._lines[self.number].inward, self._read)

    async def stop(self) -> None:
        """Listen no more, and let go of what is held once it is told."""
        if self._lines is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._lines[self.number].inward)
        last = loop.time() + LAST_WORDS
        while self._held and loop.time() < last:  # noqa: ASYNC110 - nobody is told but `_tell_held`
            await asyncio.sleep(0.01)
        for number in list(self._held):
            self._forget(number)

    def tell_all(self, kind: str, *words: str) -> None:
        """Tell every other worker."""
        for number in range(self.count):
            if number != self.number:
                self.tell(number, kind, *words)

    def tell(self, number: int, kind: str, *words: str) -> None:
        """Tell one other worker."""
        data = json.dumps([kind, *words]).encode()
        if len(data) > MAX_BYTES:
            _LOG.warning("worker %d was not told to %s: %d bytes are too many", number, kind, len(data))
        elif number in self._held or not self._send(number, data):
            self._hold(number, data)

    def _send(self, number: int, data: bytes) -> bool:
        """Whether it was taken; the queue in between is the kernel's, and all workers' that tell this one."""
        assert self._lines is not None
        try:
            self._lines[number].outward.send(data)
        except OSError:  # BlockingIOError: it has not read for long; or the kernel has no memory just now
            return False
        return True

    def _hold(self, number: int, data: bytes) -> None:
        assert self._lines is not None
        if number not in self._held:
            self._held[number] = {}
            asyncio.get_running_loop().add_writer(self._lines[number].outward, self._tell_held, number)
        held = self._held[number]
        held.pop(data, None)
        held[data] = None
        if len(held) > MAX_HELD:
            del held[next(iter(held))]
            _LOG.warning("worker %d has read nothing for long: it is not told what is oldest of %d", number, MAX_HELD)

    def _tell_held(self, number: int) -> None:
        held = self._held[number]
        for data in list(held):
            if not self._send(number, data):
                return
            del held[data]
        self._forget(number)

    def _forget(self, number: int) -> None:
        assert self._lines is not None
        del self._held[number]
        asyncio.get_running_loop().remove_writer(self._lines[number].outward)

    def _read(self) -> None:
        assert self._lines is not None
        try:
            data = self._lines[self.number].inward.recv(MAX_BYTES)
        except OSError:
            return
        kind, *words = json.loads(data)
        self._handlers[kind](*words)
