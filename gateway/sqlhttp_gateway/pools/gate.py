"""Admission in front of a pool: a fixed number of permits, and one queue for those who wait.

Knows nothing of Postgres. A waiter that gives up, by cancellation or by its deadline, costs nothing and loses nothing:
a permit that reached it in the same tick is passed on.
"""

import asyncio

from sqlhttp_gateway.errors import GatewayError, QueueFull, ShuttingDown, WaitTimeout
from sqlhttp_gateway.pools.deadlines import Deadlines

_Wait = tuple[float, float]
"""When it began, on the loop's clock, and for how many seconds it may last."""


class Gate:
    """At most `permits` holders at a time; the others wait and are served strictly first in, first out."""

    __slots__ = ("_expiries", "_free", "_loop", "_max_waiting", "_name", "_permits", "_stopped", "_waiters")

    def __init__(self, permits: int, *, max_waiting: int, name: str) -> None:
        """`name` stands in messages; it says what the permits are for."""
        self._permits = permits
        self._free = permits
        self._max_waiting = max_waiting
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._expiries = Deadlines(self._loop, self._expire)
        self._waiters: dict[asyncio.Future[None], _Wait] = {}  # in order of arrival
        self._stopped = False

    @property
    def in_use(self) -> int:
        """Permits that are held."""
        return self._permits - self._free

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiters)

    @property
    def waiting_since(self) -> float | None:
        """When the first in the queue came, on the loop's clock; None when nobody waits."""
        for since, _ in self._waiters.values():
            return since
        return None

    def try_enter(self) -> bool:
        """Take a permit if that overtakes nobody."""
        # With waiters in the queue a free permit is already on its way to the first of them.
        if self._free and not self._waiters and not self._stopped:
            self._free -= 1
            return True
        return False

    async def enter(self, timeout: float) -> None:
        """Take a permit, waiting in line for it; `leave` gives it back.

        Raises:
            QueueFull: `max_waiting` others already wait.
            WaitTimeout: no permit came free within `timeout` seconds.
            ShuttingDown: the gate was stopped.
        """
        if self._stopped:
            raise ShuttingDown("the gateway is shutting down", retry_after=1)
        if self.try_enter():
            return
        if len(self._waiters) >= self._max_waiting:
            raise QueueFull(
                f"the wait queue of {self._name} is full: {len(self._waiters)} requests wait "
                f"for {self._permits} connections (pool.max_waiting is {self._max_waiting})",
                hint="Try again after the seconds in Retry-After, or raise pool.max_size or pool.max_waiting.",
                retry_after=1,
            )
        turn: asyncio.Future[None] = self._loop.create_future()
        now = self._loop.time()
        self._waiters[turn] = now, timeout
        self._expiries.set(turn, now + timeout)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiters.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # the permit arrived in the tick of the cancellation
            raise
        finally:
            self._expiries.drop(turn)

    def leave(self) -> None:
        """Give a permit back: to the first in the queue, if there is one."""
        while self._waiters:
            turn = next(iter(self._waiters))
            del self._waiters[turn]
            if not turn.done():  # done but still here: cancelled in this tick
                turn.set_result(None)
                return
        self._free += 1

    def stop(self) -> None:
        """Refuse all who wait and all who come; permits that are held stay valid."""
        self._stopped = True
        self.refuse_waiters(ShuttingDown("the gateway is shutting down", retry_after=1))

    def refuse_waiters(self, error: GatewayError) -> None:
        """Let everyone in the queue fail with `error`."""
        waiters, self._waiters = self._waiters, {}
        for turn in waiters:
            if not turn.done():
                turn.set_exception(error)

    def _expire(self, turn: asyncio.Future[None]) -> None:
        if turn.done() or turn not in self._waiters:
            return
        ahead = list(self._waiters).index(turn)
        _, timeout = self._waiters.pop(turn)
        turn.set_exception(
            WaitTimeout(
                f"no connection of {self._name} came free within {round(timeout, 3):g} s: "
                f"all {self._permits} are in use, {ahead} requests were ahead and {len(self._waiters) - ahead} behind",
                hint="Try again after the seconds in Retry-After, or raise pool.max_size or pool.wait_timeout.",
                retry_after=1,
            )
        )
