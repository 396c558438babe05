"""A flow over a stream that only knows `receive` and `send`: two tasks that wait in everybody's place.

The doors of this gateway push bytes themselves; this is for a WebSocket of any other ASGI server.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sqlhttp_gateway.tunnel.stream import Sink, StreamClosed, StreamMisused


class Pumps:
    """One stream's two tasks."""

    def __init__(
        self, sink: Sink, *, receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._sink = sink
        self._receive = receive
        self._send = send
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._put = asyncio.Event()
        self._piece: bytes | None = None
        self._is_over = False
        self._has_left = False
        loop = asyncio.get_running_loop()
        self._tasks = (loop.create_task(self._pump_in()), loop.create_task(self._pump_out()))

    def write(self, data: bytes) -> bool:
        """Send bytes; there is never room for more until they are sent."""
        if self._is_over:
            return True
        assert self._piece is None
        self._piece = data
        self._put.set()
        return False

    def pause_reading(self) -> None:
        """Fetch nothing for now."""
        self._wanted.clear()

    def resume_reading(self) -> None:
        """Fetch again."""
        self._wanted.set()

    async def stop(self) -> None:
        """End both tasks."""
        self._is_over = self._has_left = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump_in(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                data = await self._receive()
                if data:
                    self._sink.take(data)
        except StreamMisused as error:
            self._leave(error)
        except StreamClosed:
            self._leave(None)

    async def _pump_out(self) -> None:
        try:
            while True:
                await self._put.wait()
                self._put.clear()
                assert self._piece is not None
                await self._send(self._piece)
                self._piece = None
                self._sink.go_on()
        except StreamClosed:
            self._leave(None)

    def _leave(self, error: StreamMisused | None) -> None:
        if error is None:
            self._is_over = True  # else it may still be told why
        if not self._has_left:
            self._has_left = True
            self._sink.leave(error)
