"""Connections for those who have a permit of the gate and have found none idle: one that comes back, or a new one.

Whoever asks here holds a permit, which goes with the connection, and is given back where there is to be none. What
comes back is handed out by the pool, to whoever is `expecting` it; how one is opened is the roster's to know.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from sqlhttp_gateway.errors import DatabaseMissing, GatewayError, PasswordFailed, ShuttingDown
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget, Claim
from sqlhttp_gateway.pools.gate import Gate, is_fulfilled
from sqlhttp_gateway.pools.line import Line, Place, Turn
from sqlhttp_gateway.pools.opener import Password
from sqlhttp_gateway.pools.roster import Roster

_RETURNING_WAIT = 0.02
"""Seconds that a request waits for a scrub to end before it opens a connection; a scrub takes some 50 µs."""


class Arrivals:
    """Those of one pool."""

    def __init__(
        self,
        key: PoolKey,
        roster: Roster,
        gate: Gate[Backend],
        *,
        budget: Budget,
        breaker: Breaker | None,
        returning: Mapping[Backend, object],
        release: Callable[[Backend], None],
    ) -> None:
        """`returning` are the connections whose scrub is under way; `release` takes one that nobody here wants."""
        self._key = key
        self._roster = roster
        self._gate = gate
        self._budget = budget
        self._breaker = breaker
        self._returning = returning
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self.expecting: Line[str] = Line()
        """Who takes the next connection that comes back."""
        self.reserving: dict[Turn, float] = {}
        """Who waits for its share of the budget, and since when."""

    def refuse(self, error: GatewayError) -> None:
        """Let all who wait for their share of the budget fail with `error`."""
        for turn in self.reserving:
            if not turn.done():
                turn.set_exception(error)

    def stop(self) -> None:
        """Open none any more."""
        self._stopped = True
        self.refuse(shutting_down())

    async def returned(self, tenant: str) -> Backend | None:
        """A connection whose scrub is under way, if there is one to spare: it is free long before a new one is open.

        None, and the permit stays, where none has come.
        """
        if len(self._returning) <= len(self.expecting):
            return None
        turn: asyncio.Future[Any] = self._loop.create_future()
        expiry = self._loop.call_later(_RETURNING_WAIT, _fulfil, turn)
        try:
            return await self._receive(turn, self._loop.time(), tenant)
        finally:
            expiry.cancel()

    async def open(
        self, password: Password, timeout: float, *, tenant: str = "", takes_returned: bool = True
    ) -> Backend:
        """Open a connection, within `timeout` seconds for its share of the budget.

        As long as the budget has no room, a connection that comes back will do as well, unless `takes_returned` is
        false.

        Raises:
            ShuttingDown, TargetDown: none is opened just now.
            WaitTimeout: the budget had no room in time.
            GatewayError: whatever `connect` raises.
        """
        if self._stopped:
            self._gate.leave()
            raise shutting_down()
        if self._breaker is not None and self._breaker.is_open:
            self._gate.leave()
            raise self._breaker.refusal()
        if not self._budget.try_reserve(self._key):
            backend = await self._await_budget(timeout, tenant, takes_returned=takes_returned)
            if backend is not None:
                return backend
        return await self._open_reserved(password)

    async def warm(self) -> None:
        """Open one ahead of need, with the password that was proven last; its share of the budget is reserved."""
        try:
            self._release(await self._open_reserved(lambda: self._roster.secret))
        except (PasswordFailed, DatabaseMissing):
            # Changed or dropped meanwhile: wait for a caller who knows the new one, or for whom there is one again.
            self._roster.secret = b""
        except GatewayError:
            pass  # the next caller will be told, and the next sweep tries again

    async def _receive(self, turn: asyncio.Future[Any], since: float, tenant: str) -> Backend | None:
        """The next connection that comes back; or None, once someone else has fulfilled `turn`."""
        self.expecting.join(turn, Place(tenant, since, math.inf))
        try:
            backend: Backend | None = await turn
        except BaseException:
            if is_fulfilled(turn) and turn.result() is not None:
                self._release(turn.result())  # it came in the tick of the cancellation; it takes the permit along
            else:
                self._gate.leave()
            raise
        finally:
            self.expecting.leave(turn)
        return backend

    async def _await_budget(self, timeout: float, tenant: str, *, takes_returned: bool) -> Backend | None:
        """A unit of the budget, or a connection of this pool that comes back sooner."""
        turn: asyncio.Future[Any] = self._loop.create_future()
        self.reserving[turn] = since = self._loop.time()
        self._budget.wait(turn, Claim(self._key, tenant), since, timeout)
        try:
            if takes_returned:
                return await self._receive(turn, since, tenant)
            try:
                await turn
            except BaseException:
                self._gate.leave()
                raise
            return None
        except asyncio.CancelledError:
            if is_fulfilled(turn) and turn.result() is None:
                self._budget.give_back(self._key)  # the unit came in the tick of the cancellation
            raise
        finally:
            self._budget.leave(turn)
            del self.reserving[turn]

    async def _open_reserved(self, password: Password) -> Backend:
        """The same, once the budget has room for it."""
        opening = self._loop.create_task(self._roster.open(password))
        try:
            # A log-in cannot be stopped half-way without losing count: it goes on, and ends in the pool.
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done():
                self._settle(opening)
            else:
                opening.add_done_callback(self._settle)
            raise

    def _settle(self, opening: "asyncio.Task[Backend]") -> None:
        """An opening whose caller has gone: keep the connection, or give the permit back."""
        if opening.cancelled() or opening.exception() is not None:
            self._gate.leave()
        else:
            self._release(opening.result())


def shutting_down() -> ShuttingDown:
    """What is told of a pool that lends no more."""
    return ShuttingDown("the gateway is shutting down", retry_after=1)


def _fulfil(turn: asyncio.Future[Any]) -> None:
    """Nothing came."""
    if not turn.done():
        turn.set_result(None)
