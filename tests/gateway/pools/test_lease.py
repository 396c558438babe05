"""Whatever happens to the holder of a lease, the connection comes back clean or is closed."""

import asyncio
import gc
import random

import pytest

from sqlhttp_gateway.errors import (
    ConnectionBroken,
    PostgresError,
    ResponseTooLarge,
    StatementTimeout,
    UnsupportedStatement,
)
from sqlhttp_gateway.events import Cancelled, Closed, Leaked, Opened
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.pools import lease as lease_module
from sqlhttp_gateway.pools import roster, scrub
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.frontend import EXECUTE, FLUSH, SYNC, encode_bind, encode_parse, encode_query
from tests.support.cluster import Cluster, Database
from tests.support.leases import Leases, leases, refusal, run, until, value
from tests.support.program import scratch_role
from tests.support.watch import watching

ONE = {"max_size": 1}
PID = "SELECT pg_backend_pid()"
SLEEPING = "wait_event = 'PgSleep'"

# Left behind by a function that a SELECT calls, so that no command tag tells of it; and who asks for it.
IN_A_FUNCTION = {
    "SET": ("SET work_mem = '77MB'", "SHOW work_mem"),
    "SET ROLE": ("SET ROLE pg_monitor", "SELECT current_user::text"),
    "SET SESSION AUTHORIZATION": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user::text"),
    "a temporary table": ("CREATE TEMP TABLE left_here (i int)", "SELECT to_regclass('left_here')::text"),
    "an advisory lock": ("SELECT pg_advisory_lock(4)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    "LISTEN": ("LISTEN left_here", "SELECT count(*) FROM pg_listening_channels()"),
    "WITH HOLD": (
        "DECLARE left_here CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'left_here'",
    ),
    "PREPARE": ("PREPARE left_here AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
    "DEALLOCATE": ("DEALLOCATE ALL", "SELECT 'whatever'"),
}


async def scrub_replies(lease: Lease, frames: bytes) -> list[bytes]:
    """What Postgres answers to a scrub, as it comes."""
    seen: list[bytes] = []

    class Reader:
        def receive(self, data: bytes) -> bytes | None:
            seen.append(data)
            return b"" if data.endswith(b"Z\0\0\0\x05I") else None

    done = asyncio.get_running_loop().create_future()
    lease.backend.send(frames, (Reader(), done.set_result))
    await done
    return [b"".join(seen)]


async def test_clean_answers_are_what_this_postgres_sends(database: Database) -> None:
    """Or each scrub would be read message by message, correct but slow."""
    async with leases(database, pool=ONE) as lending:
        await lending.run("SELECT 1")
        lease = await lending.lease()
        try:
            got = [*await scrub_replies(lease, scrub.RUN_LIGHT), *await scrub_replies(lease, scrub.RUN_LOOKING)]
            assert tuple(got) == scrub.CLEAN_REPLIES
        finally:
            lease.release()


@pytest.mark.parametrize("what", IN_A_FUNCTION)
async def test_nothing_that_a_function_leaves_behind_reaches_the_next_lease(database: Database, what: str) -> None:
    leaves, question = IN_A_FUNCTION[what]
    body = f"BEGIN EXECUTE $left${leaves}$left$; END"
    async with leases(database, pool=ONE) as lending:
        await lending.run(f"CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ {body} $$")
        clean, backend = await lending.value(question), await lending.value(PID)
        for _ in range(4):  # new to the connection at first, prepared afterwards
            await lending.run("SELECT leave()")
            assert await lending.value(question) == clean
        assert await lending.value(PID) == backend


async def test_function_that_prepares_only_later_is_found_now_and_then(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE FUNCTION obey(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; END $$")
        question = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"
        call = "SELECT obey($1)"
        for _ in range(2):
            await lending.value(question)
            await lending.value(call, "SELECT 1")
        await lending.value(call, "PREPARE sly AS SELECT 1")
        for _ in range(scrub.LOOK_EVERY):
            if await lending.value(question) == "0":
                break
        else:
            pytest.fail("it stayed")


async def test_open_transaction_is_rolled_back_behind_the_holders_back(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        lease = await lending.lease()
        await run(lease, "BEGIN")
        await run(lease, "INSERT INTO t VALUES (1)")
        backend = lease.backend.pid
        lease.release()
        assert lending.pool.returning
        assert await lending.value("SELECT count(*) FROM t") == "0"
        assert await lending.value(PID) == str(backend)


async def test_light_scrub_costs_no_wait_and_no_write_of_its_own(database: Database) -> None:
    """It travels with the statement; the lease is back without a turn of the loop when its answer came along."""
    async with leases(database, pool=ONE) as lending:
        await lending.run("SELECT 1")
        await lending.settled()
        lease = await lending.lease()
        writes: list[bytes] = []
        send = lease.backend._transport.write
        lease.backend._transport = Recording(lease.backend._transport, writes)  # type: ignore[assignment]
        await run(lease, "SELECT 1")
        lease.release()
        await lending.settled()
        assert len(writes) == 1
        assert writes[0].endswith(scrub.RUN_LIGHT)
        assert send is not None


class Recording:
    """A transport that notes what is written."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


async def test_release_twice_is_once(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await run(lease, "SELECT 1")
        lease.release()
        lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


async def test_lease_on_which_nothing_ran_needs_no_scrub(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        lease.release()
        assert (lending.pool.idle, lending.pool.gate.in_use) == (1, 0)


async def test_forgotten_lease_comes_back_and_is_told(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await run(lease, "BEGIN")
        del lease
        gc.collect()
        await lending.settled()
        assert lending.pool.idle == 1
        assert lending.told(Leaked) == [Leaked(str(lending.pool.key))]


# ── cancellation ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def cancelled_while_it_runs(lending: Leases, *texts: str) -> None:
    """Cancel a holder whose statement sleeps."""
    lease = await lending.lease()
    task = asyncio.create_task(run(lease, *texts))
    async with watching(lending.database) as watch:
        await watch.until(1, SLEEPING)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        lease.release()
        await watch.until(0, SLEEPING)


async def test_cancelled_statement_is_stopped_and_its_connection_kept(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        backend = await lending.value(PID)
        for texts in (
            ("INSERT INTO t SELECT 1 FROM pg_sleep(60)",),
            ("INSERT INTO t VALUES (2)", "SELECT pg_sleep(60)"),
            ("SELECT pg_sleep(60)", "INSERT INTO t VALUES (3)"),
        ):
            await cancelled_while_it_runs(lending, *texts)
            assert await lending.value("SELECT count(*) FROM t") == "0"
        assert await lending.value(PID) == backend
        assert [event.confirmed for event in lending.told(Cancelled)] == [True] * 3


async def test_late_cancel_never_hits_the_next_statement(database: Database) -> None:
    """Holders are cancelled at random moments around the end of their statement; the next one must not feel it."""
    chance = random.Random(11)
    async with leases(database, pool=ONE) as lending:
        for _ in range(500):
            lease = await lending.lease()
            task = asyncio.create_task(run(lease, "SELECT count(*) FROM generate_series(1, 300)"))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                await asyncio.sleep(chance.random() * 0.0008)
            task.cancel()
            await asyncio.wait({task})
            lease.release()
            assert await lending.value("SELECT count(*) FROM generate_series(1, 3000)") == "3000"
        assert len(lending.told(Cancelled)) > 20
        assert len(lending.told(Opened)) == 1, lending.told(Closed)


async def test_cancel_that_may_still_be_on_its_way_meets_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement ended by itself, but Postgres has not said that the signal was sent: the connection is given up."""
    async with leases(database, pool=ONE, statement={"cancel_timeout": 0.05}) as lending:
        lease = await lending.lease()
        never = asyncio.get_running_loop().create_future()

        async def on_its_way(backend: object) -> None:
            await never

        monkeypatch.setattr(type(lease.backend), "request_cancel", on_its_way)
        task = asyncio.create_task(run(lease, "SELECT pg_sleep(0.02)"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        before = lease.backend.pid
        lease.release()
        assert await lending.value(PID) != str(before)
        assert lending.told(Cancelled) == [Cancelled(str(lending.pool.key), confirmed=False)]


async def test_cancel_that_is_lost_or_comes_too_early_is_followed_by_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost without a word, refused, or passed on before Postgres has begun: the statement ends within a second, and
    the connection is kept where nothing can be on its way any more.
    """
    async with leases(database, pool=ONE) as lending:
        request = type((await lending.lease()).backend).request_cancel
    for what in ("refused", "found nothing", "lost"):
        asked = 0

        async def fail_first(backend: Backend, what: str = what) -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                await request(backend)
            elif what == "refused":
                raise ConnectionRefusedError
            elif what == "lost":
                await asyncio.get_running_loop().create_future()

        async with leases(database, pool=ONE, statement={"cancel_timeout": 2}) as lending:
            before = await lending.value(PID)
            monkeypatch.setattr(Backend, "request_cancel", fail_first)
            began = asyncio.get_running_loop().time()
            await cancelled_while_it_runs(lending, "SELECT pg_sleep(60)")
            assert asyncio.get_running_loop().time() - began < 1.8, f"{what}: in less than the 2 s of cancel_timeout"
            assert asked == 2, what
            assert (await lending.value(PID) == before) is (what != "lost")
            assert [event.confirmed for event in lending.told(Cancelled)] == [what != "lost"]


async def test_connection_that_is_dropped_ends_its_statement_although_no_cancel_comes_through(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(backend: Backend) -> None:
        await asyncio.get_running_loop().create_future()

    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        task = asyncio.create_task(run(lease, "SELECT pg_sleep(60)"))
        async with watching(database) as watch:
            await watch.until(1, SLEEPING)
            monkeypatch.setattr(Backend, "request_cancel", lost)
            lease.drop("abandoned")
            await watch.until(0, SLEEPING)  # Postgres has seen the end of the connection
        await asyncio.wait({task})


SOON = {"cancel_timeout": 0.1, "timeout": 0.2}
STUBBORN = """DO $$ BEGIN
    PERFORM set_config('client_connection_check_interval', '0', false);
    LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
END $$"""


async def test_statement_that_swallows_every_cancel_is_ended_with_its_process(
    database: Database, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever shares the role would wait for as long as its holder likes."""
    monkeypatch.setattr(roster, "INSIST_AFTER", 0.2)
    with scratch_role(postgres) as role:
        async with leases(database.as_role(role, "secret"), pool=ONE, statement=SOON) as lending:
            error = await refusal(lending.run(STUBBORN))
            assert isinstance(error, StatementTimeout)
            lease = await lending.lease(timeout=60)
            assert await value(lease, "SELECT 1") == "1"
            lease.release()


async def test_statement_that_swallows_the_cancel_keeps_its_permit_until_it_is_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process exists, so it counts; the holder need not wait for that."""
    monkeypatch.setattr(roster, "INSIST_AFTER", 3600.0)
    async with leases(database, pool=ONE, statement=SOON) as lending:
        error = await refusal(lending.run(STUBBORN))
        assert isinstance(error, StatementTimeout)
        assert await refusal(lending.lease(timeout=0.05))
        assert lending.registry.connections == 1
        async with watching(database) as watch:
            assert await watch.backends() == 1
            await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$%'")
        assert await lending.value("SELECT 1") == "1"


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_statement_timeout_is_the_gateways_where_postgres_has_none(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        backend = await lending.value(PID)
        limits = Limits(10_000, 0.1)  # Postgres knows the default of a minute only
        error = await refusal(lending.run("SELECT pg_sleep(60)", limits=limits))
        assert isinstance(error, StatementTimeout)
        assert error.message == "the statement ran longer than 0.1 s and was cancelled (statement.timeout)"
        error = await refusal(lending.run("SELECT 1", "SELECT pg_sleep(60)", limits=limits))
        assert isinstance(error, StatementTimeout)
        assert "0.1 s" in error.message
        assert await lending.value(PID) == backend


async def test_statement_timeout_is_not_that_of_a_whole_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_GRACE", 0.0)
    async with leases(database, pool=ONE) as lending:
        results = await lending.run(*["SELECT pg_sleep(0.3)"] * 4, limits=Limits(10_000, 1.0))
        assert len(results) == 4


async def test_no_timeout_sets_no_clock(database: Database) -> None:
    async with leases(database, pool=ONE, statement={"timeout": 0}) as lending:
        lease = await lending.lease()
        task = asyncio.create_task(run(lease, "SELECT pg_sleep(0.01)", limits=Limits(10_000, 0)))
        await asyncio.sleep(0)
        assert len(lending.pool.overdue) == 0
        await task
        lease.release()


async def test_rows_that_are_too_many_are_stopped_and_the_connection_kept(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        backend = await lending.value(PID)
        limits = Limits(100_000, 60)
        error = await refusal(lending.run("SELECT repeat('x', 100) FROM generate_series(1, 1000000)", limits=limits))
        assert isinstance(error, ResponseTooLarge)
        assert await lending.value(PID) == backend


# ── the connection ends ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_backend_killed_while_it_works_is_told_by_postgres(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        task = asyncio.create_task(lending.run("SELECT pg_sleep(60)"))
        async with watching(database) as watch:
            await watch.until(1, SLEEPING)
            await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        error = await refusal(task)
        assert isinstance(error, PostgresError)
        assert error.code == "57P01"
        assert await lending.value("SELECT 1") == "1"
        assert [event.reason for event in lending.told(Closed)] == ["broken"]


async def test_connection_that_breaks_without_a_word_is_told_as_such(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        task = asyncio.create_task(run(lease, "SELECT pg_sleep(60)"))
        async with watching(database) as watch:
            await watch.until(1, SLEEPING)
            lease.backend._transport.abort()
            error = await refusal(task)
            lease.release()
            assert isinstance(error, ConnectionBroken)
            assert error.may_have_run
            await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        assert await lending.value("SELECT 1") == "1"


async def test_backend_killed_while_it_is_scrubbed_is_replaced(database: Database) -> None:
    """Closing a cursor waits here for a lock of ours, so that the scrub is under way for as long as wanted."""
    async with leases(database, pool=ONE) as lending, watching(database) as watch:
        await lending.run("CREATE TABLE held (i int)")
        lease = await lending.lease()
        await run(lease, "BEGIN")
        exchange = Exchange()
        await lease.run(encode_query(b"LOCK TABLE held"), exchange)
        lease.backend._transport.pause_reading()  # what Postgres answers to the scrub is not read
        pid = lease.backend.pid
        lease.release()
        assert lending.pool.returning
        # With a time it returns when the process is gone, so that the scrub cannot be the first to end.
        await watch.run(f"SELECT pg_terminate_backend({pid}, 5000)")
        lease.backend._transport.resume_reading()
        assert await lending.value(PID) != str(pid)
        assert lending.registry.connections == 1


async def test_connection_whose_scrub_says_nonsense_is_not_lent_again(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await run(lease, "SET work_mem = '77MB'")
        pid = lease.backend.pid
        waiter = asyncio.create_task(lending.value(PID))
        lease.release()
        await asyncio.sleep(0)
        assert lending.pool.returning
        lease.backend.data_received(b"R\0\0\0\x08\0\0\0\0")
        assert await waiter != str(pid)


async def test_connection_that_does_not_come_clean_is_dropped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await run(lease, "SET work_mem = '77MB'")
        lease.backend._transport.pause_reading()
        lease.release()
        pid = lease.backend.pid
        lending.pool.sweep(asyncio.get_running_loop().time() + 31)
        assert await lending.value(PID) != str(pid)


async def test_value_helper_sees_null(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        assert await value(lease, "SELECT NULL::text") is None
        lease.release()
        await until(lambda: lending.pool.idle == 1)


async def test_batch_whose_holder_has_gone_is_not_committed_any_more(database: Database) -> None:
    """Its COMMIT is held back until its results are here, and they come when nobody wants them."""
    async with leases(database, pool=ONE) as lending, watching(database) as watch:
        await lending.run("CREATE TABLE t (i int)")
        backend = await lending.value(PID)
        lease = await lending.lease()
        lease.backend._transport.pause_reading()
        task = asyncio.create_task(run(lease, "INSERT INTO t VALUES (1) RETURNING i", "SELECT 'done'"))
        await watch.until(1, f"pid = {lease.backend.pid} AND wait_event = 'ClientRead' AND query = 'SELECT ''done'''")
        task.cancel()
        await asyncio.wait({task})
        lease.release()
        lease.backend._transport.resume_reading()
        assert await lending.value("SELECT count(*) FROM t") == "0"
        assert await lending.value(PID) == backend


async def test_copy_in_front_of_what_is_held_back_is_ended(database: Database) -> None:
    """While it waits for data Postgres passes over a Sync, and without a word it would wait for ever."""
    async with leases(database, pool=ONE) as fleet:
        lease = await fleet.lease()
        await run(lease, "CREATE TABLE copied (i int)")
        exchange = Exchange()
        begin = encode_parse(b"", b"BEGIN") + encode_bind(b"", ()) + EXECUTE
        copy = encode_parse(b"", b"COPY copied FROM STDIN") + encode_bind(b"", ()) + EXECUTE
        commit = encode_parse(b"", b"COMMIT") + encode_bind(b"", ()) + EXECUTE
        async with asyncio.timeout(10):
            await lease.run(begin + copy + FLUSH, exchange, tail=commit + SYNC, tail_after=2, statements=2)
        assert isinstance(exchange.error, UnsupportedStatement)
        assert exchange.status == ord("E"), "its transaction is open still, and failed"
        lease.release()
        assert await fleet.value("SELECT 1") == "1"
