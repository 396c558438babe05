"""A plain statement in one write and one read leaves as clean a connection as any, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, PostgresError, ResponseTooLarge, StatementTimeout
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.plain import plain_result, start_plain
from sqlhttp_gateway.model import Result, Statement
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import BEHIND_ONE_LOOKING, CLEAN_REPLIES, LOOK_EVERY
from sqlhttp_gateway.pools.single import Single
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.cut_answers import Cut
from tests.support.leases import Leases, leases, until

WIDE = Limits(10_000_000, 60.0)


class Asked:
    """A statement that was begun on a lease of its own."""

    def __init__(self, lease: Lease, statement: Statement, limits: Limits = WIDE, *, array_mode: bool = True) -> None:
        self.lease = lease
        self.over = asyncio.Event()
        started = start_plain(lease, statement, self.over.set, array_mode=array_mode, limits=limits)
        assert isinstance(started, Single), "it was not foreseen"
        self.single = started

    async def outcome(self) -> Result | GatewayError:
        """What came of it."""
        async with asyncio.timeout(20):
            await self.over.wait()
        if self.single.result is not None:
            assert self.single.exchange is None
            return self.single.result
        exchange = self.single.exchange
        assert exchange is not None
        return exchange.error or exchange.results[0]


@asynccontextmanager
async def foreseen(database: Database, *texts: str, **sections: Any) -> AsyncIterator[Leases]:
    """A pool of one connection that has run these statements, without parameters, often enough to foresee them."""
    async with leases(database, pool={"max_size": 1}, **sections) as lending:
        for _ in range(2):
            for text in texts:
                await known(lending, text)
        yield lending


async def known(lending: Leases, text: str) -> None:
    """Run a statement as if by a request."""
    lease = await lending.lease()
    over = asyncio.Event()
    statement = Statement(text)
    started = start_plain(lease, statement, over.set, array_mode=True, limits=WIDE)
    await over.wait()
    plain_result(lease, statement, started, WIDE)
    lease.release()
    await lending.settled()


def values(result: Result | GatewayError) -> list[tuple[bytes | None, ...]]:
    assert isinstance(result, Result), result
    return list(rows_of(result.rows))


async def test_connection_is_free_the_moment_the_answer_is_here(database: Database) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        lease = await lending.lease()
        Cut(lease.backend)
        asked = Asked(lease, Statement("SELECT 1"))
        assert values(await asked.outcome()) == [(b"1",)]
        lease.release()
        assert lending.pool.idle == 1
        assert lending.pool.gate.in_use == 0


@pytest.mark.parametrize("cuts", [(1,), (9,), (120, 121, 122), (-len(CLEAN_REPLIES[0]),), (-1,)])
async def test_answer_in_pieces_is_read_all_the_same(database: Database, cuts: tuple[int, ...]) -> None:
    text = "SELECT n, 'x' FROM generate_series(1, 3) AS n"
    async with foreseen(database, text) as lending:
        lease = await lending.lease()
        Cut(lease.backend, *cuts)
        asked = Asked(lease, Statement(text))
        assert values(await asked.outcome()) == [(b"1", b"x"), (b"2", b"x"), (b"3", b"x")]
        lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


@pytest.mark.parametrize(
    ("dirt", "look", "clean"),
    [
        ("SELECT set_config('work_mem', '1MB', false)", "SELECT current_setting('work_mem')", b"4MB"),
        ("SELECT set_config('a.b', 'mine', false)", "SELECT current_setting('a.b', true)", b""),
        ("SELECT set_config('role', 'pg_monitor', false)", "SELECT current_user", b"postgres"),
        ("SELECT pg_advisory_lock(7)::text", "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'", b"0"),
    ],
)
async def test_nothing_of_one_statement_is_there_for_the_next(
    database: Database, dirt: str, look: str, clean: bytes
) -> None:
    async with foreseen(database, dirt, look) as lending:
        for _ in range(3):
            asked = Asked(await lending.lease(), Statement(dirt))
            await asked.outcome()
            asked.lease.release()
            await lending.settled()
            asked = Asked(await lending.lease(), Statement(look))
            assert values(await asked.outcome()) == [(clean,)]
            asked.lease.release()
            await lending.settled()
        assert lending.pool.idle == 1


@pytest.mark.parametrize("cuts", [(), (-len(CLEAN_REPLIES[0]),), (9,)])
async def test_scrub_that_is_not_confirmed_is_followed_by_a_deep_one(database: Database, cuts: tuple[int, ...]) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        lease = await lending.lease()
        cut = Cut(lease.backend, *cuts, status=b"T")
        asked = Asked(lease, Statement("SELECT 1"))
        assert values(await asked.outcome()) == [(b"1",)]
        cut.heal()
        lease.release()
        assert lending.pool.idle == 0
        await lending.settled()
        assert lending.pool.idle == 1
        assert lease.backend.statements.prepared("SELECT 1") is None


async def test_error_is_told_and_the_connection_kept(database: Database) -> None:
    text = "SELECT 1 / (SELECT count(*) FROM t)"
    database.psql("CREATE TABLE t AS SELECT 1")
    async with foreseen(database, text) as lending:
        database.psql("DELETE FROM t")
        asked = Asked(await lending.lease(), Statement(text))
        error = await asked.outcome()
        assert isinstance(error, PostgresError)
        assert error.code == "22012"
        asked.lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


SLOW = "SELECT pg_sleep(coalesce((SELECT max(n) FROM t), 0))"


async def test_holder_who_leaves_stops_the_statement_and_the_connection_is_clean_again(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW, "SELECT 1") as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW))
        asked.lease.release()
        await lending.settled()
        assert not asked.over.is_set()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT 1") == "1"


async def test_statement_that_runs_too_long_is_refused(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW) as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW), Limits(10_000_000, 0.01))
        assert isinstance(await asked.outcome(), StatementTimeout)
        asked.lease.release()
        await lending.settled()


async def test_connection_that_breaks_is_told(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW) as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW))
        asked.lease.backend.abort()
        assert isinstance(await asked.outcome(), ConnectionBroken)
        asked.lease.release()
        await until(lambda: not lending.registry.connections)


async def test_answer_that_is_too_large_is_refused(database: Database) -> None:
    text = "SELECT repeat('x', 1000)"
    async with foreseen(database, text) as lending:
        asked = Asked(await lending.lease(), Statement(text), Limits(500, 60.0))
        error = await asked.outcome()
        assert isinstance(error, GatewayError)
        assert "too large (max is 500 bytes)" in error.message
        asked.lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


async def test_now_and_then_the_scrub_looks_for_what_a_function_has_prepared(database: Database) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        for _ in range(2 * LOOK_EVERY):
            lease = await lending.lease()
            Cut(lease.backend)
            asked = Asked(lease, Statement("SELECT 1"))
            assert values(await asked.outcome()) == [(b"1",)]
            lease.release()
            assert lending.pool.idle == 1, "the answer to a scrub that looks is as usual"


@pytest.mark.uncompiled
async def test_one_scrub_in_so_many_looks_and_no_more(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what a function has prepared, of which nothing else tells."""
    database.psql("""CREATE TABLE given (n int); CREATE FUNCTION leave() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM given) THEN EXECUTE 'PREPARE theirs AS SELECT 1'; END IF; RETURN 7; END $$""")
    looked = []
    start = Lease.start_whole

    def recorded(self: Lease, frames: bytes, *rest: Any, **named: Any) -> None:
        looked.append(frames.endswith(BEHIND_ONE_LOOKING[0]))
        start(self, frames, *rest, **named)

    monkeypatch.setattr(Lease, "start_whole", recorded)
    async with foreseen(database, "SELECT leave()", "SELECT 1") as lending:

        async def ask(text: str) -> None:
            asked = Asked(await lending.lease(), Statement(text))
            assert isinstance(await asked.outcome(), Result)
            asked.lease.release()
            await lending.settled()

        lease = await lending.lease()
        lease.backend.scrubs = 0
        lease.release()
        await lending.settled()
        database.psql("INSERT INTO given VALUES (1)")
        looked.clear()
        await ask("SELECT leave()")
        for _ in range(LOOK_EVERY - 1):
            await ask("SELECT 1")
        assert looked.count(True) == 1
        assert await lending.value("SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == "0"


@pytest.mark.parametrize("cuts", [(), (9,)], ids=["in one piece", "in pieces"])
@pytest.mark.parametrize("array_mode", [True, False])
async def test_names_of_columns_count_where_each_row_repeats_them(
    database: Database, cuts: tuple[int, ...], array_mode: bool
) -> None:
    text = f"SELECT n AS {'x' * 50} FROM generate_series(1, 100) AS n"
    async with foreseen(database, text) as lending:
        lease = await lending.lease()
        Cut(lease.backend, *cuts)
        asked = Asked(lease, Statement(text), Limits(4000, 60.0), array_mode=array_mode)
        outcome = await asked.outcome()
        assert isinstance(outcome, Result if array_mode else ResponseTooLarge)
        if asked.single.exchange is not None:
            assert asked.single.exchange.reading is READINGS[array_mode, True]
        lease.release()
        await lending.settled()


# ── the scrub in the statement's own Sync ──

DEFERRED = """
CREATE TABLE t (n int);
CREATE TABLE seen (setting text, zone text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.n < 0 THEN RAISE EXCEPTION 'not below zero' USING ERRCODE = 'check_violation'; END IF;
    INSERT INTO seen VALUES (current_setting('a.b', true), current_setting('TimeZone'));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
CREATE TABLE given (n int);
INSERT INTO given VALUES (1);
"""
WITH_A_TRIGGER = """
    INSERT INTO t SELECT n FROM given
    WHERE set_config('a.b', 'mine', false) = 'mine' AND set_config('TimeZone', 'Asia/Tokyo', false) <> ''
"""


async def test_deferred_trigger_finds_the_session_as_its_statement_left_it(database: Database) -> None:
    database.psql(DEFERRED)
    async with foreseen(database, WITH_A_TRIGGER) as lending:
        asked = Asked(await lending.lease(), Statement(WITH_A_TRIGGER))
        result = await asked.outcome()
        assert isinstance(result, Result)
        assert result.tag == b"INSERT 0 1"
        asked.lease.release()
        assert lending.pool.idle == 1, "the scrub has come with the answer"
        assert await lending.value("SELECT count(*) FROM seen WHERE setting = 'mine' AND zone = 'Asia/Tokyo'") == "3"
        assert await lending.value("SELECT current_setting('a.b', true)") == ""


async def test_what_a_deferred_constraint_refuses_is_the_statements_own_error(database: Database) -> None:
    database.psql(DEFERRED)
    async with foreseen(database, WITH_A_TRIGGER) as lending:
        database.psql("UPDATE given SET n = -1")
        asked = Asked(await lending.lease(), Statement(WITH_A_TRIGGER))
        error = await asked.outcome()
        assert isinstance(error, PostgresError)
        assert (error.code, error.message) == ("23514", "not below zero")
        asked.lease.release()
        assert lending.pool.idle == 0, "the scrub was skipped with it"
        await lending.settled()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT count(*) FROM t") == "2"
        assert await lending.value("SELECT current_setting('a.b', true)") == ""


async def test_what_an_error_leaves_behind_is_scrubbed_before_the_next(database: Database) -> None:
    text = "SELECT pg_advisory_lock(n)::text, 1 / n FROM given"
    look = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'"
    database.psql(DEFERRED)
    async with foreseen(database, text, look) as lending:
        database.psql("UPDATE given SET n = 0")
        asked = Asked(await lending.lease(), Statement(text))
        assert isinstance(await asked.outcome(), PostgresError)
        assert database.psql(look) == "1\n", "a lock of the session outlives the transaction"
        asked.lease.release()
        asked = Asked(await lending.lease(), Statement(look))
        assert values(await asked.outcome()) == [(b"0",)]
        asked.lease.release()


@pytest.mark.parametrize(
    "parameter", ["default_transaction_read_only", "default_transaction_isolation", "statement_timeout"]
)
async def test_how_transactions_begin_is_not_the_last_callers_choice(database: Database, parameter: str) -> None:
    value = {"default_transaction_read_only": "on", "default_transaction_isolation": "serializable"}
    dirt = f"SELECT set_config('{parameter}', '{value.get(parameter, '1')}', false)"
    look = f"SELECT current_setting('{parameter.replace('default_', '')}') || left(pg_sleep(0.01)::text, 0)"
    async with foreseen(database, dirt) as lending:
        clean = await lending.value(look)
        for _ in range(3):
            asked = Asked(await lending.lease(), Statement(dirt))
            assert isinstance(await asked.outcome(), Result)
            asked.lease.release()
            assert await lending.value(look) == clean


async def test_function_that_drops_all_prepared_statements_is_answered(database: Database) -> None:
    database.psql(f"""{DEFERRED} CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM given WHERE n < 0) THEN EXECUTE 'DEALLOCATE ALL'; END IF; RETURN 7; END $$""")
    async with foreseen(database, "SELECT forget()") as lending:
        database.psql("UPDATE given SET n = -1")
        asked = Asked(await lending.lease(), Statement("SELECT forget()"))
        assert values(await asked.outcome()) == [(b"7",)]
        asked.lease.release()
        await lending.settled()
        assert asked.lease.backend.statements.prepared("SELECT forget()") is None, "it was cleaned deeply"
        assert await lending.value("SELECT 1") == "1"


async def test_statement_that_cannot_share_a_transaction_is_not_made_to(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        for text in (
            "SHOW work_mem",
            "BEGIN",
            "COMMIT",
            "VACUUM",
            "EXPLAIN SELECT 1",
            "LOCK TABLE pg_class",
            "LISTEN a",
        ):
            for _ in range(3):
                lease = await lending.lease()
                over = asyncio.Event()
                started = start_plain(lease, Statement(text), over.set, array_mode=True, limits=WIDE)
                assert not isinstance(started, Single), text
                await over.wait()
                lease.release()
                await lending.settled()
