"""What each tenant may take at once, and how fast: its permits, its own waiting requests, and its bucket.

A tenant is an API key, a token's subject, or a role. What it may take comes with each request, so that a change of the
settings or of a key holds from the next one on. A tenant is forgotten as soon as nothing of it is here and its bucket
is full again: one that comes back finds what it would have found.
"""

import asyncio
import math
from collections.abc import Callable
from weakref import WeakValueDictionary

from sqlhttp_gateway.errors import (
    ConcurrencyLimited,
    RateLimited,
    WaitTimeout,
)
from sqlhttp_gateway.model import Allowance
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.opener import Password
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry

_UNLIMITED = 1 << 60
_FIRST_SWEEP = 1000


class Quota:
    """One tenant's permits and bucket. Made and kept by `Quotas`."""

    __slots__ = ("__weakref__", "_filled_at", "_gate", "_level", "_registry", "_waiting", "allowance", "name")

    def __init__(self, name: str, allowance: Allowance, registry: PoolRegistry, now: float) -> None:
        self.name = name
        self._registry = registry
        self.allowance = allowance
        """What holds now."""
        self._gate: Gate[None] = Gate(_permits(allowance), max_waiting=_UNLIMITED, name=name)
        self._waiting = 0
        self._level = float(allowance.burst_or_rate)
        self._filled_at = now

    def allow(self, allowance: Allowance) -> None:
        """Hold to this from now on."""
        if allowance != self.allowance:
            self.allowance = allowance
            self._level = min(self._level, float(allowance.burst_or_rate))
            self._gate.resize(_permits(allowance), max_waiting=_UNLIMITED)

    def is_quiet(self, now: float) -> bool:
        """Nothing of it runs or waits, and its bucket is full: there is nothing to remember."""
        return not self._gate.in_use and not self._waiting and self._fill(now) >= self.allowance.burst_or_rate

    def draw(self, now: float) -> None:
        """Take one request, or one transaction of a tunnel, out of the bucket.

        Raises:
            RateLimited: it is empty.
        """
        rate = self.allowance.rate
        if rate is None:
            return
        level = self._fill(now)
        if level < 1.0:
            wait = (1.0 - level) / rate
            raise RateLimited(
                f"{self.name} may send {rate:g} requests a second here, {self.allowance.burst_or_rate:g} of them at "
                f"once (limits.rate, limits.burst); the next one in {wait:.2f} s",
                hint="Send more slowly: try again after the seconds in Retry-After.",
                retry_after=math.ceil(wait),
            )
        self._level = level - 1.0

    async def lease(self, pool: Pool, password: Password) -> Lease:
        """A lease, for which one of the tenant's permits is held until it is released.

        Raises:
            ConcurrencyLimited: as many of the tenant's as may be already run and wait, or run for too long.
            GatewayError: as `PoolRegistry.lease`.
        """
        has_permit = self._gate.try_enter()
        lease = self._registry.try_lease(pool) if has_permit else None
        if lease is None:
            lease = await self._wait(pool, password, has_permit=has_permit)
        lease.on_release = self._gate.leave
        return lease

    # ── inside ──

    async def _wait(self, pool: Pool, password: Password, *, has_permit: bool) -> Lease:
        most = self.allowance.max_waiting
        waits = not (has_permit and pool.gate.has_room)  # else a connection is opened for it, and nobody is before it
        if waits and most is not None and self._waiting >= most:
            if has_permit:
                self._gate.leave()
            raise self._refusal(f"{self._waiting} of its requests wait, which is all that may (limits.max_waiting)")
        self._waiting += waits
        loop = pool.loop
        timeout = pool.upstream.pool.wait_timeout
        until = loop.time() + timeout
        try:
            if not has_permit:
                until += await self._wait_turn(pool, timeout)
                has_permit = True
            left = max(0.0, until - loop.time())
            return await self._registry.lease(pool, password, timeout=left, tenant=self.name)
        except BaseException:
            if has_permit:
                self._gate.leave()
            raise
        finally:
            self._waiting -= waits

    async def _wait_turn(self, pool: Pool, timeout: float) -> float:
        """Get a permit; the seconds of it that did not count, since the pool was paused."""
        loop, gate = pool.loop, pool.gate
        since, still, left = loop.time(), gate.stood_still, timeout
        while True:
            try:
                await self._gate.enter(left)
            except WaitTimeout:
                if gate.stood_still > still:
                    await self._registry.resumed(pool.key.database, timeout=pool.upstream.pool.pause_limit)
                left = since + timeout + gate.stood_still - still - loop.time()
                if left <= 0:
                    raise self._refusal(f"none of them ended within {timeout:g} s (pool.wait_timeout)") from None
            else:
                return gate.stood_still - still

    def _fill(self, now: float) -> float:
        """What is in the bucket."""
        rate = self.allowance.rate or 0.0
        self._level = min(float(self.allowance.burst_or_rate), self._level + (now - self._filled_at) * rate)
        self._filled_at = now
        return self._level

    def _refusal(self, why: str) -> ConcurrencyLimited:
        most = self.allowance.max_concurrent
        running = f"{self._gate.in_use} requests of {self.name} run"
        if most is not None:
            running += f", of {most} that may at once (limits.max_concurrent)"
        return ConcurrencyLimited(
            f"{running}, and {why}",
            hint="Send fewer at once: try again after the seconds in Retry-After.",
            retry_after=1,
        )


class Quotas:
    """Those of all tenants that have limits and of which there is something to remember."""

    def __init__(self, registry: PoolRegistry, clock: Callable[[], float] | None = None) -> None:
        self._registry = registry
        self._clock = clock or asyncio.get_running_loop().time
        self._known: dict[str, Quota] = {}
        self._fading: WeakValueDictionary[str, Quota] = WeakValueDictionary()
        """Those that are forgotten here, and that a request has in hand all the same: two would be twice the permits.
        """
        self._sweep_at = _FIRST_SWEEP

    def __len__(self) -> int:
        return len(self._known)

    def admit(self, name: str, allowance: Allowance) -> Quota:
        """The quota of a tenant, from whose bucket one request is taken.

        Raises:
            RateLimited: it has sent too many.
        """
        now = self._clock()
        quota = self._known.get(name)
        if quota is None:
            if len(self._known) >= self._sweep_at:
                self._sweep(now)
            quota = self._fading.pop(name, None) or Quota(name, allowance, self._registry, now)
            self._known[name] = quota
        quota.allow(allowance)
        quota.draw(now)
        return quota

    def _sweep(self, now: float) -> None:
        """Forget the quiet ones; the next time when there are twice as many as remain, so that it costs little."""
        known, self._known = self._known, {}
        for name, quota in known.items():
            (self._fading if quota.is_quiet(now) else self._known)[name] = quota
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._known))


def _permits(allowance: Allowance) -> int:
    return _UNLIMITED if allowance.max_concurrent is None else allowance.max_concurrent
