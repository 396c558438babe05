"""A proxy between the gateway and Postgres that knows messages, and ends one connection at the message it was told.

Either the connection is reset, in front of what Postgres is to be sent or behind what it has said, or Postgres's own
process is ended there by a signal, and says so itself. It runs on an event loop and in a thread of its own.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from struct import unpack_from

from tests.support.bad_network import BadNetwork, reset
from tests.support.cluster import Database

_FLUSH = b"H\0\0\0\x04"
_ANSWERS = {ord(tag): answers for tag, answers in zip("PBCDESQ", (1, 1, 1, 1, 1, 1, 2), strict=True)}
"""How many messages of `_COUNTED` a message gets in answer; a query is one of a single statement."""
_COUNTED = frozenset(b"123TnCIsZ")
_ERROR, _READY, _KEY = b"EZK"
_ANSWERED_WITHIN = 5.0


class How(StrEnum):
    """What happens."""

    ANSWER_LOST = "answer lost"
    """Postgres gets all, and so many of its messages pass; then the connection is reset."""
    REQUEST_LOST = "request lost"
    """So many messages pass to Postgres, and nothing behind them; then the connection is reset."""
    KILLED = "killed"
    """So many messages pass; once these are answered, Postgres's process is told to end."""


@dataclass(slots=True)
class Cut:
    """What happens to the connection on which `mark` is sent: after so many messages, from the write on that has it."""

    how: How
    after: int
    mark: bytes
    happened: bool = False
    victim: "_Connection | None" = None


class CuttingProxy(BadNetwork):
    """The proxy, while it runs. Only connections to `database` are cut."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.host, database.port, lambda number: NotImplemented)
        self.named = b"\0database\0%b\0" % database.name.encode()
        self.cut: Cut | None = None

    def arm(self, cut: Cut) -> Cut:
        """Let it happen, once."""
        self.cut = cut
        return cut

    async def _accepted(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        self.made += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._server_at)
        except (OSError, asyncio.CancelledError):
            reset(writer)
            return
        pair = {writer, up_writer}
        self._open |= pair
        passing = _Connection(self, writer, up_writer)
        try:
            await asyncio.gather(
                passing.carry(reader, up_writer, passing.to_server), passing.carry(up_reader, writer, passing.to_client)
            )
        except asyncio.CancelledError:
            pass  # the end of the proxy; asyncio's streams would report a task that ends so
        finally:
            self._open -= pair
            for each in pair:
                each.close()


class _Connection:
    def __init__(self, proxy: CuttingProxy, program: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._program, self._server = program, server
        self._is_ours = False
        self._is_ready = False
        self._pid = 0
        self._sent: bytes = b""
        self._said: bytes = b""
        self._passed = 0
        """Messages of the way that is counted."""
        self._owed = 0
        """Answers to what has passed."""
        self._is_deaf = False
        """Nothing more passes to the server."""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_data: "object") -> None:
        """Pass on what comes, until one end is gone."""
        assert callable(on_data)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                on_data(data)
                await writer.drain()
            writer.write_eof()
            return
        self._reset()

    def to_server(self, data: bytes) -> None:
        if not self._is_ready:
            self._is_ours = self._is_ours or self._proxy.named in data
            self._server.write(data)
            return
        self._sent += data
        self._take_aim(data)
        passing: list[bytes] = []  # in one write, as it came
        for frame in _frames(self._sent):
            self._sent = self._sent[len(frame) :]
            cut = self._cut()
            if cut is not None and cut.how is not How.ANSWER_LOST:
                if self._passed == cut.after:
                    self._server.write(b"".join(passing))
                    self._happen(cut)
                    return
                self._passed += 1
                self._owed += _ANSWERS.get(frame[0], 0)
            if not self._is_deaf:
                passing.append(frame)
        self._server.write(b"".join(passing))

    def to_client(self, data: bytes) -> None:
        self._said += data
        if not self._is_ready and data[:1] in (b"S", b"N") and len(data) == 1:
            self._said = b""
            self._program.write(data)
            return
        passing: list[bytes] = []
        for frame in _frames(self._said):
            self._said = self._said[len(frame) :]
            cut = self._cut()
            if cut is not None and cut.how is How.ANSWER_LOST and frame[0] in _COUNTED | {_ERROR, ord("D")}:
                if self._passed == cut.after:
                    cut.happened = True
                    self._program.write(b"".join(passing))
                    self._reset()
                    return
                self._passed += 1
            if frame[0] == _KEY:
                (self._pid,) = unpack_from("!I", frame, 5)
            self._is_ready = self._is_ready or frame[0] == _READY
            if frame[0] in _COUNTED:
                self._owed -= 1
            elif frame[0] == _ERROR:
                self._owed = 0
            passing.append(frame)
        self._program.write(b"".join(passing))

    def _take_aim(self, data: bytes) -> None:
        cut = self._proxy.cut
        if cut is not None and cut.victim is None and self._is_ours and cut.mark in data:
            cut.victim = self
            self._passed = self._owed = 0

    def _cut(self) -> Cut | None:
        cut = self._proxy.cut
        return cut if cut is not None and cut.victim is self and not cut.happened else None

    def _happen(self, cut: Cut) -> None:
        cut.happened = self._is_deaf = True
        self._sent = b""
        if cut.how is How.REQUEST_LOST:
            self._reset()
            return
        if self._passed:
            self._server.write(_FLUSH)
        asyncio.get_running_loop().create_task(self._kill())

    async def _kill(self) -> None:
        """Once what has passed is answered."""
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            async with asyncio.timeout(_ANSWERED_WITHIN):
                while self._owed > 0:  # noqa: ASYNC110 - whoever reads answers does so on this loop
                    await asyncio.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)

    def _reset(self) -> None:
        reset(self._program)
        reset(self._server)


def _frames(data: bytes) -> Iterator[bytes]:
    """The whole messages at the start of `data`."""
    position = 0
    while len(data) - position >= 5:
        size = 1 + int.from_bytes(data[position + 1 : position + 5])
        if len(data) - position < size:
            return
        yield data[position : position + size]
        position += size


@contextmanager
def cutting_proxy(database: Database) -> Iterator[CuttingProxy]:
    """One in front of `database`, for the length of the block."""
    proxy = CuttingProxy(database)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
