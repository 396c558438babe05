"""Many deadlines for the price of one timer.

Nearly every deadline on the path of a request is dropped again before it comes, so that a timer for each would be work
for nothing: here setting and dropping one is an entry in a dictionary, and a single timer looks after the earliest.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `expire(item)` when the deadline of an item has come; times are the loop's."""

    __slots__ = ("_entries", "_expire", "_loop", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[T], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._entries: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def set(self, item: T, when: float) -> None:
        """Let the deadline of `item` be `when`, whatever it was."""
        self._entries[item] = when
        if self._timer is None or when < self._when:
            self._arm(when)

    def drop(self, item: T) -> None:
        """Forget `item`, if it is known."""
        # The timer stays: it finds nothing, and the next item saves arming it.
        self._entries.pop(item, None)

    def close(self) -> None:
        """Forget all."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = [item for item, when in self._entries.items() if when <= now]
        for item in due:
            del self._entries[item]
        if self._entries:
            self._arm(min(self._entries.values()))
        for item in due:
            self._expire(item)
