"""One fetch for all who want the same at the same time.

A fetch is a task of its own: whoever began it may leave, and those who joined still get what it brings. When nobody is
left to wait for it, it is cancelled, unless it refreshes an answer behind everybody's back.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One fetch on its way. `began` is on the stamps' clock."""

    __slots__ = ("began", "is_refresh", "task", "waiting")

    def __init__(self, task: "asyncio.Task[T]", began: int, *, is_refresh: bool) -> None:
        self.task = task
        self.began = began
        self.is_refresh = is_refresh
        self.waiting = 0

    async def landed(self) -> T:
        """What it brings.

        Raises:
            GatewayError: whatever went wrong with it.
            asyncio.CancelledError: whoever waits here was cancelled.
        """
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.is_refresh and not self.task.done():
                self.task.cancel()


class Flights(Generic[T]):
    """All fetches on their way, at most `limit` at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: dict[bytes, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def resize(self, limit: int) -> None:
        """Another limit; fetches beyond it still land."""
        self._limit = limit

    @property
    def is_full(self) -> bool:
        """There is no room for one more."""
        return len(self._tasks) >= self._limit

    def find(self, key: bytes) -> Flight[T] | None:
        """The last fetch that began for `key`, if it is still on its way and nobody has given it up."""
        flight = self._by_key.get(key)
        return flight if flight is not None and not flight.task.done() and not flight.task.cancelling() else None

    def start(self, key: bytes, work: Coroutine[Any, Any, T], *, began: int, is_refresh: bool = False) -> Flight[T]:
        """Begin to fetch."""
        task = asyncio.get_running_loop().create_task(work)
        flight = self._by_key[key] = Flight(task, began, is_refresh=is_refresh)
        self._tasks.add(task)

        def land(done: "asyncio.Task[T]") -> None:
            self._tasks.discard(done)
            if self._by_key.get(key) is flight:
                del self._by_key[key]
            if not done.cancelled():
                done.exception()  # those who waited have seen it, or nobody waits

        task.add_done_callback(land)
        return flight

    async def stop(self) -> None:
        """Cancel all and wait until they have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
