"""Every connection of one pool, from its log-in to its end: how old it may become, and how it is closed.

Whether one may be opened, and to whom it is lent, is the pool's to know.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Closed, Observer, Opened
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.opener import CLOSE_TIMEOUT, Opener, Password
from sqlhttp_gateway.pools.targets import Upstream

_LIFETIME_JITTER = 0.1
_CLOSED_POLL = 0.01
INSIST_AFTER = 5.0
"""Seconds that a process has to end by itself, or by a cancel; then the server is asked to end it."""
_REPLACED = -math.inf
"""The time at which a connection expires that is to be replaced whatever its age."""


class Roster:
    """All that are open. Each has a unit of the budget for as long as its socket is there."""

    def __init__(
        self,
        key: PoolKey,
        upstream: Upstream,
        budget: Budget,
        observe: Observer,
        breaker: Breaker | None = None,
        *,
        on_lost: Callable[[Backend], None],
    ) -> None:
        """`on_lost` is told when the socket of a connection is gone, whoever closed it."""
        self.opener = Opener(key, upstream, budget, breaker, on_lost=self._lose)
        self.ending: set[Backend] = set()
        """Those that are being closed."""
        self.secret = b""
        """The password that was proven last; empty: none was, or it holds no more."""
        self.tasks: set[asyncio.Task[None]] = set()
        """What runs and nobody waits for, but `wait_closed` at the end."""
        self._loop = asyncio.get_running_loop()
        self._key = key
        self._budget = budget
        self._observe = observe
        self._on_lost = on_lost
        self._open: set[Backend] = set()
        self._generation = 0
        """How often all connections had to be replaced."""

    async def open(self, password: Password) -> Backend:
        """A new one, for which the caller has reserved a unit of the budget.

        Raises what `connect` raises; the unit is given back then.
        """
        generation = self._generation
        try:
            secret = password()
            backend = await self.opener.open(secret)
        except BaseException:
            self._budget.give_back(self._key)
            raise
        self._open.add(backend)
        lifetime = self.opener.upstream.pool.max_lifetime * (1 - random.random() * _LIFETIME_JITTER)
        backend.expires_at = self._loop.time() + lifetime if generation == self._generation else _REPLACED
        self.secret = secret
        self._observe(Opened(str(self._key), backend.connect_seconds))
        return backend

    async def close(self, backend: Backend, reason: str) -> None:
        """Have Postgres end it, and wait until it has."""
        self.ending.add(backend)
        insisting = self._loop.call_later(INSIST_AFTER, self._insist, backend)
        try:
            await backend.close(CLOSE_TIMEOUT)
        finally:
            insisting.cancel()
            self.ending.discard(backend)
        self._observe(Closed(str(self._key), reason))

    def expire_all(self) -> None:
        """Let each be replaced, those that are just being opened, too."""
        self._generation += 1
        for backend in self._open:
            backend.expires_at = _REPLACED

    def age_statements(self) -> None:
        """What has parameters is to be parsed anew, once that was called twice since it was parsed."""
        for backend in self._open:
            backend.statements.age()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what nobody waits for, or not to its end."""
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def wait_closed(
        self, timeout: float, leased: Mapping[Backend, object], returning: Mapping[Backend, object]
    ) -> None:
        """Return when nothing is left to do and none is on its way back; what is not over in `timeout` seconds is
        dropped, and so are those that are still out.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.tasks or returning:
                    if self.tasks:
                        await asyncio.wait(self.tasks)
                    else:
                        await asyncio.sleep(_CLOSED_POLL)
        for backend in [*self.ending, *leased, *returning]:
            backend.abort()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=1.0)

    def _insist(self, backend: Backend) -> None:
        if backend in self.ending and not backend.is_lost:
            self.spawn(self._terminate(backend))

    async def _terminate(self, backend: Backend) -> None:
        """Its statement catches every cancel, and would keep the permit for as long as it likes."""
        with contextlib.suppress(GatewayError, TimeoutError):
            await self.opener.terminate(backend, self.secret)
        if backend in self.ending:
            self._loop.call_later(INSIST_AFTER, self._insist, backend)

    def _lose(self, backend: Backend) -> None:
        self._open.discard(backend)
        self._budget.give_back(self._key)
        self._on_lost(backend)


def age(backend: Backend) -> str:
    """Why one whose time is over is closed."""
    return "reconnect" if backend.expires_at == _REPLACED else "lifetime"
