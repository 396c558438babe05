"""What uvicorn keeps for each connection and does for it, in less: an empty deque takes 760 bytes, and it has two.

That is a quarter of what a connection takes, and nearly no connection ever puts anything into either. How requests
and bytes go through them is uvicorn's to say, and `guarded`'s.
"""

import asyncio
from functools import lru_cache

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

Address = tuple[str, int | None]


class Line(list[tuple[RequestResponseCycle, object]]):
    """Requests that were sent ahead, as the deque that uvicorn has: the last one stands in front, and is answered
    last."""

    __slots__ = ()

    def appendleft(self, request: tuple[RequestResponseCycle, object]) -> None:
        """Put one in front; they are few, since the program is not read from for long."""
        self.insert(0, request)

    def popleft(self) -> tuple[RequestResponseCycle, object]:
        """Take that in front."""
        return self.pop(0)


class Flow:
    """uvicorn's FlowControl, whose event is there only while an answer waits for room."""

    __slots__ = ("_room", "_transport", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._room: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    async def drain(self) -> None:
        """Wait until more may be written."""
        if self.write_paused:
            if self._room is None:
                self._room = asyncio.Event()
            await self._room.wait()

    def pause_reading(self) -> None:
        """Take nothing from the program for now."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what it sends."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The program does not take what it is sent."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """It does again, or has gone."""
        self.write_paused = False
        if self._room is not None:
            self._room.set()
            self._room = None


@lru_cache(maxsize=16)
def shared(address: Address | None) -> Address | None:
    """The same address, in one piece for all connections: a gateway has few of its own."""
    return address


def server_of(transport: asyncio.Transport) -> Address | None:
    """Where the connection has come in: host and port, or the path of a Unix socket and None."""
    name = transport.get_extra_info("sockname")
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) else None


def client_of(transport: asyncio.Transport) -> tuple[str, int] | None:
    """Who has connected; None over a Unix socket, and where the connection is gone already."""
    name = transport.get_extra_info("peername")
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


_MADE = frozenset(
    {
        *("add", "client", "connections", "flow", "scheme", "server", "transport"),
        *("FlowControl", "get_local_addr", "get_remote_addr", "is_ssl"),
        *("TRACE_LOG_LEVEL", "level", "log", "logger"),
    }
)
"""All that uvicorn's protocol touches when a connection is made."""


def knows_uvicorn() -> bool:
    """Whether the uvicorn that is installed has no more to its flow, and to a connection's beginning, than there is
    here."""
    flow = {name for name in vars(FlowControl) if not name.startswith("_")}
    return flow <= set(dir(Flow)) and set(HttpToolsProtocol.connection_made.__code__.co_names) <= _MADE
