"""Short messages between the workers of one gateway: a cancel key that is another's, a database to pause.

Each worker has a Unix datagram socket, made before the fork, that all others can write to. Nobody waits: a message that
a worker cannot take just now is lost for that worker, as is one to a worker that is being replaced. So nothing may be
told here that has to arrive; what has to be known is in the slots (`observe.slots`).
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import NamedTuple

MAX_BYTES = 4096
"""Of one message."""
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

    def stop(self) -> None:
        """Listen no more."""
        if self._lines is not None:
            asyncio.get_running_loop().remove_reader(self._lines[self.number].inward)

    def tell_all(self, kind: str, *words: str) -> None:
        """Tell every other worker."""
        for number in range(self.count):
            if number != self.number:
                self.tell(number, kind, *words)

    def tell(self, number: int, kind: str, *words: str) -> None:
        """Tell one other worker."""
        assert self._lines is not None
        data = json.dumps([kind, *words]).encode()
        try:
            if len(data) > MAX_BYTES:
                raise OSError(f"{len(data)} bytes are too many")
            self._lines[number].outward.send(data)
        except OSError as error:  # BlockingIOError among them: it has not read for long
            _LOG.warning("worker %d was not told to %s: %s", number, kind, error)

    def _read(self) -> None:
        assert self._lines is not None
        try:
            data = self._lines[self.number].inward.recv(MAX_BYTES)
        except OSError:
            return
        kind, *words = json.loads(data)
        self._handlers[kind](*words)
