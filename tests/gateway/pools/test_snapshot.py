import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from sqlhttp_gateway.events import Event, Leaked
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.snapshot import PoolSnapshot, snapshot
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import PASSWORD, Database

SECRET = PASSWORD.encode()


class Lending:
    """A pool of two connections under a budget of three, and what it told."""

    def __init__(self, database: Database) -> None:
        settings = load_settings(database_url=database.url, pool={"max_size": 2, "max_total": 3})
        self.targets = Targets(settings)
        self.events: list[Event] = []
        self.registry = PoolRegistry(max_total=3, cancel_timeout=1.0, observe=self.events.append)
        self.pool = self.pool_of(database.name)

    def pool_of(self, database: str) -> Pool:
        upstream = self.targets.default
        return self.registry.pool(PoolKey(upstream.target.name, database, upstream.admin.role), upstream)

    def look(self, pool: Pool | None = None) -> PoolSnapshot:
        return snapshot(pool or self.pool, asyncio.get_running_loop().time())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nothing tells when a scrub is over
                await asyncio.sleep(0.001)


@pytest.fixture
async def lending(database: Database) -> AsyncIterator[Lending]:
    lending = Lending(database)
    yield lending
    await lending.registry.drain(1.0)


async def test_connection_is_counted_where_it_is_while_it_goes_from_opening_to_idle(lending: Lending) -> None:
    asking = asyncio.create_task(lending.registry.lease(lending.pool, lambda: SECRET))
    await lending.until(lambda: lending.look().opening == 1)
    lease = await asking
    assert (lending.look().leased, lending.look().opening, lending.look().connections) == (1, 0, 1)
    await ask(lease, "SELECT 1")
    lease.release()
    await lending.until(lambda: lending.look().idle == 1)
    assert (lending.look().leased, lending.look().returning, lending.look().connections) == (0, 0, 1)


async def test_age_of_the_oldest_lease_and_of_the_longest_wait_grow_from_the_first_one(lending: Lending) -> None:
    leases = [await lending.registry.lease(lending.pool, lambda: SECRET) for _ in range(2)]
    waiting = asyncio.create_task(lending.registry.lease(lending.pool, lambda: SECRET))
    await lending.until(lambda: lending.look().waiting == 1)
    first, then = lending.look(), lending.look()
    assert 0 < first.oldest_lease < then.oldest_lease
    assert 0 < first.longest_wait < then.longest_wait < then.oldest_lease
    leases[0].release()
    (await waiting).release()
    leases[1].release()
    assert lending.look().waiting == 0


async def test_request_that_waits_for_the_budget_is_waiting_too(lending: Lending) -> None:
    leases = [await lending.registry.lease(lending.pool, lambda: SECRET) for _ in range(2)]
    other = lending.pool_of("postgres")
    leases.append(await lending.registry.lease(other, lambda: SECRET))
    waiting = asyncio.create_task(lending.registry.lease(other, lambda: SECRET))
    await lending.until(lambda: lending.look(other).waiting == 1)
    assert lending.look(other).longest_wait > 0
    waiting.cancel()
    await asyncio.wait([waiting])
    assert lending.look(other).waiting == 0
    for lease in leases:
        lease.release()


async def test_lease_that_is_forgotten_is_told_of_and_its_connection_comes_back(lending: Lending) -> None:
    lease = await lending.registry.lease(lending.pool, lambda: SECRET)
    await ask(lease, "SELECT 1")
    assert not [event for event in lending.events if isinstance(event, Leaked)]
    del lease
    await lending.until(lambda: lending.look().idle == 1)
    assert [event for event in lending.events if isinstance(event, Leaked)] == [Leaked(str(lending.pool.key))]
    assert lending.pool.gate.in_use == 0
