"""A TCP proxy that does to a connection what networks do: resets it, swallows it, delays it, cuts it at any byte.

It runs on an event loop and in a thread of its own, so that what it stands between may be of any kind. It knows nothing
of what it carries.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

_CHUNK = 65536
_BACKLOG = 100
_LINGER_OFF = struct.pack("ii", 1, 0)  # close() sends a reset


class Kind(StrEnum):
    """What happens when the fault's byte is reached."""

    NONE = "none"
    REFUSE = "refuse"
    """The connection is reset as soon as it is made."""
    RESET = "reset"
    CLOSE = "close"
    SWALLOW = "swallow"
    """Nothing goes on in this direction, and nobody is told."""
    DELAY = "delay"
    TRICKLE = "trickle"
    """From there on it goes byte by byte."""


class Way(StrEnum):
    """Which of the two streams of a connection."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one connection, on one way, after so many bytes. `seconds` is a delay's, or that of each byte."""

    kind: Kind = Kind.NONE
    way: Way = Way.TO_CLIENT
    after: int = 0
    seconds: float = 0.0


Plan = Callable[[int], Fault]
"""From the connection's number, counted from 0, to its fault."""


class BadNetwork:
    """The proxy, while it runs. `port` is where to connect on 127.0.0.1."""

    def __init__(self, host: str, port: int, plan: Plan) -> None:
        self.plan = plan
        """May be changed at any time; it holds for connections made after that."""
        self.port = 0
        self.made = 0
        """Connections so far."""
        self._server_at = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._accepts = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="bad network")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"

    def stop(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not end"

    def cut_all(self) -> None:
        """Reset every connection that there is."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def stop_accepting(self) -> None:
        """Let nobody in: connections wait in the kernel's backlog, which is full at once, until `accept_again`."""
        self._loop.call_soon_threadsafe(self._set_accepting, False)

    def accept_again(self) -> None:
        """The end of `stop_accepting`."""
        self._loop.call_soon_threadsafe(self._set_accepting, True)

    def _set_accepting(self, accepts: bool) -> None:
        self._listening.listen(_BACKLOG if accepts else 0)
        (self._accepts.set if accepts else self._accepts.clear)()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as self._listening:
            self._listening.setblocking(False)
            self.port = self._listening.getsockname()[1]
            self._accepts.set()
            accepting = self._loop.create_task(self._accept())
            self._ready.set()
            await self._stop.wait()
            accepting.cancel()
            await asyncio.wait({accepting})
        self._reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for writer in list(self._open):
            reset(writer)

    async def _accept(self) -> None:
        while True:
            await self._accepts.wait()
            connection, _ = await self._loop.sock_accept(self._listening)
            task = self._loop.create_task(self._accepted(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _accepted(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        fault, self.made = self.plan(self.made), self.made + 1
        if fault.kind is Kind.REFUSE:
            reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._server_at)
        except (OSError, asyncio.CancelledError):  # the latter at the end of the proxy
            reset(writer)
            return
        pair = {writer, up_writer}
        self._open |= pair
        try:
            await asyncio.gather(
                self._carry(reader, up_writer, fault if fault.way is Way.TO_SERVER else Fault(), pair),
                self._carry(up_reader, writer, fault if fault.way is Way.TO_CLIENT else Fault(), pair),
            )
        except asyncio.CancelledError:
            pass  # the end of the proxy; asyncio's streams would report a task that ends so
        finally:
            self._open -= pair
            for each in pair:
                each.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, pair: set[asyncio.StreamWriter]
    ) -> None:
        left = fault.after
        try:
            while data := await reader.read(_CHUNK):
                if fault.kind is not Kind.NONE and len(data) >= left:
                    writer.write(data[:left])
                    await self._happen(fault, data[left:], writer, pair)
                    left = 0
                    continue
                left -= len(data)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            for each in pair:
                reset(each)

    async def _happen(
        self, fault: Fault, data: bytes, writer: asyncio.StreamWriter, pair: set[asyncio.StreamWriter]
    ) -> None:
        match fault.kind:
            case Kind.RESET:
                await writer.drain()
                for each in pair:
                    reset(each)
            case Kind.CLOSE:
                for each in pair:
                    each.close()
            case Kind.DELAY:
                await asyncio.sleep(fault.seconds)
                writer.write(data)
            case Kind.TRICKLE:
                for byte in data:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(fault.seconds)


def reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        connection: socket.socket | None = writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    writer.transport.abort()


@contextmanager
def bad_network(host: str, port: int, plan: Plan = lambda number: Fault()) -> Iterator[BadNetwork]:
    """A proxy in front of `host` and `port` for the length of the block."""
    network = BadNetwork(host, port, plan)
    network.start()
    try:
        yield network
    finally:
        network.stop()
