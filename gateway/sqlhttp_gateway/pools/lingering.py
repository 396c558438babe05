"""Connections that stay a moment with whoever used them last: a tunnel's next transaction then needs no hand-over.

Giving a connection back costs a scrub, and taking the next one costs setting the session's parameters on it; together
that is more than a short transaction. So who has ended a transaction may linger on its connection, clean or not, until
somebody else wants one or a short time is over. Whoever lingers has the lease still; it gives that back when told to.
"""

import asyncio
from typing import Protocol


class Holder(Protocol):
    """Who lingers."""

    def let_go(self) -> None:
        """Give the connection back, now."""


class Lingering:
    """Holders with the connections that they do not use, those that have lingered longest first."""

    __slots__ = ("_loop", "_seconds", "_timer", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.since: dict[Holder, float] = {}
        """Who lingers, and since when; to be read only."""
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.since)

    def enter(self, holder: Holder, seconds: float) -> None:
        """`holder` begins to linger, for so long at most, which is the same for all."""
        self.since[holder] = self._loop.time()
        self._seconds = seconds
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._look)

    def leave(self, holder: Holder) -> None:
        """`holder` uses its connection again, or has given it back."""
        self.since.pop(holder, None)

    def reclaim(self, *, older_than: float = 0.0) -> bool:
        """Have the one that has lingered longest let go, if that is `older_than` so many seconds; whether one did."""
        for holder, since in self.since.items():
            if older_than and self._loop.time() - since < older_than:
                return False
            del self.since[holder]
            holder.let_go()
            return True
        return False

    def reclaim_all(self) -> None:
        """Have everybody let go."""
        while self.reclaim():
            pass

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self.since:
            since = next(iter(self.since.values()))
            if since + self._seconds > now:
                self._timer = self._loop.call_at(since + self._seconds, self._look)
                return
            self.reclaim()
