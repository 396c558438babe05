"""What waits to be sent to a program: nothing as long as it reads, and bounded when it does not."""

import asyncio
from collections.abc import Callable

from sqlhttp_gateway.tunnel.stream import Flow

MAX_PIECE = 128 * 1024
"""Bytes given to the transport at once: so many have to be taken within the send timeout, however slow the way."""


class Outbox:
    """Bytes on their way to the program. `put` never waits; `on_full` and `on_room` hold back whoever fills it."""

    __slots__ = (
        "_emptied",
        "_flow",
        "_is_blocked",
        "_limit",
        "_loop",
        "_on_full",
        "_on_room",
        "_on_stuck",
        "_send_timeout",
        "_size",
        "_timer",
        "_under_way",
        "_waiting",
        "is_full",
    )

    def __init__(
        self,
        flow: Flow,
        *,
        limit: int,
        send_timeout: float,
        on_full: Callable[[], None],
        on_room: Callable[[], None],
        on_stuck: Callable[[], None],
    ) -> None:
        """`limit` is in bytes: above it `on_full` is called, at half of it `on_room`. `on_stuck` is called when the
        program takes less than MAX_PIECE in `send_timeout` seconds."""
        self.is_full = False
        """More than the limit waits, and has not shrunk to half of it since."""
        self._flow = flow
        self._limit = limit
        self._send_timeout = send_timeout
        self._on_full = on_full
        self._on_room = on_room
        self._on_stuck = on_stuck
        self._loop = asyncio.get_running_loop()
        self._is_blocked = False
        self._under_way = 0  # bytes of the piece that the transport has no room behind
        self._waiting: list[bytes | None] = []  # None where what follows has to travel apart
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, data: bytes) -> None:
        """Send `data` after all that was put before."""
        if not self._is_blocked and len(data) <= MAX_PIECE:
            if data and not self._flow.write(data):
                self._block(len(data))
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._is_blocked:
            self._look_whether_full()
        else:
            self._send()

    def cut(self) -> None:
        """What is put from now on is sent apart from what was put before."""
        if self._waiting:  # else it was sent by itself
            self._waiting.append(None)

    def go_on(self) -> None:
        """The transport has room again."""
        if not self._is_blocked:
            return
        self._unblock()
        self._send()
        if self.is_full and self._size <= self._limit // 2:
            self.is_full = False
            self._on_room()

    def close(self) -> None:
        """The program is not sent anything any more."""
        self._waiting.clear()
        if self._is_blocked:
            self._unblock()
        self._size = 0

    async def wait_empty(self) -> None:
        """Return when everything was handed to the transport."""
        if self._is_blocked:
            self._emptied = self._emptied or self._loop.create_future()
            await self._emptied

    def _block(self, size: int) -> None:
        self._is_blocked = True
        self._under_way = size
        self._size += size
        self._timer = self._loop.call_later(self._send_timeout, self._on_stuck)
        self._look_whether_full()

    def _unblock(self) -> None:
        self._is_blocked = False
        self._size -= self._under_way
        self._under_way = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_whether_full(self) -> None:
        if self._size > self._limit and not self.is_full:
            self.is_full = True
            self._on_full()

    def _send(self) -> None:
        """Write what waits until the transport has enough, in pieces that are as long as they may be."""
        while self._waiting and not self._is_blocked:
            piece = self._take()
            if piece:
                self._size -= len(piece)
                if not self._flow.write(piece):
                    self._block(len(piece))
        if not self._is_blocked and self._emptied is not None:
            if not self._emptied.done():
                self._emptied.set_result(None)
            self._emptied = None

    def _take(self) -> bytes:
        waiting = self._waiting
        size = count = 0
        while count < len(waiting) and (part := waiting[count]) is not None and size < MAX_PIECE:
            size += len(part)
            count += 1
        data = b"".join(part for part in waiting[:count] if part is not None)
        rest = data[MAX_PIECE:]
        ends_here = count < len(waiting) and waiting[count] is None and not rest
        waiting[: count + ends_here] = [rest] if rest else []
        return data[:MAX_PIECE] if rest else data
