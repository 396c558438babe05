"""Pools and leases on a real Postgres, without HTTP before them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Event
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.model import Batch, Options, PoolKey, Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database

RAW = Options(raw_text=True, array_mode=True)
DEADLINE = 20.0  # seconds


class Leases:
    """A registry before one database. Sections of settings are given by name: `pool={"max_size": 1}`."""

    def __init__(self, database: Database, **sections: Any) -> None:
        self.settings = load_settings(**{"database_url": database.url, **sections})
        self.database = database
        self.targets = Targets(self.settings)
        self.events: list[Event] = []
        self.limits = Limits(self.settings.response.max_bytes, self.settings.statement.timeout)
        self.registry = PoolRegistry(
            max_total=self.settings.pool.max_total,
            cancel_timeout=self.settings.statement.cancel_timeout,
            observe=self.events.append,
            breaker=self.settings.breaker,
        )
        self.pool = self.pool_of(database)

    @property
    def upstream(self) -> Upstream:
        return self.targets.default

    def pool_of(self, database: Database) -> Pool:
        """The pool of a database and role, which may be others than those of the settings."""
        return self.registry.pool(PoolKey(self.upstream.target.name, database.name, database.role), self.upstream)

    async def lease(self, pool: Pool | None = None, *, password: str | None = None, timeout: float = 10.0) -> Lease:
        """A lease, as a request would get it."""
        chosen = pool or self.pool
        secret = (password or self.database.password).encode()
        return self.registry.try_lease(chosen) or await self.registry.lease(chosen, lambda: secret, timeout=timeout)

    async def run(self, *texts: str, pool: Pool | None = None, limits: Limits | None = None) -> list[Result]:
        """One statement or a batch on a lease of its own, which is given back."""
        lease = await self.lease(pool)
        try:
            return await run(lease, *texts, limits=limits or self.limits)
        finally:
            lease.release()

    async def value(self, text: str, *params: object, pool: Pool | None = None) -> str | None:
        """The one value of a statement's one row."""
        lease = await self.lease(pool)
        try:
            return await value(lease, text, *params)
        finally:
            lease.release()

    async def settled(self, pool: Pool | None = None) -> None:
        """Wait until nothing is leased, returning, opening or closing."""
        chosen = pool or self.pool
        await until(lambda: not chosen.gate.in_use and not chosen.returning and not chosen.opening)

    async def settled_but(self, leased: int) -> None:
        """Wait until all but so many leases are idle connections again."""
        await until(lambda: self.pool.gate.in_use == leased and not self.pool.returning)

    async def lease_of_default_wait(self) -> Lease:
        """A lease that waits no longer than the settings say."""
        secret = self.database.password.encode()
        return self.registry.try_lease(self.pool) or await self.registry.lease(self.pool, lambda: secret)

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def leases(database: Database, **sections: Any) -> AsyncIterator[Leases]:
    """Leases for the length of the block; afterwards every connection has to be gone."""
    lending = Leases(database, **sections)
    try:
        yield lending
    finally:
        await lending.registry.drain(5.0)
        assert lending.registry.connections == 0, f"{lending.registry.connections} connections are left"


async def run(lease: Lease, *texts: str, limits: Limits | None = None, options: Options = RAW) -> list[Result]:
    """One statement, or several as a batch."""
    statements = tuple(Statement(text) for text in texts)
    request = statements[0] if len(statements) == 1 else Batch(statements)
    return await execute(lease, request, options, limits or Limits(10_000_000, 60.0))


def parameters(text: str, *params: str | None) -> Statement:
    """A statement with its parameters, as text."""
    return Statement(text, tuple(None if param is None else param.encode() for param in params))


async def ask(lending: Leases, *statements: Statement) -> list[list[tuple[bytes | None, ...]]]:
    """The rows of each statement on a lease of their own; several are a batch."""
    lease = await lending.lease()
    try:
        request = statements[0] if len(statements) == 1 else Batch(statements)
        return [list(rows_of(result.rows)) for result in await execute(lease, request, RAW, lending.limits)]
    finally:
        lease.release()


async def value(lease: Lease, text: str, *params: object) -> str | None:
    """The one value of a statement's one row."""
    given = tuple(None if param is None else str(param).encode() for param in params)
    [result] = await execute(lease, Statement(text, given), RAW, Limits(10_000_000, 60.0))
    [[one]] = rows_of(result.rows)
    return None if one is None else one.decode()


async def refusal(work: Any) -> GatewayError:
    """The error that `work` has to end with."""
    try:
        await work
    except GatewayError as error:
        return error
    raise AssertionError("it was not refused")


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nothing tells when a scrub is over
            await asyncio.sleep(0.001)
