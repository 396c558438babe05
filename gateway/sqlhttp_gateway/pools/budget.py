"""The bound over all pools: how many connections may exist at once, and who gives one up for another.

A connection holds one unit from before it is opened until Postgres has closed it. When none is left, the pool with the
longest-idle connection is asked to close that one; when no connection is idle anywhere, the request waits in line.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlhttp_gateway.errors import WaitTimeout
from sqlhttp_gateway.pools.deadlines import Deadlines

Turn = asyncio.Future[Any]
"""A place in line. The budget fulfils it with None, which means a unit; its owner may fulfil it with something else."""


class Budget:
    """At most `limit` connections over all pools; units are handed on in order of arrival."""

    __slots__ = ("_evict", "_expiries", "_limit", "_loop", "_used", "_waiters")

    def __init__(self, limit: int, evict: Callable[[], bool]) -> None:
        """`evict` begins to close the longest-idle connection of any pool and says whether there was one."""
        self._limit = limit
        self._used = 0
        self._evict = evict
        self._loop = asyncio.get_running_loop()
        self._expiries: Deadlines[Turn] = Deadlines(self._loop, self._expire)
        self._waiters: dict[Turn, tuple[float, float]] = {}
        """In order of arrival: when the wait began, and for how many seconds it may last."""

    @property
    def used(self) -> int:
        """Units taken, which is the number of connections that exist or are being opened or closed."""
        return self._used

    @property
    def waiting_since(self) -> float | None:
        """When the first in line came, on the loop's clock; None when nobody waits."""
        for turn, (since, _) in self._waiters.items():
            if not turn.done():
                return since
        return None

    def try_reserve(self) -> bool:
        """Take a unit if that overtakes nobody; `give_back` returns it."""
        if self._used < self._limit and self.waiting_since is None:
            self._used += 1
            return True
        return False

    def wait(self, turn: Turn, since: float, timeout: float) -> None:
        """Stand in line since a moment on the loop's clock. An idle connection, if there is one, has to make room.

        After `timeout` seconds `turn` gets a WaitTimeout. `leave` has to follow whatever comes of it.
        """
        self._waiters[turn] = since, timeout
        self._expiries.set(turn, since + timeout)
        self._evict()

    def leave(self, turn: Turn) -> None:
        """Stand in line no longer."""
        self._waiters.pop(turn, None)
        self._expiries.drop(turn)

    def give_back(self) -> None:
        """A connection is gone: its unit goes to the first in line, if there is one."""
        while self._waiters:
            turn = next(iter(self._waiters))
            del self._waiters[turn]
            if not turn.done():
                turn.set_result(None)
                return
        self._used -= 1

    def _expire(self, turn: Turn) -> None:
        if turn.done() or turn not in self._waiters:
            return
        _, timeout = self._waiters.pop(turn)
        turn.set_exception(
            WaitTimeout(
                f"no connection came free within {round(timeout, 3):g} s: all {self._limit} of this gateway "
                "are in use (pool.max_total)",
                hint="Try again after the seconds in Retry-After, or raise pool.max_total.",
                retry_after=1,
            )
        )
