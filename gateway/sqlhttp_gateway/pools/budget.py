"""The bound over all pools: how many connections may exist at once, and who gives one up for another.

A connection holds one unit from before it is opened until Postgres has closed it. When none is left, the pool with the
longest-idle connection is asked to close that one; when no connection is idle anywhere, the request waits in line. A
unit that comes free goes to the pool that has the fewest, so that one role's crowd leaves the others their share.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import NamedTuple

from sqlhttp_gateway.errors import WaitTimeout
from sqlhttp_gateway.pools.deadlines import Deadlines
from sqlhttp_gateway.pools.line import Line, Place, Turn

_LAST_ONE_AFTER = 0.05
"""Seconds that a pool without any connection waits until another with waiters gives up its only one: two that took it
from each other for every request would do nothing but open connections."""


class Claim(NamedTuple):
    """Whose turn it is in this line."""

    pool: Hashable
    tenant: str


class Budget:
    """At most `limit` connections over all pools.

    Whoever waits gets None from its turn, which means a unit; the owner of the turn may fulfil it with something else.
    """

    __slots__ = ("_evict", "_expiries", "_held", "_limit", "_line", "_loop", "_used")

    def __init__(self, limit: int, evict: Callable[[], bool]) -> None:
        """`evict` begins to close the longest-idle connection of any pool and says whether there was one."""
        self._limit = limit
        self._used = 0
        self._held: dict[Hashable, int] = {}
        """Units by pool; never a 0."""
        self._evict = evict
        self._loop = asyncio.get_running_loop()
        self._expiries: Deadlines[Turn] = Deadlines(self._loop, self._expire)
        self._line: Line[Claim] = Line()

    @property
    def used(self) -> int:
        """Units taken, which is the number of connections that exist or are being opened or closed."""
        return self._used

    @property
    def is_tight(self) -> bool:
        """Somebody waits, or there are more connections than there may be now."""
        return bool(self._line.places) or self._used > self._limit

    @property
    def waiting_since(self) -> float | None:
        """When the first in line came, on the loop's clock; None when nobody waits."""
        return self._line.since

    def resize(self, limit: int) -> None:
        """Allow another number; when that is less, connections are closed as they come free."""
        self._limit = limit
        while self._used < self._limit:
            if not self._pass_on():
                return

    def try_reserve(self, pool: Hashable) -> bool:
        """Take a unit if that overtakes nobody; `give_back` returns it."""
        if self._used < self._limit and self.waiting_since is None:
            self._take(pool)
            return True
        return False

    def wait(self, turn: Turn, claim: Claim, since: float, timeout: float) -> None:
        """Stand in line since a moment on the loop's clock. An idle connection, if there is one, has to make room.

        After `timeout` seconds `turn` gets a WaitTimeout. `leave` has to follow whatever comes of it.
        """
        self._line.join(turn, Place(claim, since, timeout))
        self._expiries.set(turn, since + timeout)
        self._evict()

    def leave(self, turn: Turn) -> None:
        """Stand in line no longer."""
        self._line.leave(turn)
        self._expiries.drop(turn)

    def give_back(self, pool: Hashable) -> None:
        """A connection of `pool` is gone: its unit goes to whose turn it is, if anybody waits."""
        self._used -= 1
        held = self._held[pool] - 1
        if held:
            self._held[pool] = held
        else:
            del self._held[pool]
        if self._used < self._limit:
            self._pass_on()

    def owes(self, pool: Hashable, since: float | None) -> bool:
        """Whether a connection of `pool` that has come free is due to another pool.

        `since` is when the first of its own that waits for one came, on the loop's clock; None: nobody does.
        """
        if self._used > self._limit:
            return True
        now = self._loop.time()
        mine = self._held.get(pool, 0)
        for place in self._line.firsts():
            if since is None or place.since < since:
                return True
            theirs = place.tenant.pool
            if theirs == pool:
                continue  # what comes free is as good to it as a unit
            held = self._held.get(theirs, 0)
            if mine >= held + 2:
                return True
            if not held and now - place.since > _LAST_ONE_AFTER:
                return True
        return False

    # ── inside ──

    def _take(self, pool: Hashable) -> None:
        self._used += 1
        self._held[pool] = self._held.get(pool, 0) + 1

    def _pass_on(self) -> bool:
        """Give one unit to the pool with the fewest of those that wait; among equals, to whose turn it is."""
        claims = [place.tenant for place in self._line.firsts()]
        if not claims:
            return False
        claim = min(claims, key=lambda each: self._held.get(each.pool, 0))
        turn = self._line.take(claim)
        assert turn is not None
        self._take(claim.pool)
        turn.set_result(None)
        return True

    def _expire(self, turn: Turn) -> None:
        place = self._line.leave(turn)
        if place is None or turn.done():
            return
        turn.set_exception(
            WaitTimeout(
                f"no connection came free within {round(place.timeout, 3):g} s: all {self._limit} of this gateway "
                "are in use (pool.max_total)",
                hint="Try again after the seconds in Retry-After, or raise pool.max_total.",
                retry_after=1,
            )
        )
