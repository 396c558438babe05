"""Never more connections than the bound, none lost, and those who wait get theirs."""

import asyncio
import random
import ssl
from dataclasses import replace
from typing import Any

import pytest

from sqlhttp_gateway.errors import (
    DatabaseMissing,
    GatewayError,
    PasswordFailed,
    ShuttingDown,
    TargetUnavailable,
    WaitTimeout,
)
from sqlhttp_gateway.events import Closed, Opened
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools import arrivals
from sqlhttp_gateway.pools import opener as opener_module
from sqlhttp_gateway.pools import pool as pool_module
from sqlhttp_gateway.pools import roster as roster_module
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import PASSWORD, Cluster, Database
from tests.support.complaints import no_complaints
from tests.support.leases import RAW, Leases, leases, parameters, refusal, run, until, value
from tests.support.program import scratch_role
from tests.support.watch import Watch, watching

PID = "SELECT pg_backend_pid()"
SECRET = PASSWORD.encode()


def later() -> float:
    """A moment at which everything is old."""
    return asyncio.get_running_loop().time() + 100_000


async def test_connection_is_opened_when_needed_and_used_again(database: Database) -> None:
    async with leases(database) as lending:
        assert lending.pool.try_acquire() is None
        first = await lending.value(PID)
        await lending.settled()
        assert await lending.value(PID) == first
        await lending.settled()
        assert lending.pool.idle == 1
        assert [type(event) for event in lending.events] == [Opened]


async def test_connection_used_last_is_used_next(database: Database) -> None:
    async with leases(database) as lending:
        first, second = await lending.lease(), await lending.lease()
        pids = [first.backend.pid, second.backend.pid]
        first.release()
        second.release()
        assert await lending.value(PID) == str(pids[1])


async def test_password_is_asked_for_only_when_a_connection_is_opened(database: Database) -> None:
    asked: list[int] = []

    def password() -> bytes:
        asked.append(1)
        return SECRET

    async with leases(database) as lending:
        for _ in range(3):
            (await lending.registry.lease(lending.pool, password)).release()
        assert asked == [1]


async def test_password_that_cannot_be_had_loses_no_permit(database: Database) -> None:
    def password() -> bytes:
        raise PasswordFailed("none")

    async with leases(database, pool={"max_size": 1}) as lending:
        for _ in range(3):
            assert isinstance(await refusal(lending.registry.lease(lending.pool, password)), PasswordFailed)
        assert lending.registry.connections == 0
        assert await lending.value("SELECT 1") == "1"


async def test_waiter_gets_a_connection_that_is_being_cleaned_rather_than_a_new_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_RETURNING_WAIT", 10.0)  # a busy machine is slow, and is not the subject
    async with leases(database, pool={"max_size": 5}) as lending:
        for _ in range(20):
            lease = await lending.lease()
            await run(lease, "SET work_mem = '77MB'")  # its scrub is a write of its own
            lease.release()
            assert lending.pool.returning
            assert await lending.value("SHOW work_mem") == "4MB"
        assert len(lending.told(Opened)) == 1


async def test_waiter_that_gives_up_while_one_is_being_cleaned_loses_nothing(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending:
        for turns in range(12):
            lease = await lending.lease()
            await run(lease, "SET work_mem = '77MB'")
            lease.release()
            waiter = asyncio.create_task(lending.lease())
            for _ in range(turns):
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait({waiter})
            if not waiter.cancelled():
                waiter.result().release()
            await lending.settled()
        assert lending.pool.idle == lending.registry.connections


async def test_waiter_whose_task_was_once_cancelled_and_went_on_is_served(database: Database) -> None:
    """`Task.cancelling()` stays up when somebody swallows a cancellation; that is no reason to give up here."""
    async with leases(database, pool={"max_size": 2}) as lending:
        lease = await lending.lease()
        await run(lease, "BEGIN")

        async def tough() -> str | None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                lease.backend._transport.pause_reading()  # the scrub takes longer than anyone waits for it
                lease.release()
                return await lending.value("SELECT 1")
            return None

        task = asyncio.create_task(tough())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "1"
        lease.backend._transport.resume_reading()


async def test_waiter_does_not_wait_long_for_one_that_does_not_come(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending:
        lease = await lending.lease()
        await run(lease, "BEGIN")
        lease.backend._transport.pause_reading()
        lease.release()
        assert await lending.value(PID) != str(lease.backend.pid)
        lease.backend._transport.resume_reading()


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_caller_that_leaves_while_its_connection_opens_leaves_it_to_the_pool(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        task = asyncio.create_task(lending.lease())
        await until(lambda: lending.pool.opening == 1)
        task.cancel()
        await asyncio.wait({task})
        assert lending.pool.gate.in_use == 1, "the permit stands for the connection that is on its way"
        await lending.settled()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT 1") == "1"
        assert len(lending.told(Opened)) == 1


async def test_opening_that_fails_after_its_caller_has_left_costs_nothing(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        with no_complaints():
            await leave_while_it_opens(lending, "wrong")
        assert lending.registry.connections == 0


async def leave_while_it_opens(lending: Leases, password: str) -> None:
    task = asyncio.create_task(lending.lease(password=password))
    await until(lambda: lending.pool.opening == 1)
    task.cancel()
    await asyncio.wait({task})
    await lending.settled()


@pytest.mark.parametrize("turns", range(8))
async def test_caller_may_leave_in_any_tick_of_the_opening(database: Database, turns: int) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        task = asyncio.create_task(lending.lease())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await lending.settled()
        assert lending.pool.idle == lending.registry.connections
        assert await lending.value("SELECT 1") == "1"


async def test_refused_opening_gives_the_permit_back(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        for _ in range(3):
            assert isinstance(await refusal(lending.lease(password="wrong")), PasswordFailed)
        missing = lending.pool_of(Database(database.host, database.port, "there_is_none"))
        assert isinstance(await refusal(lending.lease(missing)), DatabaseMissing)
        assert lending.registry.connections == 0
        assert await lending.value("SELECT 1") == "1"


async def test_wait_is_bounded_by_the_timeout_over_both_queues(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        error = await refusal(lending.lease(timeout=0.05))
        assert isinstance(error, WaitTimeout)
        assert f"database {database.name}, role postgres" in error.message
        assert "0.05 s" in error.message
        lease.release()


# ── dying connections ────────────────────────────────────────────────────────────────────────────────────────────────


async def terminate(watch: Watch) -> None:
    await watch.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_connection_that_died_while_idle_is_not_lent(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending, watching(database) as watch:
        for _ in range(5):
            first, second = await lending.lease(), await lending.lease()
            first.release()
            second.release()
            await terminate(watch)
            assert await lending.value("SELECT 1") == "1"
        assert lending.registry.connections <= 2


async def test_connection_that_said_goodbye_counts_until_the_server_has_closed(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        backend = lease.backend
        lease.release()
        backend.data_received(b"E\0\0\0\x1aSFATAL\0VFATAL\0C57P01\0\0")
        assert lending.pool.try_acquire() is None
        assert lending.pool.gate.in_use == 1, "its permit stands for it while it is closed"
        assert await lending.value(PID) != str(backend.pid)
        assert len(lending.told(Closed)) == 1


async def test_number_of_backends_never_passes_the_bound_while_they_die_and_are_born(database: Database) -> None:
    chance = random.Random(5)
    size = 4
    async with (
        leases(database, pool={"max_size": size, "wait_timeout": 30}) as lending,
        watching(database) as watch,
        watch.counting() as seen,
    ):

        async def visit(number: int) -> None:
            text = chance.choice(
                ["SELECT 1", "SELECT pg_sleep(0.002)", "BEGIN", "SELECT pg_terminate_backend(pg_backend_pid())"]
            )
            task = asyncio.create_task(lending.run(text))
            if number % 5 == 0:
                await asyncio.sleep(chance.random() * 0.01)
                task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                assert isinstance(task.exception(), GatewayError)

        for _ in range(12):
            await asyncio.gather(*(visit(number) for number in range(20)))
        await lending.settled()
        assert 0 < seen.most <= size, f"of {seen.looks} looks"
        assert seen.looks > 20
        assert lending.pool.idle == lending.registry.connections
        held = [await lending.lease() for _ in range(size)]
        for lease in held:
            lease.release()


# ── the budget over all pools ────────────────────────────────────────────────────────────────────────────────────────


async def test_idle_connection_of_another_pool_makes_room(database: Database, postgres: Cluster) -> None:
    async with leases(database, pool={"max_size": 2, "max_total": 2}) as lending:
        with scratch_role(postgres) as role:
            other = lending.pool_of(database.as_role(role, "secret"))
            first, second = await lending.lease(), await lending.lease()
            first.release()
            second.release()
            lease = await lending.lease(other, password="secret")
            assert (lending.pool.idle, lending.registry.connections) == (1, 2)
            assert [event.reason for event in lending.told(Closed)] == ["evicted"]
            lease.release()
            await lending.registry.drain(5)


async def test_connection_that_comes_back_makes_room_for_whoever_waits_longer_elsewhere(
    database: Database, postgres: Cluster
) -> None:
    async with leases(database, pool={"max_size": 2, "max_total": 1}) as lending:
        with scratch_role(postgres) as role:
            other = lending.pool_of(database.as_role(role, "secret"))
            lease = await lending.lease()
            elsewhere = asyncio.create_task(lending.lease(other, password="secret"))
            await until(lambda: bool(other.reserving))
            since = asyncio.get_running_loop().time()
            await until(lambda: asyncio.get_running_loop().time() > since)  # a loop's clock may tick in milliseconds
            here = asyncio.create_task(lending.lease())
            await until(lambda: bool(lending.pool.reserving))
            lease.release()
            (await elsewhere).release()
            (await here).release()
            assert [event.pool.rpartition("/")[2] for event in lending.told(Opened)] == ["postgres", role, "postgres"]
            await lending.registry.drain(5)


async def test_whoever_waits_for_the_budget_takes_a_connection_of_its_own_pool(database: Database) -> None:
    """Closing one to open another would cost every request a log-in."""
    async with leases(database, pool={"max_size": 10, "max_total": 2, "wait_timeout": 30}) as lending:
        results = await asyncio.gather(*(lending.value("SELECT 1") for _ in range(200)))
        assert results == ["1"] * 200
        assert len(lending.told(Opened)) == 2


async def test_whoever_gives_up_waiting_for_the_budget_costs_nothing(database: Database) -> None:
    async with leases(database, pool={"max_size": 4, "max_total": 1}) as lending:
        for turns in range(6):
            lease = await lending.lease()
            waiter = asyncio.create_task(lending.lease())
            await until(lambda: bool(lending.pool.reserving))
            lease.release()
            for _ in range(turns):
                await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait({waiter})
            if not waiter.cancelled():
                waiter.result().release()
            await lending.settled()
            assert not lending.pool.reserving
        assert (lending.pool.idle, lending.registry.connections) == (1, 1)


async def test_unit_that_comes_in_the_tick_of_the_cancellation_is_passed_on(
    database: Database, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with leases(database, pool={"max_size": 2, "max_total": 1}) as lending:
        with scratch_role(postgres) as role:
            other = lending.pool_of(database.as_role(role, "secret"))
            lease = await lending.lease()
            waiter = asyncio.create_task(lending.lease(other, password="secret"))
            await until(lambda: bool(other.reserving))
            give_back = Budget.give_back

            def give_back_and_cancel(budget: Budget, pool: PoolKey) -> None:
                give_back(budget, pool)
                waiter.cancel()

            with monkeypatch.context() as patched:
                patched.setattr(Budget, "give_back", give_back_and_cancel)
                lease.release()
                await asyncio.wait({waiter})
            assert waiter.cancelled()
            assert lending.registry.connections == 0
            assert other.gate.in_use == 0
            assert await lending.value("SELECT 1") == "1"


async def test_waits_for_the_budget_expire(database: Database) -> None:
    async with leases(database, pool={"max_size": 4, "max_total": 1}) as lending:
        lease = await lending.lease()
        error = await refusal(lending.lease(timeout=0.05))
        assert isinstance(error, WaitTimeout)
        assert "pool.max_total" in error.message
        assert lending.pool.gate.in_use == 1
        lease.release()


async def test_budget_holds_while_pools_take_from_each_other(database: Database, postgres: Cluster) -> None:
    async with leases(database, pool={"max_size": 3, "max_total": 3, "wait_timeout": 30}) as lending:
        with scratch_role(postgres) as one, scratch_role(postgres) as two:
            pools = [
                (lending.pool, PASSWORD),
                (lending.pool_of(database.as_role(one, "secret")), "secret"),
                (lending.pool_of(database.as_role(two, "secret")), "secret"),
            ]

            async def visit(number: int) -> None:
                pool, password = pools[number % 3]
                lease = await lending.lease(pool, password=password)
                try:
                    await run(lease, "SELECT pg_sleep(0.002)")
                finally:
                    lease.release()

            async with watching(database) as watch, watch.counting() as seen:
                await asyncio.gather(*(visit(number) for number in range(60)))
            assert 0 < seen.most <= 3, f"of {seen.looks} looks"
            await lending.registry.drain(5)


# ── log-ins ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_log_in_opens_a_connection_even_beside_idle_ones_and_keeps_to_the_bound(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending, watching(database) as watch:
        async with watch.counting() as seen:
            for _ in range(5):
                await lending.pool.log_in(SECRET)
        assert lending.pool.idle == 2
        assert seen.most <= 2
        assert len(lending.told(Opened)) == 5


async def test_log_in_never_takes_somebody_elses_connection_for_a_proof(database: Database) -> None:
    """Not even while it waits for the budget and one comes back."""
    async with leases(database, pool={"max_size": 4, "max_total": 1}) as lending:
        lease = await lending.lease()
        proof = asyncio.create_task(lending.pool.log_in(b"wrong"))
        await until(lambda: bool(lending.pool.reserving))
        lease.release()
        assert isinstance(await refusal(proof), PasswordFailed)
        await lending.settled()
        assert lending.registry.connections == 0


async def test_log_ins_at_once_keep_to_the_bound(database: Database) -> None:
    async with leases(database, pool={"max_size": 3}) as lending, watching(database) as watch:
        held = await lending.lease()
        async with watch.counting() as seen:
            await asyncio.gather(*(lending.pool.log_in(SECRET) for _ in range(8)))
        assert seen.most <= 3
        held.release()


# ── old age ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def idle_ones(lending: Leases, count: int) -> list[Backend]:
    """So many idle connections, in the order in which they were given back."""
    held = [await lending.lease() for _ in range(count)]
    for lease in held:
        lease.release()
    await lending.settled()
    return [lease.backend for lease in held]


async def test_unused_connections_are_closed_but_for_the_least_number(database: Database) -> None:
    async with leases(database, pool={"max_size": 4, "min_size": 1, "max_lifetime": 1e6}) as lending:
        backends = await idle_ones(lending, 4)
        lending.pool.sweep(asyncio.get_running_loop().time() + 299)
        assert lending.pool.idle == 4
        lending.pool.sweep(later())
        await lending.settled()
        assert lending.pool._idle == backends[-1:]
        assert {event.reason for event in lending.told(Closed)} == {"idle"}


async def test_connection_at_the_end_of_its_life_is_closed_wherever_it_stands(database: Database) -> None:
    async with leases(database, pool={"max_size": 3}) as lending:
        backends = await idle_ones(lending, 3)
        backends[1].expires_at = 0.0
        lending.pool.sweep(asyncio.get_running_loop().time())
        await lending.settled()
        assert lending.pool._idle == [backends[0], backends[2]]
        backends[2].expires_at = 0.0
        assert await lending.value(PID) == str(backends[2].pid), "it is used once more"
        await lending.settled()
        assert lending.pool._idle == [backends[0]]
        assert [event.reason for event in lending.told(Closed)] == ["lifetime"] * 2


@pytest.mark.parametrize("where", ["in a request", "beside the gateway"])
async def test_value_for_a_column_whose_type_was_changed_is_read_as_the_new_type(
    database: Database, where: str
) -> None:
    """Postgres keeps the types of a prepared statement's parameters: one for a date goes on dropping the time."""
    insert = parameters("INSERT INTO happened VALUES ($1)", "2026-11-23 10:11:12")
    async with leases(database, pool={"max_size": 2}) as lending:
        await lending.run("CREATE TABLE happened (at date)")
        beside = await lending.lease()
        await execute(beside, insert, RAW, lending.limits)  # the change comes by the other connection
        if where == "in a request":
            await lending.run("ALTER TABLE happened ALTER COLUMN at TYPE timestamp")
        else:
            database.psql("ALTER TABLE happened ALTER COLUMN at TYPE timestamp")
            for seconds in (6, 12):
                lending.pool.sweep(asyncio.get_running_loop().time() + seconds)
        await execute(beside, insert, RAW, lending.limits)
        assert await value(beside, "SELECT max(at)::text FROM happened") == "2026-11-23 10:11:12"
        beside.release()


async def test_lifetimes_differ_by_chance(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leases(database, pool={"max_size": 2, "max_lifetime": 1000}) as lending:
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(roster_module.random, "random", lambda: 0.0)
        first = await lending.lease()
        monkeypatch.setattr(roster_module.random, "random", lambda: 1.0)
        second = await lending.lease()
        assert 1000 <= first.backend.expires_at - now < 1010
        assert 900 <= second.backend.expires_at - now < 910
        first.release()
        second.release()


async def test_least_number_is_opened_ahead_of_need(database: Database) -> None:
    async with leases(database, pool={"max_size": 4, "min_size": 3}) as lending:
        now = asyncio.get_running_loop().time()
        lending.pool.sweep(now)
        assert lending.registry.connections == 0, "no password is known yet"
        await lending.run("SELECT 1")
        for _ in range(5):
            lending.pool.sweep(now)
            await lending.settled()
        assert lending.pool.idle == 3


async def test_what_is_opened_ahead_of_need_takes_nothing_from_others(database: Database, postgres: Cluster) -> None:
    async with leases(database, pool={"max_size": 2, "min_size": 2, "max_total": 2}) as lending:
        with scratch_role(postgres) as role:
            other = lending.pool_of(database.as_role(role, "secret"))
            (await lending.lease()).release()
            (await lending.lease(other, password="secret")).release()
            for _ in range(3):
                for pool in (lending.pool, other):
                    pool.sweep(asyncio.get_running_loop().time())
                    await lending.settled(pool)
            assert (lending.pool.idle, other.idle) == (1, 1)
            assert len(lending.told(Opened)) == 2
            await lending.registry.drain(5)


async def test_password_that_was_changed_opens_nothing_ahead_of_need(database: Database, postgres: Cluster) -> None:
    async with leases(database, pool={"max_size": 2, "min_size": 2}) as lending:
        with scratch_role(postgres) as role:
            pool = lending.pool_of(database.as_role(role, "secret"))
            (await lending.lease(pool, password="secret")).release()
            postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'other'")
            for _ in range(3):
                pool.sweep(asyncio.get_running_loop().time())
                await lending.settled(pool)
            assert pool._roster.secret == b""
            await lending.registry.drain(5)


async def test_log_in_that_is_given_up_leaves_its_permit_to_the_connection_in_its_way(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        [backend] = await idle_ones(lending, 1)
        logging_in = asyncio.create_task(lending.pool.log_in(database.password.encode()))
        while not backend.closing:  # noqa: ASYNC110 - nothing tells when the goodbye was said
            await asyncio.sleep(0)  # not longer, or it has ended
        logging_in.cancel()
        await asyncio.gather(logging_in, return_exceptions=True)
        assert lending.pool.gate.in_use == 1 or backend.is_lost
        await lending.settled()
        assert backend.is_lost
        assert lending.registry.connections == 0
        await lending.run("SELECT 1")


async def test_database_that_was_dropped_is_not_asked_for_ahead_of_need(postgres: Cluster) -> None:
    database = await postgres.create_database()
    async with leases(database, pool={"max_size": 2, "min_size": 2}) as lending:
        await lending.run("SELECT 1")
        postgres.maintenance.psql(f'DROP DATABASE "{database.name}" WITH (FORCE)')
        await until(lambda: not lending.pool.idle)
        for _ in range(3):
            lending.pool.sweep(asyncio.get_running_loop().time())
            await lending.settled()
        assert lending.pool._roster.secret == b""


async def test_server_that_is_away_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leases(database, pool={"max_size": 2, "min_size": 2}) as lending:
        await lending.run("SELECT 1")

        async def away(*_: object, **__: object) -> Backend:
            raise TargetUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(opener_module, "connect", away)
            lending.pool.sweep(asyncio.get_running_loop().time())
            await lending.settled()
        assert lending.registry.connections == 1
        lending.pool.sweep(asyncio.get_running_loop().time())
        await lending.settled()
        assert lending.pool.idle == 2


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stopped_pool_refuses_closes_what_is_idle_and_what_comes_back(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending:
        lease, idle = await lending.lease(), await lending.lease()
        idle.release()
        lending.pool.stop()
        assert lending.pool.try_acquire() is None
        assert isinstance(await refusal(lending.lease()), ShuttingDown)
        assert await run(lease, "SELECT 1")
        lease.release()
        await lending.pool.wait_closed(5.0)
        await lending.settled()
        assert lending.registry.connections == 0
        assert {event.reason for event in lending.told(Closed)} == {"drain"}


async def test_stop_refuses_those_who_wait_for_the_budget(database: Database) -> None:
    async with leases(database, pool={"max_size": 2, "max_total": 1}) as lending:
        lease = await lending.lease()
        waiter = asyncio.create_task(lending.lease())
        await until(lambda: bool(lending.pool.reserving))
        lending.pool.stop()
        assert isinstance(await refusal(waiter), ShuttingDown)
        assert lending.pool.gate.in_use == 1
        lease.release()


async def test_what_does_not_end_in_time_is_dropped(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        asking = asyncio.create_task(run(lease, "SELECT pg_sleep(60)"))
        async with watching(database) as watch:
            await watch.until(1, "wait_event = 'PgSleep'")
            await lending.pool.wait_closed(0.01)
            assert isinstance(await refusal(asking), GatewayError)
            lease.release()
            await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")


async def test_pool_is_unused_only_when_nothing_of_it_is_left(database: Database) -> None:
    async with leases(database) as lending:
        pool: Pool = lending.pool
        assert pool.is_unused
        lease = await lending.lease()
        assert not pool.is_unused
        lease.release()
        assert not pool.is_unused
        pool.sweep(later())
        assert not pool.is_unused, "its connection is being closed"
        await until(lambda: pool.is_unused)


# ── other settings while it runs ─────────────────────────────────────────────────────────────────────────────────────


def with_pool(upstream: Upstream, **changes: Any) -> Upstream:
    return replace(upstream, pool=upstream.pool.model_copy(update=changes))


async def test_smaller_pool_closes_what_is_idle_now_and_what_is_lent_when_it_comes_back(database: Database) -> None:
    async with leases(database, pool={"max_size": 4}) as lending:
        held = [await lending.lease() for _ in range(4)]
        held.pop().release()
        await lending.settled_but(3)
        lending.pool.reconfigure(with_pool(lending.upstream, max_size=2))
        await until(lambda: lending.registry.connections == 3)
        for lease in held:
            assert (await run(lease, "SELECT 1"))[0].row_count == 1
            lease.release()
        await lending.settled()
        assert lending.registry.connections == 2
        assert {event.reason for event in lending.told(Closed)} == {"evicted"}


async def test_larger_pool_serves_those_who_wait(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        first = await lending.lease()
        waiting = asyncio.create_task(lending.lease())
        await until(lambda: lending.pool.gate.waiting == 1)
        lending.pool.reconfigure(with_pool(lending.upstream, max_size=2))
        (await waiting).release()
        first.release()


async def test_connections_are_replaced_when_they_would_be_opened_otherwise_and_only_then(database: Database) -> None:
    async with leases(database) as lending:
        pid = await lending.value(PID)
        await lending.settled()
        upstream = with_pool(lending.upstream, idle_timeout=99.0)
        lending.pool.reconfigure(upstream)
        assert await lending.value(PID) == pid
        await lending.settled()
        upstream = replace(upstream, server_settings={"application_name": "another"})
        lending.pool.reconfigure(upstream)
        assert await lending.value("SHOW application_name") == "another"
        assert await lending.value(PID) != pid


async def test_connections_look_for_their_gateway_as_often_as_the_settings_say_now(database: Database) -> None:
    async with leases(database, pool={"client_check_interval": 0.5}) as lending:
        assert await lending.value("SHOW client_connection_check_interval") == "500ms"
        await lending.settled()
        settings = load_settings(database_url=database.url, pool={"client_check_interval": 0.7})
        lending.pool.reconfigure(Targets(settings).default)
        assert await lending.value("SHOW client_connection_check_interval") == "700ms"


def test_connections_that_were_opened_without_a_key_are_replaced_once_tokens_are_good_here(database: Database) -> None:
    upstream = Targets(load_settings(database_url=database.url)).default
    assert pool_module._way_to(upstream) != pool_module._way_to(replace(upstream, session_jwt=True))


async def test_types_of_the_server_of_before_are_forgotten_where_another_may_be_there(database: Database) -> None:
    async with leases(database) as lending:
        pool = lending.pool

        def swap() -> None:
            pool.pause()
            pool.resume()

        def lead_elsewhere() -> None:
            pool.reconfigure(replace(pool.upstream, target=replace(pool.upstream.target, port=1)))

        for change in (pool.reconnect, swap, lead_elsewhere):
            pool.array_types[16_385] = None
            pool.sweep(pool.loop.time())
            assert pool.array_types, "and only there"
            change()
            assert pool.array_types == {}


async def test_types_are_forgotten_when_a_connection_is_lost(database: Database) -> None:
    """The server that comes back may be another, made anew, in which the numbers of types mean something else."""
    async with leases(database) as lending:
        lease = await lending.lease()
        lease.release()
        await lending.settled()
        lending.pool.array_types[16_385] = None
        database.psql(f"SELECT pg_terminate_backend({lease.backend.pid})")
        await until(lambda: not lending.pool.array_types)


def test_certificates_that_were_read_again_are_no_reason_to_reconnect(database: Database) -> None:
    upstream = Targets(load_settings(database_url=database.url)).default
    again = replace(upstream, ssl=ssl.create_default_context())
    upstream = replace(upstream, ssl=ssl.create_default_context())
    assert pool_module._way_to(upstream) == pool_module._way_to(again)
    lenient = ssl.create_default_context()
    lenient.check_hostname = False
    assert pool_module._way_to(upstream) != pool_module._way_to(replace(upstream, ssl=lenient))
