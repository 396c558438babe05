"""How one program gets its backends: one that is free, or, within the limits of its tenant, by waiting in line.

What it does with them, and when it gives them back, is `traffic`'s business.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from sqlhttp_gateway.errors import RequestCancelled
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.tunnel.granted import Granted
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.servers import Servers
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
        granted: Granted | None = None,
        servers: Servers | None = None,
    ) -> None:
        """`granted` is what a program has that showed a key or a token, `servers` the choice where there are any."""
        self.pool = logged_in.caller.pool
        """The one that backends come from now."""
        self._caller = logged_in.caller
        self._password = logged_in.password
        self._registry = registry
        self._quotas = quotas
        self._granted = granted
        self._servers = servers
        self._prologues: Callable[[Backend], MakePrologue] | None = None
        self.waiting: asyncio.Task[Lease] | None = None
        """Waits in line; whoever ends the program's traffic cancels it."""
        self._is_interrupted = False

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

    def wait(self, done: Done) -> None:
        """Begin to wait in line. Nothing is done once the waiting was cancelled, unless by `interrupt`."""
        self._is_interrupted = False
        self.waiting = asyncio.get_running_loop().create_task(self._get())
        self.waiting.add_done_callback(partial(self._end, done))

    def interrupt(self) -> None:
        """The program does not want the backend any more that it waits for."""
        if self.waiting is not None:
            self._is_interrupted = True
            self.waiting.cancel()

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
            return await quota.lease(self.pool, self.secret)
        lease = self._registry.try_lease(self.pool)
        return lease or await self._registry.lease(self.pool, self.secret, tenant=tenant)

    def _end(self, done: Done, waiting: "asyncio.Task[Lease]") -> None:
        self.waiting = None
        if not waiting.cancelled():
            done(waiting.exception() or waiting.result())
        elif self._is_interrupted:
            done(RequestCancelled("canceling statement due to user request"))
