"""Work on a lease: waited for, timed, given back; and tried on another connection where it cannot have begun."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from sqlhttp_gateway.auth.claims import Claims
from sqlhttp_gateway.errors import ClaimsFailed, ConnectionBroken, GatewayError, PasswordFailed, PostgresError
from sqlhttp_gateway.execute.outcome import NothingRan
from sqlhttp_gateway.idempotency.run import Answered
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.sql.access import Access
from sqlhttp_gateway.story import Story

ATTEMPTS = 3
"""Connections that are tried when one turns out to have been closed by Postgres before it began."""

Done = TypeVar("Done")


class Attempts:
    """Fetches leases for accesses."""

    def __init__(self, registry: PoolRegistry, claims: Claims) -> None:
        self._registry = registry
        self._claims = claims

    async def on_lease(self, access: Access, story: Story, work: Callable[[Lease], Awaitable[Done]]) -> Done:
        """What `work` made of a connection; of another one, if that turns out to have been closed before it began.

        Raises:
            GatewayError: no connection was to be had, or what `work` raised.
        """
        if access.route is not None:
            return await self._on_server(access.route, access, story, work)
        pool, quota = access.pool, access.quota
        for attempt in range(ATTEMPTS):
            asked = perf_counter()
            try:
                lease = (self._registry.try_lease(pool) if quota is None else None) or await self._lease(access, pool)
            except PasswordFailed:
                raise access.refused() from None
            finally:
                leased = perf_counter()
                story.waited += leased - asked
            try:
                return await _worked(lease, access, work)
            except ClaimsFailed:
                self._claims.forget(pool)
                raise
            except NothingRan as error:
                if attempt == ATTEMPTS - 1:
                    raise error.reason from None
            finally:
                story.ran(lease, since=leased)
                lease.release()
        raise AssertionError("unreachable")

    async def _lease(self, access: Access, pool: Pool) -> Lease:
        """A connection of `pool` for a caller who may have to wait for it."""
        if access.quota is not None:
            return await access.quota.lease(pool, access.password)
        tenant = access.grant.tenant if access.grant is not None else ""
        lease = self._registry.try_lease(pool)
        return lease or await self._registry.lease(pool, access.password, tenant=tenant)

    async def _on_server(
        self, route: Route, access: Access, story: Story, work: Callable[[Lease], Awaitable[Done]]
    ) -> Done:
        """The same at one of several servers, and at another one where that does not do."""
        while True:
            asked = perf_counter()
            try:
                pool = await route.pool()
                lease = await self._lease(access, pool)
            except GatewayError as error:
                if await route.failed(error, ran=False):
                    continue
                if isinstance(error, PasswordFailed):
                    raise access.refused() from None
                raise
            finally:
                leased = perf_counter()
                story.waited += leased - asked
            refusal: GatewayError | None = None
            ran = True
            try:
                done = await _worked(lease, access, work)
                if not route.is_behind():
                    await route.settle(lease)
                    return done
            except ClaimsFailed:
                self._claims.forget(access.pool)
                raise
            except NothingRan as error:
                refusal, ran = error.reason, False
            except Answered:
                await route.settle(lease)
                raise
            except GatewayError as error:
                refusal = error
                if isinstance(error, PostgresError):
                    await route.settle(lease)
            finally:
                story.ran(lease, since=leased)
                lease.release()
            if refusal is not None and not await route.failed(refusal, ran=ran):
                raise refusal


async def _worked(lease: Lease, access: Access, work: Callable[[Lease], Awaitable[Done]]) -> Done:
    """What `work` made of a connection that is fit for this caller.

    Raises:
        NothingRan: it could not be made so.
    """
    if access.grant is not None and access.grant.is_personal and not await lease.keep_apart():
        raise NothingRan(ConnectionBroken("the connection could not be cleaned for a caller with claims"))
    return await work(lease)
