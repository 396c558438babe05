"""Admission in front of a pool: a number of permits, and a line for those who wait, fair between tenants.

Knows nothing of Postgres. A waiter that gives up, by cancellation or by its deadline, costs nothing and loses nothing:
a permit that reached it in the same tick is passed on. In a paused gate nobody is served and nobody's time passes.
Whoever gives a permit back may give something along, which is then the next one's.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from sqlhttp_gateway.errors import GatewayError, QueueFull, ShuttingDown, WaitTimeout
from sqlhttp_gateway.pools.line import Line, Place, Turn

T = TypeVar("T")
K = TypeVar("K")


class Gate(Generic[T]):
    """At most `permits` holders at a time; the others wait, one queue for each tenant, served in turn."""

    __slots__ = (
        "_admits",
        "_free",
        "_line",
        "_loop",
        "_max_waiting",
        "_name",
        "_pause_limit",
        "_paused_at",
        "_permits",
        "_places",
        "_stood_still",
        "_stopped",
        "_take_back",
        "_timer",
        "_timer_at",
    )

    def __init__(
        self,
        permits: int,
        *,
        max_waiting: int,
        name: str,
        pause_limit: float = 60.0,
        take_back: Callable[[T], None] | None = None,
    ) -> None:
        """`name` stands in messages; it says what the permits are for. A waiter's time stands still for at most
        `pause_limit` seconds. `take_back` gets what came along with a permit for one who is not there any more, and
        has to give back both.
        """
        self._permits = permits
        self._free = permits
        """Below 0 as long as more permits are held than there are, after a `resize`."""
        self._max_waiting = max_waiting
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        """For the first of all deadlines, or one that was earlier; one look at the line then is cheaper than dropping a
        deadline whenever somebody is served."""
        self._timer_at = 0.0
        self._line: Line[str] = Line()
        self._places = self._line.places
        """Its times are the loop's less all pauses: who waits for `resume` does not grow older."""
        self._pause_limit = pause_limit
        self._paused_at: float | None = None
        self._stood_still = 0.0
        """Seconds of all pauses that are over."""
        self._stopped = False
        self._admits = True
        """Neither stopped nor paused."""
        self._take_back = take_back

    @property
    def in_use(self) -> int:
        """Permits that are held."""
        return self._permits - self._free

    @property
    def is_over(self) -> bool:
        """More permits are held than there are now."""
        return self._free < 0

    @property
    def has_room(self) -> bool:
        """Whether one who comes now need not wait."""
        return self._free > 0 and not self._line and self._admits

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    @property
    def waiting_since(self) -> float | None:
        """When the first in line came, on the loop's clock, later by any pause since; None when nobody waits."""
        since = self._line.since
        return None if since is None else since + self.stood_still

    @property
    def is_paused(self) -> bool:
        """Whether everybody has to wait for `resume`."""
        return self._paused_at is not None

    @property
    def stood_still(self) -> float:
        """Seconds that this gate has been paused, all pauses together."""
        if self._paused_at is None:
            return self._stood_still
        return self._stood_still + self._loop.time() - self._paused_at

    def try_enter(self) -> bool:
        """Take a permit if that overtakes nobody."""
        # With waiters in line a free permit is already on its way to the first of them.
        if self._free > 0 and not self._places and self._admits:
            self._free -= 1
            return True
        return False

    def try_keep(self) -> bool:
        """Take a permit that nobody has a right to, in a paused gate, too: to close what stands behind it."""
        if self._free > 0 and not self._stopped and (self._paused_at is not None or not self._line):
            self._free -= 1
            return True
        return False

    async def enter(self, timeout: float, tenant: str = "") -> T | None:
        """Take a permit, waiting in line for it among the requests of `tenant`; `leave` gives it back.

        Answers what the one before gave along, if anything.

        Raises:
            QueueFull: `max_waiting` others already wait.
            WaitTimeout: no permit came free within `timeout` seconds.
            ShuttingDown: the gate was stopped.
        """
        if self.try_enter():
            return None
        turn: asyncio.Future[T | None] = self._loop.create_future()
        self.stand(turn, timeout, tenant=tenant)
        try:
            return await turn
        except asyncio.CancelledError:
            self.give_up(turn)
            if is_fulfilled(turn):
                given = turn.result()  # the permit arrived in the tick of the cancellation
                if given is None or self._take_back is None:
                    self.leave()
                else:
                    self._take_back(given)
            raise

    def stand(self, turn: Turn, timeout: float, *, tenant: str = "") -> float:
        """`enter` for one that does not wait itself: `turn` is told what `enter` answers, or raises.

        Answers the deadline, in the gate's time: the loop's less what `stood_still`.

        Raises:
            QueueFull, ShuttingDown: as `enter`; `turn` is told nothing then.
        """
        if self._stopped:
            raise ShuttingDown("the gateway is shutting down", retry_after=1)
        now = self._loop.time()
        if self._paused_at is None:
            since, until = now - self._stood_still, now + timeout
        else:
            since, until = now - self.stood_still, now + self._pause_limit
        if not self._places and self.try_enter():
            turn.set_result(None)
            return since + timeout
        if len(self._places) >= self._max_waiting:
            self._make_room(tenant)
        self._line.join(turn, _new(Place, (tenant, since, timeout, until)))
        if self._timer is None or until < self._timer_at:
            self._look_at(until)
        return since + timeout

    def give_up(self, turn: Turn) -> None:
        """Stand in line no more. A permit that `turn` was told of is its own to give back."""
        self._line.leave(turn)

    def leave(self) -> None:
        """Give a permit back: to whose turn it is, if anybody waits."""
        turn = self.pass_on()
        if turn is not None:
            turn.set_result(None)

    def pass_on(self) -> Turn | None:
        """`leave`, but the next in line has still to be told, by the caller, with what is given along."""
        if self._places and self._free >= 0 and self._paused_at is None:
            turn = self._line.next()
            if turn is not None:
                return turn
        self._free += 1
        return None

    def pass_on_to(self, kind: type[K]) -> K | None:
        """`pass_on`, if the next in line is of this kind; else nothing happens, and the permit is still held."""
        if self._places and self._free >= 0 and self._paused_at is None:
            turn = self._line.peek()
            if isinstance(turn, kind):
                self._line.next()
                return turn
        return None

    def resize(self, permits: int, *, max_waiting: int, pause_limit: float | None = None) -> None:
        """Have another number of permits. When that is less, those that are held stay valid until they come back.

        Another `pause_limit` holds for who comes after this, and from the next pause on.
        """
        if pause_limit is not None:
            self._pause_limit = pause_limit
        self._free += permits - self._permits
        self._permits = permits
        self._max_waiting = max_waiting
        self._serve()

    def pause(self) -> None:
        """Serve nobody until `resume`. Permits that are held stay valid."""
        if self._paused_at is None:
            self._paused_at = now = self._loop.time()
            self._admits = False
            self._postpone({turn: now + self._pause_limit for turn in self._line})

    def resume(self) -> None:
        """Serve again; those who waited through the pause have as much time left as they had."""
        if self._paused_at is None:
            return
        self._stood_still = self.stood_still
        self._paused_at = None
        self._admits = not self._stopped
        places = self._places.items()
        self._postpone({turn: place.since + place.timeout + self._stood_still for turn, place in places})
        self._serve()

    def stop(self) -> None:
        """Refuse all who wait and all who come; permits that are held stay valid."""
        self._stopped = True
        self._admits = False
        self.refuse_waiters(ShuttingDown("the gateway is shutting down", retry_after=1))

    def refuse_waiters(self, error: GatewayError) -> None:
        """Let everyone in line fail with `error`."""
        for turn in self._line.clear():
            if not turn.done():
                turn.set_exception(error)

    # ── inside ──

    def _serve(self) -> None:
        """Give what is free to those whose turn it is."""
        while self._free > 0 and self._places and self._paused_at is None:
            turn = self._line.next()
            if turn is None:
                return
            self._free -= 1
            turn.set_result(None)

    def _postpone(self, moments: dict[Turn, float]) -> None:
        """Let those in line wait until these."""
        for turn, until in moments.items():
            self._line.postpone(turn, until)
        if moments:
            self._look_at(min(moments.values()))

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Refuse those whose deadline has come."""
        self._timer = None
        now = self._loop.time()
        due = [turn for turn, place in self._places.items() if place.until <= now]
        later = [place.until for place in self._places.values() if place.until > now]
        if later:
            self._look_at(min(later))
        for turn in due:
            self._expire(turn)

    def _make_room(self, tenant: str) -> None:
        """In a full line the last of the longest queue gives way to one whose tenant has fewer in it.

        Else one tenant could fill the line, and all others would be refused at its end.

        Raises:
            QueueFull: the newcomer's own queue is as long as any.
        """
        last = self._line.last_of_longest()
        if last is not None:
            longest = self._line.place(last).tenant
            if self._line.length(longest) > self._line.length(tenant) + 1:
                error = self._full(self._line.length(longest))
                self.give_up(last)
                if not last.done():
                    last.set_exception(error)
                return
        raise self._full(self._line.length(tenant))

    def _full(self, own: int) -> QueueFull:
        whose = "" if own == len(self._line) else f" ({own} of them this tenant's)"
        return QueueFull(
            f"the wait queue of {self._name} is full: {len(self._line)} requests wait{whose} "
            f"for {self._permits} connections (pool.max_waiting is {self._max_waiting})",
            hint="Try again after the seconds in Retry-After, or raise pool.max_size or pool.max_waiting.",
            retry_after=1,
        )

    def _expire(self, turn: Turn) -> None:
        if turn.done() or turn not in self._line:
            return
        line = self._line
        place = line.place(turn)
        ahead, own = line.ahead(turn), line.length(place.tenant)
        line.leave(turn)
        if self._paused_at is not None:
            turn.set_exception(
                WaitTimeout(
                    f"{self._name} is paused, and was not resumed within {self._pause_limit:g} s (pool.pause_limit)",
                    hint="Try again after the seconds in Retry-After.",
                    retry_after=1,
                )
            )
            return
        others = len(line) - own + 1
        beside = f"; {others} of other tenants wait, too" if others else ""
        turn.set_exception(
            WaitTimeout(
                f"no connection of {self._name} came free within {round(place.timeout, 3):g} s: "
                f"all {self._permits} are in use, {ahead} requests were ahead and {own - ahead - 1} behind{beside}",
                hint="Try again after the seconds in Retry-After, or raise pool.max_size or pool.wait_timeout.",
                retry_after=1,
            )
        )


def is_fulfilled(turn: "asyncio.Future[Any]") -> bool:
    """Whether it was told what it waited for, which then is somebody's to look after, though the waiter may be gone."""
    return turn.done() and not turn.cancelled() and turn.exception() is None


_new: Final = tuple.__new__
"""What the constructor of a NamedTuple calls, in a third of its time."""
