"""A stream without a network: what the program sends is put in, what it is sent is kept."""

import asyncio

from sqlhttp_gateway.tunnel.pumps import Pumps
from sqlhttp_gateway.tunnel.stream import Flow, Sink, StreamClosed, StreamMisused


class FakeStream:
    """One program's end. With `is_reading` false it takes nothing, as a program that does not read."""

    def __init__(self, *, is_secure: bool = True, offers_tls: bool = False) -> None:
        self.peer = "192.0.2.1"
        self.origin: str | None = None
        self.is_secure = is_secure
        self.offers_tls = offers_tls
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self._arriving: asyncio.Queue[bytes | type[Exception]] = asyncio.Queue()
        self._reading = asyncio.Event()
        self._reading.set()

    # ── what the test does ──

    def put(self, *pieces: bytes) -> None:
        """The program sends this, piece by piece."""
        for piece in pieces:
            self._arriving.put_nowait(piece)

    def hang_up(self) -> None:
        """The program goes without a word."""
        self._arriving.put_nowait(StreamClosed)

    def misuse(self) -> None:
        """The program sends what is no bytes."""
        self._arriving.put_nowait(StreamMisused)

    @property
    def is_reading(self) -> bool:
        return self._reading.is_set()

    @is_reading.setter
    def is_reading(self, value: bool) -> None:
        if value:
            self._reading.set()
        else:
            self._reading.clear()

    @property
    def is_drained(self) -> bool:
        """Whether all that was put has been received."""
        return self._arriving.empty()

    @property
    def all_sent(self) -> bytes:
        return b"".join(self.sent)

    # ── Stream ──

    async def receive(self) -> bytes:
        arrived = await self._arriving.get()
        if isinstance(arrived, bytes):
            return arrived
        raise arrived("text")

    async def send(self, data: bytes) -> None:
        await self._reading.wait()
        if self.closed is not None:
            raise StreamClosed
        self.sent.append(data)

    def flow(self, sink: Sink) -> Flow:
        return Pumps(sink, receive=self.receive, send=self.send)

    async def start_tls(self) -> None:
        self.is_secure = True

    async def close(self, code: int, reason: str) -> None:
        await self._reading.wait()
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True
