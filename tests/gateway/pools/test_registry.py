"""One pool for each key, never two; all of them bounded, swept and drained together."""

import asyncio
from dataclasses import replace

import pytest

from sqlhttp_gateway.errors import GatewayError, ShuttingDown
from sqlhttp_gateway.events import Closed, Paused
from sqlhttp_gateway.pools import registry as registry_module
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from tests.support.clock import fake_time, turns
from tests.support.cluster import Database
from tests.support.leases import Leases, leases, refusal, run, until, value
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


@pytest.mark.uncompiled
@pytest.mark.usefixtures("_often")
async def test_pool_in_use_is_not_forgotten(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[float] = []
    async with leases(database, pool={"idle_timeout": 0.01}) as lending:
        lease = await lending.lease()
        monkeypatch.setattr(lending.pool, "sweep", swept.append)
        lending.registry.start()
        await until(lambda: bool(swept) and swept[-1] > swept[0] + 0.02)  # longer than it may be idle
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


@pytest.mark.usefixtures("_often")
async def test_forgotten_pool_that_comes_back_goes_by_the_settings_of_then(database: Database) -> None:
    """A tunnel may have slept through a reload that leads its target elsewhere."""
    async with leases(database, pool={"idle_timeout": 0.01}) as lending:
        lending.registry.start()
        old = lending.pool
        await until(lambda: old.is_retired)
        settings = old.upstream.server_settings | {"application_name": "elsewhere"}
        upstream = replace(old.upstream, server_settings=settings)
        lending.registry.apply({old.key.target: upstream}, max_total=9)
        lease = await lending.lease(old)
        assert await value(lease, "SELECT current_setting('application_name')") == "elsewhere"
        lease.release()


async def test_other_time_limits_hold_for_pools_that_are_there_and_for_those_that_come(database: Database) -> None:
    async with leases(database) as lending:
        pool = lending.pool
        settings = pool.upstream.pool.model_copy(update={"pause_limit": 0.05})
        upstream = replace(pool.upstream, pool=settings)
        lending.registry.apply({pool.key.target: upstream}, max_total=9, cancel_timeout=7.5)
        later = lending.pool_of(database.as_role("other", ""))
        assert (pool.cancel_timeout, later.cancel_timeout) == (7.5, 7.5)
        pause = asyncio.create_task(lending.registry.pause(None))
        await until(lambda: pool.gate.is_paused)
        assert "was not resumed within 0.05 s" in (await refusal(lending.lease())).message
        lending.registry.resume(None)
        await pause


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


# ── pause, resume, reconnect ─────────────────────────────────────────────────────────────────────────────────────────


async def test_pause_waits_for_what_runs_and_closes_every_connection(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        busy, idle = await lending.lease(), await lending.lease()
        idle.release()
        await lending.settled_but(1)
        pausing = asyncio.create_task(lending.registry.pause(database.name))
        await until(lambda: lending.pool.idle == 0)
        assert (await run(busy, "SELECT 1"))[0].row_count == 1
        assert not pausing.done()
        waiting = asyncio.create_task(lending.value("SELECT 'went on'"))
        busy.release()
        await pausing
        assert await watch.backends() == 0
        assert lending.registry.is_paused(database.name)
        assert not waiting.done()
        assert lending.registry.resume(database.name)
        assert await waiting == "went on"
        assert [(each.database, each.is_paused) for each in lending.told(Paused)] == [
            (database.name, True),
            (database.name, False),
        ]


async def test_pause_of_one_database_leaves_the_others_alone_and_that_of_all_does_not(database: Database) -> None:
    async with leases(database) as lending:
        other = lending.pool_of(Database(database.host, database.port, "postgres"))
        await lending.registry.pause(database.name)
        assert await lending.value("SELECT 1", pool=other) == "1"
        await lending.registry.pause(None)
        new = lending.pool_of(Database(database.host, database.port, "template1"))
        tasks = [asyncio.create_task(lending.value("SELECT 1", pool=pool)) for pool in (lending.pool, other, new)]
        await until(lambda: all(pool.gate.waiting for pool in (lending.pool, other, new)))
        assert lending.registry.resume(database.name)
        assert lending.registry.is_paused(database.name), "all still are"
        assert lending.registry.resume(None)
        assert await asyncio.gather(*tasks) == ["1", "1", "1"]
        assert not lending.registry.resume(None)


async def test_pause_that_is_given_up_lets_everything_go_on(database: Database) -> None:
    async with leases(database) as lending:
        busy = await lending.lease()
        pausing = asyncio.create_task(lending.registry.pause(None))
        await until(lambda: lending.pool.gate.is_paused)
        pausing.cancel()
        await asyncio.wait({pausing})
        assert not lending.pool.gate.is_paused
        assert await lending.value("SELECT 1") == "1"
        busy.release()


async def test_pause_that_is_resumed_before_it_was_complete_is_over(database: Database) -> None:
    async with leases(database) as lending:
        busy = await lending.lease()
        pausing = asyncio.create_task(lending.registry.pause(database.name))
        await until(lambda: lending.pool.gate.is_paused)
        lending.registry.resume(database.name)
        await pausing
        assert not lending.pool.gate.is_paused
        busy.release()


async def test_none_of_those_who_wait_through_a_pause_fails(database: Database) -> None:
    """They wait for longer than `wait_timeout`, while what they wait for is down altogether."""
    async with leases(database, pool={"max_size": 2, "wait_timeout": 5}) as lending:
        await lending.registry.pause(None)
        with fake_time() as clock:
            tasks = [asyncio.create_task(lending.lease_of_default_wait()) for _ in range(20)]
            await turns()
            clock.advance(10)
            await turns()
            assert not any(task.done() for task in tasks)
        lending.registry.resume(None)
        for task in tasks:
            (await task).release()


async def listening(lending: Leases) -> tuple[Pool, Lease, asyncio.Event]:
    """The pool beside, a connection of it that is lent to somebody who only listens, and whether it has ended."""
    beside = lending.registry.listening_pool(lending.pool)
    lease = await lending.lease(beside)
    ended = asyncio.Event()

    class Ear:
        def receive(self, data: bytes) -> bytes | None:
            return None

    def lost(error: GatewayError | None) -> None:
        lease.take_back()
        lease.release()
        ended.set()

    lease.lend(Ear(), lost)
    return beside, lease, ended


async def test_pause_ends_a_connection_that_only_listens(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        beside, _, ended = await listening(lending)
        await lending.registry.pause(database.name)
        assert ended.is_set()
        assert await watch.backends() == 0
        lending.registry.resume(database.name)
        (await lending.lease(beside)).release()


async def test_connection_that_only_listens_goes_where_its_target_leads_now(database: Database) -> None:
    """Whoever listens would else never hear anything of the new server."""
    async with leases(database) as lending:
        beside, lease, ended = await listening(lending)
        upstream, settings = lending.pool.upstream, lending.pool.upstream.server_settings
        lending.registry.apply({lending.pool.key.target: upstream}, max_total=9)
        assert not lease.backend.closing
        elsewhere = replace(upstream, server_settings=settings | {"application_name": "elsewhere"})
        lending.registry.apply({lending.pool.key.target: elsewhere}, max_total=9)
        async with asyncio.timeout(10):
            await ended.wait()
        lease = await lending.lease(beside)
        assert await value(lease, "SELECT current_setting('application_name')") == "elsewhere"
        lease.release()


async def test_resumed_returns_at_once_or_after_the_pause_or_says_that_it_took_too_long(database: Database) -> None:
    async with leases(database) as lending:
        await lending.registry.resumed(database.name, timeout=1.0)
        await lending.registry.pause(None)
        error = await refusal(lending.registry.resumed(database.name, timeout=0.01))
        assert "was not resumed within 0.01 s" in error.message
        waiting = asyncio.create_task(lending.registry.resumed(database.name, timeout=10.0))
        await asyncio.sleep(0)
        lending.registry.resume(None)
        await waiting


async def test_reconnect_replaces_idle_connections_now_and_the_others_when_they_come_back(database: Database) -> None:
    async with leases(database) as lending:
        idle, busy = await lending.lease(), await lending.lease()
        opening = asyncio.create_task(lending.lease())
        await until(lambda: lending.pool.opening == 1)
        old = {idle.backend.pid, busy.backend.pid}
        idle.release()
        await until(lambda: lending.pool.idle == 1)
        lending.registry.reconnect(database.name)
        await until(lambda: lending.pool.idle == 0)
        assert (await run(busy, "SELECT 1"))[0].row_count == 1
        third = await opening
        old.add(third.backend.pid)
        for lease in (busy, third):
            lease.release()
        await lending.settled()
        assert lending.registry.connections == 0
        assert int(await lending.value("SELECT pg_backend_pid()") or 0) not in old
        await lending.settled()
        assert lending.pool.idle == 1, "the new one stays"
        assert {event.reason for event in lending.told(Closed)} == {"reconnect"}


@pytest.mark.usefixtures("_often")
async def test_pool_of_a_target_that_is_there_no_more_keeps_no_least_number(database: Database) -> None:
    async with leases(database, pool={"min_size": 1, "idle_timeout": 0.01}) as lending:
        lending.registry.start()
        await lending.run("SELECT 1")
        upstream = lending.pool.upstream
        lending.registry.apply({}, max_total=9)
        await until(lambda: lending.pool.is_retired)
        assert lending.registry.connections == 0
        lending.registry.apply({lending.pool.key.target: upstream}, max_total=9)
        await lending.run("SELECT 1")  # by whoever still has that pool
        assert lending.pool.upstream is upstream
        assert not lending.pool.is_retired


# ── who gets a connection when there are too few for all ─────────────────────────────────────────────────────────────


async def test_crowd_of_one_role_leaves_another_role_its_share_of_the_budget(database: Database) -> None:
    async with leases(database, pool={"max_size": 4, "max_total": 4}) as lending:
        other = lending.pool_of(Database(database.host, database.port, "postgres"))
        is_over = False

        async def loop() -> None:
            while not is_over:
                await lending.value("SELECT pg_sleep(0.002)")

        crowd = [asyncio.create_task(loop()) for _ in range(60)]
        await until(lambda: lending.pool.gate.waiting > 40)
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await lending.value("SELECT 1", pool=other) == "1"
        waited = clock() - began
        longest = clock() - (lending.pool.gate.waiting_since or clock())
        is_over = True
        await asyncio.gather(*crowd)
        assert waited < 5.0, f"{waited:.3f} s, while the crowd's own waited {longest:.3f} s"


# ── drain ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_drain_waits_for_leases_and_closes_everything(database: Database) -> None:
    async with leases(database) as lending, watching(database) as watch:
        lending.registry.start()
        busy, idle = await lending.lease(), await lending.lease()
        idle.release()
        await watch.run("SELECT pg_advisory_lock(1)")
        running = asyncio.create_task(run(busy, "SELECT pg_advisory_xact_lock(1)"))
        await watch.until(1, "wait_event = 'advisory'")
        draining = asyncio.create_task(lending.registry.drain(30.0))
        await watch.until(1)
        assert not draining.done()
        assert isinstance(await refusal(lending.lease()), ShuttingDown)
        assert isinstance(await refusal(lending.lease(lending.pool_of(database.as_role("new", "")))), ShuttingDown)
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert len(await running) == 1
        assert not draining.done()
        busy.release()
        await draining
        assert await watch.backends() == 0
        assert lending.registry.connections == 0


async def test_drain_of_nothing_is_over_at_once(database: Database) -> None:
    async with leases(database) as lending:
        draining = asyncio.create_task(lending.registry.drain(60.0))
        await turns()
        assert draining.done()
        assert isinstance(await refusal(lending.lease()), ShuttingDown)


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
        assert lending.registry.connections == 0
        for number in (0, 29):
            pool = lending.pool_of(database.as_role(f"role_{number}", ""))
            assert isinstance(await refusal(lending.lease(pool)), ShuttingDown)
