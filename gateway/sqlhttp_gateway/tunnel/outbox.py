"""What waits to be sent to a program: bounded, sent in large pieces, and given up when the program does not read."""

import asyncio
from collections import deque
from collections.abc import Callable

from sqlhttp_gateway.tunnel.stream import Stream

MAX_PIECE = 128 * 1024
"""Bytes given to the transport at once: so many have to be taken within the send timeout, however slow the way."""


class Outbox:
    """Bytes on their way to the program. `put` never waits; `on_full` and `on_room` hold back whoever fills it."""

    def __init__(
        self,
        stream: Stream,
        *,
        limit: int,
        send_timeout: float,
        on_full: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        """`limit` is in bytes: above it `on_full` is called, below half of it `on_room`."""
        self.is_full = False
        """More than the limit waits, and has not shrunk to half of it since."""
        self._stream = stream
        self._limit = limit
        self._send_timeout = send_timeout
        self._on_full = on_full
        self._on_room = on_room
        self._messages: deque[list[bytes]] = deque([[]])
        self._size = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, data: bytes) -> None:
        """Send `data` after all that was put before."""
        if not data:
            return
        self._messages[-1].append(data)
        self._size += len(data)
        self._filled.set()
        self._emptied.clear()
        if self._size > self._limit and not self.is_full:
            self.is_full = True
            self._on_full()

    def cut(self) -> None:
        """What is put from now on is sent apart from what was put before."""
        self._messages.append([])

    def _take(self) -> list[bytes]:
        """The next pieces that may travel together; empty when there is nothing to send."""
        while len(self._messages) > 1 and not self._messages[0]:
            self._messages.popleft()
        pieces = self._messages[0]
        self._messages[0] = []
        return pieces

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            StreamClosed: the program has gone.
            TimeoutError: it took less than MAX_PIECE in `send_timeout` seconds.
        """
        while True:
            await self._filled.wait()
            self._filled.clear()
            while pieces := self._take():
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                for start in range(0, len(data), MAX_PIECE):
                    piece = data[start : start + MAX_PIECE]  # of bytes as short as that, this is no copy
                    async with asyncio.timeout(self._send_timeout):
                        await self._stream.send(piece)
                    self._size -= len(piece)
                    if self.is_full and self._size <= self._limit // 2:
                        self.is_full = False
                        self._on_room()
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Return when everything was handed to the transport."""
        await self._emptied.wait()
