"""The client's transactions, sessions and notifications over a real gateway's WebSocket."""

# ruff: noqa: PT012 - the block of a transaction is what raises

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from sqlhttp import InterfaceError, NeonDbError, Retry, Sql, TransactionLost, errors, neon, neon_async
from tests.support.cluster import Database
from tests.support.gateway import Gateway

Start = Callable[..., Gateway]


@pytest.fixture
def sql(gateway: Gateway, database: Database) -> Sql[list[dict[str, Any]]]:
    database.psql("create table t (id int primary key, n int not null default 0)")
    return neon(database.url, endpoint=gateway.sql)


def test_a_transaction_commits_at_the_end_of_its_block(sql: Sql[Any]) -> None:
    with sql.begin() as tx:
        assert tx("insert into t values ($1, $2) returning *", 1, 10) == [{"id": 1, "n": 10}]
        assert tx.val("select n from t where id = $1", 1) == 10
        assert sql.val("select count(*) from t") == 0
    assert sql.val("select n from t") == 10


def test_an_exception_rolls_back(sql: Sql[Any]) -> None:
    with pytest.raises(KeyError), sql.begin() as tx:
        tx("insert into t values (1)")
        raise KeyError
    assert sql.val("select count(*) from t") == 0


def test_answers_are_those_of_http(sql: Sql[Any]) -> None:
    text = """
        select 1::int2 as a, 2.50::numeric as b, null::text as c, '{1,2}'::int[] as d, true as e, 'é'::text as f,
               '2024-02-29 12:00:00+00'::timestamptz as g, '{"a": [1]}'::jsonb as h, '\\x00ff'::bytea as i,
               $1::text as j
    """
    over_http = sql.query(text, ["x"], full_results=True)
    with sql.begin() as tx:
        over_wire = tx.query(text, ["x"], full_results=True)
        assert (over_wire.rows, over_wire.fields) == (over_http.rows, over_http.fields)
        assert (over_wire.command, over_wire.row_count) == (over_http.command, over_http.row_count) == ("SELECT", 1)
        assert tx.execute("update t set n = 1") == 0
        assert tx.query("", full_results=True).command == sql.query("", full_results=True).command == ""
        assert tx("select 1 as a where false") == []


def test_errors_are_those_of_http(sql: Sql[Any]) -> None:
    def caught(run: Callable[..., Any]) -> dict[str, Any]:
        with pytest.raises(NeonDbError) as found:
            run("insert into t values ($1), ($1)", 1)
        told = {name: value for name, value in vars(found.value).items() if name not in ("attempts", "retry_after")}
        return {"class": type(found.value), **told}

    with sql.session() as session:
        assert caught(session) == caught(sql)
        with pytest.raises(errors.UndefinedColumn) as error:
            session("select $1::int, nme from t", 1)
        assert str(error.value).splitlines()[1:3] == ["LINE 1: select $1::int, nme from t", " " * 24 + "^"]


def test_a_savepoint_takes_back_its_part_alone(sql: Sql[Any]) -> None:
    with sql.begin() as tx:
        tx("insert into t values (1)")
        with pytest.raises(errors.UniqueViolation), tx.savepoint():
            tx("insert into t values (2)")
            with tx.savepoint():
                tx("insert into t values (1)")
        with tx.savepoint() as point:
            tx("insert into t values (3)")
            point.rollback()
            tx("insert into t values (4)")
        with suppress(ValueError), tx.savepoint():
            tx("insert into t values (5)")
            raise ValueError
    assert sql.col("select id from t order by id") == [1, 4]


def test_isolation_and_access_are_as_asked(sql: Sql[Any]) -> None:
    with sql.begin(isolation_level="Serializable", read_only=True, deferrable=True) as tx:
        shown = [tx.val("select current_setting($1)", f"transaction_{name}") for name in ("isolation", "read_only")]
        assert shown == ["serializable", "on"]
        assert tx.val("show transaction_deferrable") == "on"
    with pytest.raises(errors.ReadOnlySqlTransaction), sql.with_(read_only=True).begin() as tx:
        tx("insert into t values (1)")


def test_a_statement_that_failed_is_not_committed_over(sql: Sql[Any]) -> None:
    with pytest.raises(errors.InFailedSqlTransaction) as caught, sql.begin() as tx:
        tx("insert into t values (1)")
        with suppress(NeonDbError):
            tx("select nothing")
    assert isinstance(caught.value.__cause__, errors.UndefinedColumn)
    assert sql.val("select count(*) from t") == 0


def test_a_transaction_may_be_ended_early(sql: Sql[Any]) -> None:
    with sql.begin() as tx:
        tx("insert into t values (1)")
        tx.commit()
        with pytest.raises(InterfaceError, match="over"):
            tx("insert into t values (2)")
    with sql.begin() as tx:
        tx("insert into t values (3)")
        tx.rollback()
    assert sql.col("select id from t") == [1]


def test_transactions_in_conflict_run_again_until_all_have_happened(sql: Sql[Any]) -> None:
    sql("insert into t values (1)")
    calls = []

    def add(tx: Any) -> int:
        calls.append(1)
        n: int = tx.val("select n from t where id = 1")
        tx("update t set n = $1 where id = 1", n + 1)
        return n + 1

    patient = sql.with_(retry=Retry(attempts=50, budget=30.0))
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: patient.begin(add, isolation_level="Serializable"), range(12)))
    assert sorted(counts) == list(range(1, 13))
    assert sql.val("select n from t") == 12
    assert len(calls) > 12


def test_a_session_keeps_its_backend(sql: Sql[Any]) -> None:
    with sql.session() as session:
        session("set application_name = 'mine'")
        session("create temporary table mine (a int)")
        pid = session.val("select pg_backend_pid()")
        with session.begin() as tx:
            tx("insert into mine values (1)")
            with pytest.raises(InterfaceError, match="savepoints"), session.begin():
                raise AssertionError
        with suppress(errors.DivisionByZero), session.begin() as tx:
            tx("insert into mine values (2)")
            tx("select 1 / 0")
        assert session.begin(lambda tx: tx.val("select count(*) from mine")) == 1
        assert session.val("show application_name") == "mine"
        assert session.val("select pg_backend_pid()") == pid


def test_notifications_arrive_in_order(sql: Sql[Any]) -> None:
    with sql.listen("jobs", 'o"dd', timeout=20) as jobs:
        sql("select pg_notify('jobs', $1)", "first")
        sql("select pg_notify($1, '')", 'o"dd')
        heard = [(n.channel, n.payload) for _, n in zip(range(2), jobs, strict=False)]
    assert heard == [("jobs", "first"), ('o"dd', "")]


def test_waiting_ends_and_goes_on(sql: Sql[Any]) -> None:
    with sql.listen("jobs", timeout=0.05) as jobs:
        assert list(jobs) == []
        sql("notify jobs")
        assert len(heard_within(5, jobs)) == 1


def heard_within(seconds: float, jobs: Any) -> list[Any]:
    """The first that come, looked for again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := list(jobs):
            return found
    return []


def test_a_statement_that_takes_too_long_takes_back_its_transaction(sql: Sql[Any]) -> None:
    with pytest.raises(TransactionLost, match="in time") as caught, sql.begin() as tx:
        tx("insert into t values (1)")
        tx.query("select pg_sleep(30)", timeout=0.2)
    assert not caught.value.may_have_run
    assert sql.val("select count(*) from t") == 0


def test_a_backend_that_ends_is_told_as_postgres_tells_it(sql: Sql[Any]) -> None:
    with pytest.raises(errors.AdminShutdown) as caught, sql.begin() as tx:
        pid = tx.val("select pg_backend_pid()")
        threading.Timer(0.1, lambda: sql("select pg_terminate_backend($1::int)", pid)).start()
        tx("select pg_sleep(30)")
    assert not caught.value.may_have_run


def test_a_wrong_password_is_told_with_its_sqlstate(gateway: Gateway, database: Database) -> None:
    sql = neon(database.as_role("postgres", "wrong").url, endpoint=gateway.sql)
    with pytest.raises(errors.InvalidPassword) as caught, sql.begin():
        raise AssertionError
    assert not caught.value.may_have_run


def test_a_full_pool_refuses_and_the_client_comes_again(start_gateway: Start, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.05})
    sql = neon(database.url, endpoint=gateway.sql, retry=None)
    patient = sql.with_(retry=Retry(attempts=200, budget=20.0))
    patient("create table t (a int)")  # the first connection may take longer than anybody waits here
    with patient.begin():
        with pytest.raises(NeonDbError) as caught, sql.begin():
            raise AssertionError
        assert (type(caught.value).__name__, caught.value.sqlstate) == ("Refused", "53300")
        waiting = ThreadPoolExecutor(1).submit(patient.begin, lambda tx: tx("insert into t values (1)"))
    assert waiting.result(30) == []


def test_copy_is_refused_and_the_connection_goes_on(sql: Sql[Any]) -> None:
    with sql.session() as session:
        for text in ("copy t from stdin", "copy t to stdout"):
            with pytest.raises(errors.FeatureNotSupported):
                session.query(session.unsafe(text))
        assert session.val("select 1") == 1


# ── asyncio ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_everything_can_be_awaited(gateway: Gateway, database: Database) -> None:
    sql = neon_async(database.url, endpoint=gateway.sql)
    await sql("create table t (id int primary key, n int not null default 0)")
    async with sql.listen("jobs", timeout=20) as jobs, sql.session() as session:
        async with session.begin(isolation_level="RepeatableRead") as tx:
            assert await tx.execute("insert into t values (1)") == 1
            with suppress(errors.UniqueViolation):
                async with tx.savepoint():
                    await tx("insert into t values (1)")
            await tx("notify jobs, 'one'")
            assert await tx.val("select current_setting('transaction_isolation')") == "repeatable read"
        async for notification in jobs:
            assert (notification.channel, notification.payload) == ("jobs", "one")
            break
    assert await sql.col("select id from t") == [1]


async def test_many_tasks_in_conflict_all_come_through(gateway: Gateway, database: Database) -> None:
    sql = neon_async(database.url, endpoint=gateway.sql, retry=Retry(attempts=100, budget=60.0))
    await sql("create table t as select 0 as n")

    async def add(tx: Any) -> None:
        n = await tx.val("select n from t")
        await tx("update t set n = $1", n + 1)

    await asyncio.gather(*[sql.begin(add, isolation_level="Serializable") for _ in range(12)])
    assert await sql.val("select n from t") == 12


async def test_a_cancelled_task_takes_its_transaction_and_its_query_with_it(
    gateway: Gateway, database: Database
) -> None:
    sql = neon_async(database.url, endpoint=gateway.sql)
    await sql("create table t (a int)")

    async def work() -> None:
        async with sql.begin() as tx:
            await tx("insert into t values (1)")
            await tx("select pg_sleep(60)")

    task = asyncio.create_task(work())
    sleeping = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    async with asyncio.timeout(20):
        while await sql.val(sleeping) != 1:
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while await sql.val(sleeping) != 0:
            pass
    assert await sql.val("select count(*) from t") == 0
