"""One pool for each key, never two; all of them bounded, swept and drained together."""

import asyncio

import pytest

from sqlhttp_gateway.errors import ShuttingDown
from sqlhttp_gateway.pools import registry as registry_module
from tests.support.cluster import Database
from tests.support.leases import leases, refusal, run, until
from tests.support.watch import watching


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps come every millisecond."""
    monkeypatch.setattr(registry_module, "_SWEEP_EVERY", 0.001)


async def test_one_key_has_one_pool(database: Database) -> None:
    async with leases(database) as lending:
        again, other = lending.pool_of(database), lending.pool_of(database.as_role("other", ""))
        assert again is lending.pool
        assert other is not lending.pool
        assert lending.registry.pools == [lending.pool, other]


async def test_connections_of_all_pools_are_counted(database: Database) -> None:
    async with leases(database) as lending:
        assert lending.registry.connections == 0
        first, second = await lending.lease(), await lending.lease()
        assert lending.registry.connections == 2
        first.release()
        second.release()
        assert lending.registry.connections == 2


@pytest.mark.usefixtures("_often")
async def test_pool_that_is_not_used_any_more_is_forgotten(database: Database) -> None:
    async with leases(database, pool={"idle_timeout": 0.01}) as lending:
        lending.registry.start()
        await lending.run("SELECT 1")
        await until(lambda: not lending.registry.pools)
        assert lending.pool.is_retired
        assert lending.registry.connections == 0


@pytest.mark.usefixtures("_often")
async def test_pool_in_use_is_not_forgotten(database: Database) -> None:
    async with leases(database, pool={"idle_timeout": 0.01}) as lending:
        lending.registry.start()
        lease = await lending.lease()
        for _ in range(30):
            await asyncio.sleep(0.001)
        assert lending.registry.pools == [lending.pool]
        lease.release()


@pytest.mark.usefixtures("_often")
async def test_whoever_still_has_a_forgotten_pool_does_not_get_a_second_one(database: Database) -> None:
    """Two pools for one key would have twice its connections, and nobody would ever close the older one's."""
    async with leases(database, pool={"idle_timeout": 0.01, "max_size": 1}) as lending:
        lending.registry.start()
        old = lending.pool
        await until(lambda: old.is_retired)
        lease = await lending.lease(old)  # it comes back, since there is no other
        assert lending.registry.pools == [old]
        assert not old.is_retired
        lease.release()
        await until(lambda: old.is_retired)
        new = lending.pool_of(database)
        assert new is not old
        lease = await lending.lease(new)
        waiting = asyncio.create_task(lending.lease(old))
        await until(lambda: bool(new.gate.waiting))
        assert lending.registry.connections == 1
        lease.release()
        second = await waiting
        assert second.pool is new
        second.release()


async def test_longest_idle_connection_of_any_pool_makes_room(database: Database, postgres: object) -> None:
    async with leases(database, pool={"max_size": 2, "max_total": 2}) as lending:
        maintenance = Database(database.host, database.port, "postgres")
        other = lending.pool_of(maintenance)
        first = await lending.lease()
        first.release()
        second = await lending.lease(other)
        second.release()
        await lending.settled()
        third = lending.pool_of(Database(database.host, database.port, "template1"))
        lease = await lending.lease(third)
        assert (lending.pool.idle, other.idle) == (0, 1)
        lease.release()


# ── drain ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_drain_waits_for_leases_and_closes_everything(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        lending.registry.start()
        busy, idle = await lending.lease(), await lending.lease()
        idle.release()
        running = asyncio.create_task(run(busy, "SELECT pg_sleep(0.1)"))
        await watch.until(1, "wait_event = 'PgSleep'")
        draining = asyncio.create_task(lending.registry.drain(30.0))
        await watch.until(1)
        assert not draining.done()
        assert isinstance(await refusal(lending.lease()), ShuttingDown)
        assert isinstance(await refusal(lending.lease(lending.pool_of(database.as_role("new", "")))), ShuttingDown)
        assert len(await running) == 1
        busy.release()
        await draining
        assert await watch.backends() == 0
        assert lending.registry.connections == 0


async def test_drain_of_nothing_is_over_at_once(database: Database) -> None:
    async with leases(database) as lending:
        await asyncio.wait_for(lending.registry.drain(60.0), 1.0)


async def test_lease_that_outlives_the_grace_time_is_dropped(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        lease = await lending.lease()
        running = asyncio.create_task(run(lease, "SELECT pg_sleep(60)"))
        await watch.until(1, "wait_event = 'PgSleep'")
        await lending.registry.drain(0.0)
        assert await refusal(running)
        lease.release()
        await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")


async def test_drain_while_a_connection_opens_lets_none_of_it_stay(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        task = asyncio.create_task(lending.lease())
        await until(lambda: lending.pool.opening == 1)
        task.cancel()
        await lending.registry.drain(10.0)
        assert await watch.backends() == 0


async def test_pools_that_come_while_it_drains_are_no_trouble(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        draining = asyncio.create_task(lending.registry.drain(10.0))
        await asyncio.sleep(0)
        for number in range(3):
            lending.pool_of(database.as_role(f"role_{number}", ""))
            await asyncio.sleep(0)
        lease.release()
        for number in range(3, 30):
            lending.pool_of(database.as_role(f"role_{number}", ""))
            await asyncio.sleep(0)
        await draining
