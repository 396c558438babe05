"""All pools by their key: made when first needed, bounded together, dropped when unused, drained at the end."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from sqlhttp_gateway.errors import GatewayError, WaitTimeout
from sqlhttp_gateway.events import Observer, Paused
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.opener import CLOSE_TIMEOUT, Password
from sqlhttp_gateway.pools.pauses import Pauses
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.taking import Taking
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.settings import BreakerSettings

_SWEEP_EVERY = 1.0
_POLL = 0.02


class PoolRegistry:
    """PoolKey → Pool, under one budget of connections."""

    def __init__(
        self, *, max_total: int, cancel_timeout: float, observe: Observer, breaker: BreakerSettings | None = None
    ) -> None:
        """Without a `breaker` every request that needs a connection tries to open one."""
        self._pools: dict[PoolKey, Pool] = {}
        self._listening: dict[PoolKey, Pool] = {}
        self._leaving: set[PoolKey] = set()
        """Pools whose target is there no more."""
        self._upstreams: Mapping[str, Upstream] | None = None
        """Those of the last `apply`, for a pool that it did not see."""
        self._budget = Budget(max_total, self._evict)
        self._cancel_timeout = cancel_timeout
        self._observe = observe
        self._pauses = Pauses()
        self._breaker = breaker
        self._breakers: dict[str, Breaker] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False

    @property
    def pools(self) -> list[Pool]:
        """A snapshot, for whoever wants to look."""
        return [*self._pools.values(), *self._listening.values()]

    @property
    def connections(self) -> int:
        """Connections that exist or are being opened or closed, over all pools."""
        return self._budget.used

    def start(self) -> None:
        """Begin to close what is idle or old."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def pool(self, key: PoolKey, upstream: Upstream) -> Pool:
        """The pool of `key`, made if need be; of a target with several servers, that at the one which serves now."""
        if upstream.group is not None:
            upstream = upstream.group.serving
            key = replace(key, target=upstream.target.name)
        return self.server_pool(key, upstream)

    def server_pool(self, key: PoolKey, upstream: Upstream) -> Pool:
        """The pool of `key` at that very server, made if need be."""
        pool = self._pools.get(key)
        if pool is None:
            breaker = self.breaker(key.target)
            pool = self._pools[key] = self._made(key, upstream, breaker)
        return pool

    def breaker(self, server: str) -> Breaker | None:
        """What is known of a server's being there, by its name; None where nobody asks for that."""
        if self._breaker is None:
            return None
        breaker = self._breakers.get(server)
        if breaker is None:
            breaker = self._breakers[server] = Breaker(
                server, self._breaker, on_open=partial(self._refuse_waiters, server), observe=self._observe
            )
        return breaker

    def apply(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        max_total: int,
        breaker: BreakerSettings | None = None,
        cancel_timeout: float | None = None,
    ) -> None:
        """Lead and bound every pool as these say from now on, and drop nothing that runs.

        Pools of a target that is there no more close their connections as they come free.
        """
        if cancel_timeout is not None:
            self._cancel_timeout = cancel_timeout
            for pool in self.pools:
                pool.cancel_timeout = cancel_timeout
        self._upstreams = upstreams
        for key, pool in self._pools.items():
            self._lead(key, pool, upstreams)
        for key, pool in self._listening.items():
            if (upstream := upstreams.get(key.target)) is not None:
                before = [backend.expires_at for backend in pool.leased]
                pool.reconfigure(_single(upstream))
                if before != [backend.expires_at for backend in pool.leased]:
                    self._free_listener(pool, None)  # it is to be replaced, and would never be given back for that
        self._budget.resize(max_total)
        if breaker is not None:
            self._breaker = breaker
            for server, each in self._breakers.items():
                each.reconfigure(breaker)
                if server not in upstreams:
                    each.forget()

    def listening_pool(self, pool: Pool) -> Pool:
        """One connection beside `pool`, with the same key, for whoever listens on behalf of all: it takes no place of
        theirs, and counts in the budget.
        """
        beside = self._listening.get(pool.key)
        if beside is None:
            beside = self._made(pool.key, _single(pool.upstream), pool.breaker)
            self._listening[pool.key] = beside
        return beside

    def try_lease(self, pool: Pool) -> Lease | None:
        """A lease without waiting, if a connection is idle."""
        backend = pool.try_acquire()
        if backend is None:
            return None
        return Lease(pool, backend)

    async def lease_admitted(self, pool: Pool, password: Password, *, deadline: float) -> Lease:
        """A lease for one whose permit has come by `pool.stand`, where `pool.take` has none.

        Raises what `Pool.acquire_admitted` raises.
        """
        backend = await pool.acquire_admitted(password, deadline=deadline)
        return Lease(pool, backend)

    def take(self, pool: Pool, password: Password, done: Callable[[Lease | BaseException], None]) -> Taking:
        """Wait for a connection, clean or not, for one who is told `done` in place of waiting itself."""
        taking = Taking(self._current(pool) if pool.is_retired else pool, password, done)
        taking.begin()
        return taking

    async def lease(self, pool: Pool, password: Password, *, timeout: float | None = None, tenant: str = "") -> Lease:
        """A lease, waiting for it among the requests of `tenant`.

        Raises what `Pool.acquire` raises.
        """
        if pool.is_retired:
            pool = self._current(pool)
        backend = await pool.acquire(password, timeout=timeout, tenant=tenant)
        return Lease(pool, backend)

    # ── what an operator may want ──

    def is_paused(self, database: str) -> bool:
        """Whether whoever wants a connection to `database` has to wait."""
        return self._pauses.cover(database)

    @property
    def paused(self) -> list[str | None]:
        """The databases that are paused; None among them stands for all."""
        return self._pauses.begun

    async def pause(self, database: str | None) -> None:
        """Let requests for a database, or with None for all, wait; return when no connection to it is left.

        Transactions finish, and so do tunnels with session pooling: this waits for them. Cancelled, it resumes.
        """
        self._pauses.begin(database)
        self._observe(Paused(database or "", is_paused=True))
        try:
            while self._is_pausing(database):
                pools = self._pools_of(database)
                for pool in pools:
                    pool.pause()
                for pool in self._listening.values():
                    self._free_listener(pool, database)
                if all(pool.is_still for pool in pools):
                    return
                await asyncio.sleep(_POLL)
        except asyncio.CancelledError:
            self.resume(database)
            raise

    def resume(self, database: str | None) -> bool:
        """Let requests go on; with None, all of them. False when nothing of that was paused."""
        was_paused = bool(self._pauses) if database is None else self._pauses.cover(database)
        self._pauses.end(database)
        for pool in self._pools_of(database):
            if not self._pauses.cover(pool.key.database):
                pool.resume()
        if was_paused:
            self._observe(Paused(database or "", is_paused=False))
        return was_paused

    def reconnect(self, database: str | None) -> None:
        """Replace the connections to a database, or with None all: the idle ones now, the others when they come back.

        One that only listens is replaced at once; its programs are told that they may have missed something.
        """
        for pool in self._pools_of(database):
            pool.reconnect()
        for pool in self._listening.values():
            self._free_listener(pool, database)

    def replace_role(self, role: str) -> None:
        """`reconnect` for a role whose name is another's by now: a session goes on as the one that has begun it."""
        for pool in self.pools:
            if pool.key.role == role:
                pool.reconnect()
        for pool in self._listening.values():
            if pool.key.role == role:
                self._free_listener(pool, None)

    async def resumed(self, database: str, *, timeout: float) -> None:
        """Return when a database is not paused, which it may be again when the caller goes on.

        Raises:
            WaitTimeout: it still is after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._pauses.cover(database):  # noqa: ASYNC110 - once in months, and nobody is in a hurry
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise WaitTimeout(
                f"database {database} is paused, and was not resumed within {timeout:g} s (pool.pause_limit)",
                retry_after=1,
            ) from None

    async def drain(self, grace: float) -> None:
        """Refuse new work, wait up to `grace` seconds for leases to come back, then close everything."""
        self._draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for pool in self.pools:
            pool.stop()
        for breaker in self._breakers.values():
            await breaker.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while any(pool.gate.in_use for pool in self.pools):  # noqa: ASYNC110 - once in a life
                    await asyncio.sleep(_POLL)
        await asyncio.gather(*(pool.wait_closed(CLOSE_TIMEOUT) for pool in self.pools))

    def _refuse_waiters(self, server: str, error: GatewayError) -> None:
        """The server is down: nobody who waits for a connection to it has to wait any longer to hear so."""
        for pool in self.pools:
            if pool.key.target == server:
                pool.refuse_waiters(error)

    def _made(self, key: PoolKey, upstream: Upstream, breaker: Breaker | None) -> Pool:
        """A new pool, in the state that the others are in."""
        pool = Pool(key, upstream, self._budget, self._observe, breaker, cancel_timeout=self._cancel_timeout)
        if self._draining:
            pool.stop()
        if self._pauses.cover(pool.key.database):
            pool.pause()
        return pool

    def _pools_of(self, database: str | None) -> list[Pool]:
        return [pool for pool in self.pools if database is None or pool.key.database == database]

    def _is_pausing(self, database: str | None) -> bool:
        return bool(self._pauses) if database is None else self._pauses.cover(database)

    @staticmethod
    def _free_listener(pool: Pool, database: str | None) -> None:
        """A connection that listens is lent for as long as anybody does: end it, so that its holder makes another."""
        if database is None or pool.key.database == database:
            for backend in list(pool.leased):
                backend.abort()

    def _current(self, pool: Pool) -> Pool:
        """The pool of the same key that is not retired: two for one key would have twice its connections."""
        current = self._pools.setdefault(pool.key, pool)
        if current.is_retired:
            current.is_retired = False
            current.cancel_timeout = self._cancel_timeout
            if self._upstreams is not None:  # who holds it may have slept through that
                self._lead(current.key, current, self._upstreams)
        return current

    def _lead(self, key: PoolKey, pool: Pool, upstreams: Mapping[str, Upstream]) -> None:
        """Have a pool connect as these say."""
        upstream = upstreams.get(key.target)
        if upstream is None:
            pool.reconfigure(_unneeded(pool.upstream))
            pool.reconnect()
            self._leaving.add(key)
        else:
            pool.reconfigure(upstream)
            self._leaving.discard(key)

    def _evict(self) -> bool:
        """Begin to close the connection that is idle longest, of any pool."""
        candidates = sorted((pool for pool in self.pools if pool.idle), key=lambda pool: pool.oldest_idle_since or 0.0)
        if any(pool.evict_oldest() for pool in candidates):
            return True
        # What is given back while another pool waits is closed.
        return any(pool.lingering.reclaim() for pool in self.pools)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            now = loop.time()
            for pools in (self._pools, self._listening):
                for key, pool in list(pools.items()):
                    pool.sweep(now)
                    if key in self._leaving:
                        pool.reconnect()
                    if pool.is_unused and now - pool.last_used > pool.upstream.pool.idle_timeout:
                        del pools[key]
                        pool.is_retired = True
                        self._leaving.discard(key)


def _single(upstream: Upstream) -> Upstream:
    return replace(upstream, pool=upstream.pool.model_copy(update={"max_size": 1, "min_size": 0}))


def _unneeded(upstream: Upstream) -> Upstream:
    """With nothing opened ahead of need."""
    return replace(upstream, pool=upstream.pool.model_copy(update={"min_size": 0}))
