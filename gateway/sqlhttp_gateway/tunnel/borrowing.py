"""How one program gets its backends, by waiting in line where none is free, and whether it may keep one for longer.

What it does with the one that it has, and when it gives that back, is `held`'s business.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from sqlhttp_gateway.errors import GatewayError, RequestCancelled, TargetUnavailable
from sqlhttp_gateway.events import Observer, TunnelPinned
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.taking import Taking, cancel_begun
from sqlhttp_gateway.tunnel.granted import Granted
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.servers import Servers
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.fence import MakePrologue

Done = Callable[[Lease | BaseException], None]
"""What is to be called with the backend that was waited for, or with why there is none."""


class Borrowing:
    """One program's way to a backend, again for every transaction that has none."""

    def __init__(
        self,
        logged_in: LoggedIn,
        *,
        registry: PoolRegistry,
        quotas: Quotas,
        pins: Pins,
        observe: Observer,
        granted: Granted | None = None,
        servers: Servers | None = None,
    ) -> None:
        """`granted` is what a program has that showed a key or a token, `servers` the choice where there are any."""
        self.pool = logged_in.caller.pool
        """The one that backends come from now."""
        self.is_pinned = False
        """The backend stays beyond its transactions; to be read only."""
        self._pinned_in: Pool | None = None
        """Where it is counted, which need not be where the next backend comes from."""
        self._caller = logged_in.caller
        self._password = logged_in.password
        self._registry = registry
        self._quotas = quotas
        self._pins = pins
        self._observe = observe
        self._granted = granted
        self._servers = servers
        self._has_moved = False
        """It waits at another server than the one that could not be reached."""
        self._prologues: Callable[[Backend], MakePrologue] | None = None
        self._waiting: asyncio.Task[Lease] | Taking | None = None
        self._done: Done | None = None

    @property
    def may_linger(self) -> bool:
        """Whether a backend that it does not use may stay with it, as nobody else of its tenant wants its permit."""
        return self._caller.allowance is None

    def at_once(self) -> Lease | None:
        """A backend that is free now; None: one has to `wait`.

        Raises:
            GatewayError: no server that would do is there.
        """
        if self._servers is not None:
            self.pool = self._servers.pool()
        if self._granted is not None or self._caller.allowance is not None:
            return None
        return self._registry.try_lease(self.pool)

    def moves_on(self, error: GatewayError) -> bool:
        """Whether to try another server, once, as the one that was waited for could not be reached.

        During a pause one may have taken the place of another.
        """
        pool = self.pool
        if self._servers is not None and not self._has_moved and isinstance(error, TargetUnavailable):
            with contextlib.suppress(GatewayError):
                pool = self._servers.pool()
        self._has_moved = pool.key != self.pool.key
        return self._has_moved

    @property
    def is_waiting(self) -> bool:
        """Whether a backend is waited for."""
        return self._waiting is not None

    def wait(self, done: Done, *, takes_unclean: bool = False) -> None:
        """Begin to wait in line, with `takes_unclean` for a lease that has something to go ahead, too."""
        if takes_unclean and self._granted is None and self._caller.allowance is None:
            self._done = done
            self._waiting = self._registry.take(self.pool, self.secret, self._end)
        else:
            self._begin(self._get(), done)

    def cleanse(self, lease: Lease, done: Done) -> None:
        """Have the backend cleaned that could not be made clean ahead; where that cannot be, wait for another."""
        self._begin(self._cleansed(lease), done)

    def interrupt(self) -> None:
        """The program does not want the backend any more that it waits for."""
        if self._waiting is not None:
            self._leave()
            self._end(RequestCancelled("canceling statement due to user request"))

    async def stop(self) -> None:
        """The program is gone: wait no longer, and tell nobody."""
        waiting = self._waiting
        if waiting is not None:
            self._leave()
            self._waiting = self._done = None
            if isinstance(waiting, asyncio.Task):
                await asyncio.gather(waiting, return_exceptions=True)

    def pin(self, pin: Pin) -> None:
        """The backend has to stay, for this reason.

        Raises:
            PinsExhausted: too many stay already.
        """
        if self._pinned_in is self.pool:
            return
        if not self.is_pinned:
            self._observe(TunnelPinned(str(self.pool.key), pin))
        self._pins.enter(self.pool)
        self.unpin()
        self._pinned_in = self.pool
        self.is_pinned = True

    def unpin(self) -> None:
        """It need not stay any more. Harmless when it did not."""
        pool, self._pinned_in = self._pinned_in, None
        self.is_pinned = False
        if pool is not None:
            self._pins.leave(pool)

    def explained(self, error: GatewayError) -> GatewayError:
        """What an error means for this program."""
        return self._granted.explained(error, self.pool) if self._granted is not None else error

    def make_prologue(self, backend: Backend) -> MakePrologue | None:
        """How transactions have to begin on this backend, if it matters."""
        return self._prologues(backend) if self._prologues is not None else None

    def secret(self) -> bytes:
        """The password that a new connection is opened with."""
        return self._password

    async def _get(self) -> Lease:
        tenant = ""
        if self._granted is not None:
            self._prologues = await self._granted.ready(self.pool)
            tenant = self._granted.grant.tenant
        caller = self._caller
        if caller.allowance is not None:
            quota = self._quotas.admit(caller.tenant, caller.allowance)
            lease = await quota.lease(self.pool, self.secret)
        else:
            free = self._registry.try_lease(self.pool)
            lease = free or await self._registry.lease(self.pool, self.secret, tenant=tenant)
        is_personal = self._granted is not None and self._granted.grant.is_personal
        return lease if not is_personal or await lease.keep_apart() else await self._get()

    async def _cleansed(self, lease: Lease) -> Lease:
        is_clean = False
        try:
            is_clean = await lease.cleanse()
        finally:
            if not is_clean:
                lease.drop("unclean")
        return lease if is_clean else await self._get()

    def _begin(self, work: Coroutine[Any, Any, Lease], done: Done) -> None:
        self._done = done
        self._waiting = waiting = asyncio.get_running_loop().create_task(work)
        waiting.add_done_callback(self._ended)

    def _leave(self) -> None:
        if isinstance(self._waiting, asyncio.Task):
            cancel_begun(self._waiting)
        elif self._waiting is not None:
            self._waiting.leave()

    def _ended(self, waiting: "asyncio.Task[Lease]") -> None:
        if waiting.cancelled():
            return
        found = waiting.exception() or waiting.result()
        if waiting is self._waiting:
            self._end(found)
        elif isinstance(found, Lease):
            found.release()  # it came in the tick in which it was given up

    def _end(self, found: Lease | BaseException) -> None:
        done, self._done, self._waiting = self._done, None, None
        assert done is not None
        if not isinstance(found, BaseException):
            self._has_moved = False
        done(found)
