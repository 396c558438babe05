"""The bound over all pools: how many connections may exist at once, and who gives one up for another.

A connection holds one unit from before it is opened until Postgres has closed it. When none is left, the pool with the
longest-idle connection is asked to close that one; when no connection is idle anywhere, the request waits in line.
"""

import asyncio
from collections.abc import Callable

from sqlhttp_gateway.errors import WaitTimeout


class Budget:
    """At most `limit` connections over all pools; units are handed on in order of arrival."""

    __slots__ = ("_evict", "_limit", "_used", "_waiters")

    def __init__(self, limit: int, evict: Callable[[], bool]) -> None:
        """`evict` begins to close the longest-idle connection of any pool and says whether there was one."""
        self._limit = limit
        self._used = 0
        self._evict = evict
        self._waiters: dict[asyncio.Future[None], float] = {}

    @property
    def used(self) -> int:
        """Units taken, which is the number of connections that exist or are being opened or closed."""
        return self._used

    @property
    def waiting_since(self) -> float | None:
        """When the first in line came, on the loop's clock; None when nobody waits."""
        return next(iter(self._waiters.values()), None)

    async def reserve(self, timeout: float) -> None:
        """Take a unit, waiting for one; `give_back` returns it.

        Raises:
            WaitTimeout: no unit came free within `timeout` seconds.
        """
        if self._used < self._limit and not self._waiters:
            self._used += 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        expiry = loop.call_later(timeout, self._expire, turn, timeout)
        self._waiters[turn] = loop.time()
        self._evict()
        try:
            await turn
        except asyncio.CancelledError:
            self._waiters.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()
            raise
        finally:
            expiry.cancel()

    def give_back(self) -> None:
        """A connection is gone: its unit goes to the first in line, if there is one."""
        while self._waiters:
            turn = next(iter(self._waiters))
            del self._waiters[turn]
            if not turn.done():
                turn.set_result(None)
                return
        self._used -= 1

    def _expire(self, turn: asyncio.Future[None], timeout: float) -> None:
        self._waiters.pop(turn, None)
        if not turn.done():
            turn.set_exception(
                WaitTimeout(
                    f"no connection came free within {timeout:g} s: all {self._limit} of this gateway "
                    "are in use (pool.max_total)",
                    hint="Try again after the seconds in Retry-After, or raise pool.max_total.",
                    retry_after=1,
                )
            )
