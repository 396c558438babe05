"""The connections of one (target, database, role): who has which, who waits, and when one may be opened or is too many.

A permit of the gate stands for the right to one connection. It is held from `acquire` until the connection is clean
and idle again, or until Postgres has closed it, so that the number of backends never passes the bound, not even while
one dies and the next is born.
"""

import asyncio
import math
import ssl
from collections.abc import Coroutine, Hashable, Mapping
from typing import Any, Protocol

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Closed, Observer
from sqlhttp_gateway.model import ArrayType, PoolKey
from sqlhttp_gateway.pools.arrivals import Arrivals
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.deadlines import Deadlines
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.line import Turn
from sqlhttp_gateway.pools.lingering import Lingering
from sqlhttp_gateway.pools.opener import Password
from sqlhttp_gateway.pools.roster import Roster, age
from sqlhttp_gateway.pools.taker import Taker
from sqlhttp_gateway.pools.targets import Upstream

_FRESH = 0.002
"""Seconds after a transaction within which the next one of the same program is likely to come."""
_STATEMENTS_AGE_EVERY = 5.0
"""Seconds from which on, up to twice as many, a statement with parameters is parsed anew: see `Statements.age`."""
_RETURN_TIMEOUT = 30.0
"""Seconds after which a connection that does not come clean is dropped; a network that swallows packets does that."""


class Overdue(Hashable, Protocol):
    """What runs on a connection and may run too long."""

    def deadline_passed(self) -> None:
        """Its time is over."""


class Pool:
    """At most `upstream.pool.max_size` connections, lent one holder at a time."""

    def __init__(
        self,
        key: PoolKey,
        upstream: Upstream,
        budget: Budget,
        observe: Observer,
        breaker: Breaker | None = None,
        *,
        cancel_timeout: float = 5.0,
    ) -> None:
        """`cancel_timeout` is how long a lease waits, in seconds, until what it has cancelled is over."""
        settings = upstream.pool
        self.cancel_timeout = cancel_timeout
        self.observe = observe
        self.key = key
        self._roster = Roster(key, upstream, budget, observe, breaker, on_lost=self._lost)
        self.gate: Gate[Backend] = Gate(
            settings.max_size,
            max_waiting=settings.max_waiting,
            name=f"database {key.database}, role {key.role}",
            pause_limit=settings.pause_limit,
            take_back=self.release,
        )
        self.array_types: dict[int, ArrayType | None] = {}
        """Array types that the catalog was asked for; None is a type that is no array."""
        self.returning: dict[Backend, float] = {}
        """Connections whose holder is done and whose scrub is not, and since when, on the loop's clock."""
        self.leased: dict[Backend, float] = {}
        """Connections in use, and since when, on the loop's clock; kept by their leases."""
        self.loop = asyncio.get_running_loop()
        self.overdue: Deadlines[Overdue] = Deadlines(self.loop, lambda statement: statement.deadline_passed())
        """The statements that run here, and when the gateway's own clock ends them."""
        self.lingering = Lingering(self.loop)
        """Tunnels that keep a connection which they do not use, and which is had for the asking."""
        self._settings = settings
        self._budget = budget
        self._idle: list[Backend] = []
        self._arrivals = Arrivals(
            key,
            self._roster,
            self.gate,
            budget=budget,
            breaker=breaker,
            returning=self.returning,
            release=self.release,
        )
        self._expecting = self._arrivals.expecting
        self.last_used = -math.inf
        """When a connection was last given back; a pool that never had one is soon forgotten, whoever asked for it."""
        self._statements_aged_at = self.loop.time()
        self._draining = False
        self._turns_away = ""
        """Why a connection that comes back is not kept, as long as none is."""
        self.breaker = breaker
        """What is known of the server's being there; None: nothing."""
        self.is_retired = False
        """The registry knows it no more; it may have no connection as long as that is so."""

    @property
    def upstream(self) -> Upstream:
        """The server, and how it is used."""
        return self._roster.opener.upstream

    @property
    def opening(self) -> int:
        """Connections on their way."""
        return self._roster.opener.under_way

    @property
    def reserving(self) -> Mapping[Turn, float]:
        """Who has a permit and waits for its share of the budget, and since when."""
        return self._arrivals.reserving

    @property
    def idle(self) -> int:
        """Connections that wait to be lent."""
        return len(self._idle)

    @property
    def idle_backends(self) -> list[Backend]:
        """The same, one by one."""
        return self._idle[:]

    @property
    def is_unused(self) -> bool:
        """No connection, no holder, nobody waiting."""
        return not self._idle and not self.gate.in_use and not self.gate.waiting and not self._roster.tasks

    @property
    def oldest_idle_since(self) -> float | None:
        """When the connection that is idle longest was given back, on the loop's clock."""
        return self._idle[0].idle_since if self._idle else None

    def try_acquire(self) -> Backend | None:
        """A connection, if one is idle and nobody waits. Never waits itself."""
        if not self._idle or not self.gate.try_enter():
            return None
        backend = self._idle.pop()  # the one used last, since its caches are warm
        if backend.closing:
            self.discard(backend, "lost")  # the permit stands for it until Postgres has closed it
            return None
        return backend

    async def acquire(self, password: Password, *, timeout: float | None = None, tenant: str = "") -> Backend:
        """A connection, waiting for one and opening it if need be, within `timeout` or `pool.wait_timeout` seconds.

        `release` or `discard` gives it back. `password` is asked for only when a connection has to be opened. Those
        who wait are served by their tenants' turns.

        Raises:
            QueueFull, WaitTimeout, ShuttingDown: there is none to be had.
            TargetDown: none can be opened just now.
            GatewayError: whatever `connect` raises when a new one cannot be opened.
        """
        timeout = self._settings.wait_timeout if timeout is None else timeout
        self._make_way()
        deadline = self.loop.time() - self.gate.stood_still + timeout
        await self._enter(timeout, tenant)
        return await self.acquire_admitted(password, deadline=deadline, tenant=tenant)

    def stand(self, turn: Turn) -> float:
        """Stand in line for a connection without waiting oneself: `turn` is told a connection, or None with a permit.

        In the second case `take` is what follows, and `acquire_admitted`, by the deadline that this answers, where that
        gives nothing; or `gate.leave`. Who wants to wait no longer has `gate.give_up`.

        Raises:
            QueueFull, ShuttingDown, TargetDown: as `acquire`; `turn` is told nothing then.
        """
        if self._idle:
            return self.gate.stand(turn, self._settings.wait_timeout)
        self._refuse_if_down()
        deadline = self.gate.stand(turn, self._settings.wait_timeout)
        self._reclaim()  # now that there is somebody to get it as it is
        return deadline

    def take(self) -> Backend | None:
        """An idle connection, for one whose permit has come; None, and the permit stays, when there is none."""
        if self._idle and not self._idle[-1].closing:
            return self._idle.pop()
        return None

    async def acquire_admitted(self, password: Password, *, deadline: float, tenant: str = "") -> Backend:
        """The rest of `acquire` for one whose permit has come. `deadline` is in the gate's time: see `Gate.stand`.

        Raises what `acquire` raises; the permit is given back then.
        """
        gate = self.gate
        while self._idle:
            backend = self._idle.pop()
            if not backend.closing:
                return backend
            self.discard(backend, "lost")  # as in try_acquire
            await self._enter(max(0.0, deadline - self.loop.time() + gate.stood_still), tenant)
        returned = await self._arrivals.returned(tenant)
        if returned is not None:
            return returned
        timeout = max(0.0, deadline - self.loop.time() + gate.stood_still)
        return await self._arrivals.open(password, timeout, tenant=tenant)

    async def log_in(self, password: bytes) -> None:
        """Prove a password by opening a connection with it, which stays in the pool.

        Raises:
            PasswordFailed: Postgres refused it.
            GatewayError: as `acquire`.
        """
        await self._enter(self._settings.wait_timeout)
        # Permits bound connections only as long as no one opens a new one beside an idle one.
        if self._idle and len(self._idle) + self.gate.in_use > self._settings.max_size:
            closing = self._roster.spawn(self._roster.close(self._idle.pop(0), "replaced"))
            try:
                await asyncio.shield(closing)
            except BaseException:
                closing.add_done_callback(lambda _: self.gate.leave())  # not sooner, though nobody waits any more
                raise
        timeout = self._settings.wait_timeout
        self.release(await self._arrivals.open(lambda: password, timeout, takes_returned=False))

    def release(self, backend: Backend) -> None:
        """Take back a clean connection: for the next in line, or to keep it idle."""
        now = self.loop.time()
        if self._is_wanted_elsewhere(backend, now):
            reason = self._reason_to_close(backend, now)
            if reason:
                self.discard(backend, reason)
                return
        backend.idle_since = self.last_used = now
        turn = self._expecting.next() if self._expecting.places else None
        if turn is not None:
            turn.set_result(backend)
            self.gate.leave()
            return
        turn = self.gate.pass_on()
        if turn is not None:
            turn.set_result(backend)
        else:
            self._idle.append(backend)

    def next_taker(self, backend: Backend) -> Taker | None:
        """Who is to get a connection that is not clean, with the permit; None: it has to be cleaned and released."""
        gate = self.gate
        if not gate.waiting or self._expecting.places:
            return None
        now = self.loop.time()
        if self._is_wanted_elsewhere(backend, now):
            return None
        taker = gate.pass_on_to(Taker)
        if taker is not None:
            backend.idle_since = self.last_used = now
        return taker

    def discard(self, backend: Backend, reason: str) -> None:
        """Take back a connection that is not to be used again; its permit comes free when Postgres has closed it."""
        self._roster.ending.add(backend)
        self.spawn(self._close_and_leave(backend, reason))

    def may_linger(self, backend: Backend) -> bool:
        """Whether whoever gave this connection back now could keep it as well: nobody waits for one."""
        return (
            not self.gate.waiting
            and not self._arrivals.reserving
            and not self._expecting
            and not self._turns_away
            and not backend.closing
            and self.loop.time() < backend.expires_at
            and not self._owes_permit()
            and not self._owes_budget()
        )

    def evict_oldest(self) -> bool:
        """Begin to close the connection that is idle longest; False when none is idle or others have a right to it."""
        if not self._idle or not self.gate.try_enter():
            return False
        self.discard(self._idle.pop(0), "evicted")
        return True

    def sweep(self, now: float) -> None:
        """Close what is idle or alive too long; called every second."""
        keep = 0 if self._draining else self._settings.min_size
        spare = len(self._idle) - keep
        for backend in self._idle[:]:
            if backend.closing:
                reason = "lost"
            elif now >= backend.expires_at:
                reason = age(backend)
            elif spare > 0 and now - backend.idle_since > self._settings.idle_timeout:
                reason = "idle"
            else:
                continue
            if not self.gate.try_enter():
                break
            self._idle.remove(backend)
            self.discard(backend, reason)
            spare -= 1
        for backend, since in list(self.returning.items()):
            if now - since > _RETURN_TIMEOUT:
                backend.abandon()
        if now - self._statements_aged_at >= _STATEMENTS_AGE_EVERY:
            self._statements_aged_at = now
            self._roster.age_statements()
        # What is opened ahead of need takes nothing from anybody: it neither waits in line nor evicts.
        if self._roster.secret and self.gate.in_use + len(self._idle) < keep and self.gate.try_enter():
            if self._budget.try_reserve(self.key):
                self.spawn(self._arrivals.warm())
            else:
                self.gate.leave()

    def schema_changed(self) -> None:
        """Somebody has altered or dropped something here: parameters may have other types from now on."""
        for _ in range(2):
            self._roster.age_statements()

    # ── what an operator may want ──

    @property
    def is_still(self) -> bool:
        """No connection is lent, idle, on its way or being closed, and none can be as long as the pool is paused."""
        return not self.gate.in_use and not self._idle and not self._roster.ending

    def pause(self) -> None:
        """Lend nothing until `resume`: who asks, waits. Connections are closed, those that are lent once they are back.

        To be called again until `is_still`.
        """
        if not self._draining:
            self._turns_away = "pause"
        self.gate.pause()
        self.lingering.reclaim_all()
        self._close_idle("pause")

    def resume(self) -> None:
        """Lend again."""
        if not self._draining:
            self._turns_away = ""
        self._forget_types()
        self.gate.resume()

    def reconnect(self) -> None:
        """Replace every connection: the idle ones now, each of the others when it comes back."""
        self._roster.expire_all()
        self.lingering.reclaim_all()
        self._close_idle("reconnect")
        self._forget_types()

    def reconfigure(self, upstream: Upstream) -> None:
        """Go by other settings from now on, dropping nothing that runs.

        Connections that would be opened otherwise now are replaced as they come free, and so are those of too large a
        pool closed.
        """
        before = self.upstream
        self._roster.opener.reconfigure(upstream)
        settings = self._settings = upstream.pool
        self.lingering.reclaim_all()
        if _way_to(before) != _way_to(upstream):
            self.reconnect()
        while len(self._idle) + self.gate.in_use > settings.max_size and self._idle and self.gate.try_keep():
            self.discard(self._idle.pop(0), "evicted")
        self.gate.resize(settings.max_size, max_waiting=settings.max_waiting, pause_limit=settings.pause_limit)

    def refuse_waiters(self, error: GatewayError) -> None:
        """Let all who wait for a connection fail with `error`, but for those whom a pause holds up."""
        if self.gate.is_paused:
            return
        self.gate.refuse_waiters(error)
        self._arrivals.refuse(error)

    def stop(self) -> None:
        """Lend no more and close what is idle; holders keep theirs until they give it back."""
        self._draining = True
        self._turns_away = "drain"
        self.gate.stop()
        self.lingering.reclaim_all()
        self._arrivals.stop()
        while self._idle:
            # A stopped gate admits nobody, and nobody can be waiting: no permit needs to stand for these.
            self.spawn(self._roster.close(self._idle.pop(), "drain"))

    async def wait_closed(self, timeout: float) -> None:
        """Return when what is on its way back or being closed has ended; what has not in `timeout` seconds is dropped.

        Leases that are still out are dropped, too.
        """
        await self._roster.wait_closed(timeout, self.leased, self.returning)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what nobody waits for; `wait_closed` does, at the end."""
        self._roster.spawn(work)

    # ── inside ──

    async def _enter(self, timeout: float, tenant: str = "") -> None:
        """Enter the gate. A connection that comes along is idle, but nobody has a turn of the loop to take it."""
        given = await self.gate.enter(timeout, tenant)
        if given is not None:
            self._idle.append(given)

    def _is_wanted_elsewhere(self, backend: Backend, now: float) -> bool:
        """There may be a reason to close what comes back."""
        return (
            backend.closing
            or bool(self._turns_away)
            or now >= backend.expires_at
            or self.gate.is_over
            or self._budget.is_tight
        )

    def _reason_to_close(self, backend: Backend, now: float) -> str:
        """Why a connection that comes back is not kept; empty: it is."""
        if backend.closing:
            return "broken"
        if self._turns_away:
            return self._turns_away
        if now >= backend.expires_at:
            return age(backend)
        return "evicted" if self._owes_permit() or self._owes_budget() else ""

    def _make_way(self) -> None:
        """For one who is about to wait: refuse where none can be had, and have back what only lingers.

        Raises:
            TargetDown: the breaker is open, and no connection is idle.
        """
        if not self._idle:
            self._refuse_if_down()
            self._reclaim()

    def _refuse_if_down(self) -> None:
        if self.breaker is not None and self.breaker.is_open and not self.gate.is_paused:
            raise self.breaker.refusal()

    def _reclaim(self) -> None:
        # One that was used a moment ago is left where it is as long as another may be opened beside it.
        if self.lingering.since:
            self.lingering.reclaim(older_than=_FRESH if self.gate.in_use < self._settings.max_size else 0.0)

    def _owes_permit(self) -> bool:
        """More connections are out than there may be since the last `reconfigure`, those on their end not counted."""
        return self.gate.is_over and self.gate.in_use - len(self._roster.ending) > self._settings.max_size

    def _owes_budget(self) -> bool:
        """Another pool has a better right to a connection that has come free."""
        if not self._budget.is_tight:
            return False
        since = self._expecting.since
        return self._budget.owes(self.key, self.gate.waiting_since if since is None else since)

    def _forget_types(self) -> None:
        """Another server may be there from now on, whose numbers of types mean something else."""
        self.array_types = {}  # not emptied: somebody may be learning, or reading by, the ones of before

    def _close_idle(self, reason: str) -> None:
        """Begin to close every idle connection that nobody is about to take."""
        while self._idle and self.gate.try_keep():
            self.discard(self._idle.pop(0), reason)

    async def _close_and_leave(self, backend: Backend, reason: str) -> None:
        try:
            await self._roster.close(backend, reason)
        finally:
            self.gate.leave()

    def _lost(self, backend: Backend) -> None:
        """The socket is gone, whoever closed it. A holder gives its permit back by `release`."""
        self._forget_types()  # the server may be, too
        if backend in self._idle:
            self._idle.remove(backend)
            self.observe(Closed(str(self.key), "lost"))


def _way_to(upstream: Upstream) -> tuple[object, ...]:
    """All that a connection is made by, in what can be compared."""
    way = upstream.ssl
    if isinstance(way, ssl.SSLContext):  # read anew from the same settings it is another one
        way = f"{way.verify_mode.name} {way.check_hostname}"
    interval = upstream.pool.client_check_interval if upstream.client_check is not None else 0.0
    return (
        *(upstream.target, way, upstream.server_settings, upstream.is_pooler, upstream.session_jwt),
        *(upstream.pool.statement_cache_size, interval),
    )
