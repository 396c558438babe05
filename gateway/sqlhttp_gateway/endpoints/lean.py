"""What uvicorn keeps for each connection, in less memory: an empty deque takes 760 bytes, and it has two of them.

That is a quarter of what a connection takes, and nearly no connection ever puts anything into either. How requests
and bytes go through them is uvicorn's to say, and `guarded`'s.
"""

import asyncio
from functools import lru_cache

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

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


def knows_uvicorn() -> bool:
    """Whether the uvicorn that is installed has no more to its flow than there is here."""
    return {name for name in vars(FlowControl) if not name.startswith("_")} <= set(dir(Flow))
