"""Requests to cancel what one connection runs: made again while they have no effect, and followed to their end.

Each goes over a connection of its own, which Postgres closes without a word once it has sent the signal. One may be
lost on its way, and one may come before the statement that it means and find nothing to cancel. Which statement is
meant and what becomes of its connection is for the lease to say.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Self

_PAUSES = (0.2, 0.3, 0.5)
"""Seconds until the second, third and fourth request, all of them within the second in which a statement is to end."""
_PAUSE = 1.0
"""Seconds between two that come after these."""


def pauses() -> Iterator[float]:
    """How long to wait behind each request for its effect, in seconds, without end."""
    yield from _PAUSES
    while True:
        yield _PAUSE


Request = Callable[[], Awaitable[None]]
"""Makes one request, and returns when Postgres has passed the signal on, or raises OSError."""


async def cancel_once(request: Request, *, timeout: float, settles: bool = True) -> bool:
    """Make requests until one is delivered; False if that takes longer than `timeout` seconds.

    If it `settles`, no signal comes after this, unless it has answered False.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout), CancelRequests(request) as requests:
            await requests.deliver()
            if settles:
                await requests.settle()
            return True
    return False


async def cancel_until(running: Callable[[], asyncio.Future[None]], request: Request, *, timeout: float) -> bool:
    """Make requests until what is `running` is over, or none can be made; asked each time, as it may be another then.

    True when no signal comes after this; False if that takes longer than `timeout` seconds.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout), CancelRequests(request) as requests:
            for pause in pauses():
                requests.make()
                await asyncio.wait({running()}, timeout=pause)
                if running().done() or requests.are_in_vain:
                    break
            await requests.settle()
            return True
    return False


class CancelRequests:
    """Those for one connection, in an `async with`; what is still on its way at the end is dropped, but may arrive."""

    __slots__ = ("_delivered", "_refused", "_request", "_under_way")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._under_way: set[asyncio.Task[None]] = set()
        self._delivered = False
        self._refused = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        left = tuple(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    @property
    def are_in_vain(self) -> bool:
        """As many as fit into a second could not even be sent."""
        return self._refused > len(_PAUSES) and not self._delivered and not self._under_way

    def make(self) -> None:
        """One more."""
        task = asyncio.ensure_future(self._make())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def deliver(self) -> None:
        """Make requests until one is delivered. Does not return where none can be; the caller sets a limit."""
        for pause in pauses():
            self.make()
            await asyncio.wait(self._under_way, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if self._delivered:
                return
            if not self._under_way:  # refused at once
                await asyncio.sleep(pause)

    async def settle(self) -> None:
        """Wait until none is on its way any more: no signal comes after that."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _make(self) -> None:
        try:
            await self._request()
        except OSError:  # a TimeoutError among them: it could not be sent
            self._refused += 1
        else:
            self._delivered = True
