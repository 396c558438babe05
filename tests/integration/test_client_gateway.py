"""The client with a real gateway: keeping connections, what the gateway refuses, conflicts, and what may have run."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sqlhttp import Refused, RequestTooLarge, ResponseTooLarge, Retry, errors, neon, neon_async
from sqlhttp._transport import POOL
from tests.support.cluster import Database
from tests.support.gateway import Gateway

Start = Callable[..., Gateway]


def test_a_connection_is_kept_and_asked_before_a_write_after_a_rest(
    gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlhttp._transport.CONTINUE_WAIT", 30.0)
    POOL.close()
    sql = neon(database.url, endpoint=gateway.sql)
    sql("create table t (a int)")
    [[connection]] = POOL._idle.values()
    connection._rested_at = (connection._rested_at[0] - 5, connection._rested_at[1] - 5)
    began = time.monotonic()
    assert sql.execute("insert into t values (1)") == 1
    assert time.monotonic() - began < 15, "the gateway did not say 100 Continue"
    assert [[connection]] == [*POOL._idle.values()]


def test_a_wrong_password_is_told_with_its_sqlstate(gateway: Gateway, database: Database) -> None:
    sql = neon(database.as_role("postgres", "wrong").url, endpoint=gateway.sql)
    with pytest.raises(errors.InvalidPassword, match="password authentication failed") as caught:
        sql("select 1")
    assert caught.value.sqlstate == "28P01"
    assert not caught.value.may_have_run


def test_a_full_pool_refuses_and_the_client_comes_again(start_gateway: Start, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.05})
    sql = neon(database.url, endpoint=gateway.sql, retry=None)
    sql("create table t (a int)")
    holding = threading.Event()

    def hold() -> None:
        holding.set()
        sql("select pg_sleep(1)")

    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(hold)
        holding.wait(10)
        refusal(lambda: sql("select 1"))  # now the pool is full, and stays so for a second
        error = refusal(lambda: sql("insert into t values (1)"))
        assert error.sqlstate == "53300"
        assert error.retry_after is not None
        assert not error.may_have_run
        patient = sql.with_(retry=Retry(attempts=20, budget=20.0))
        full = patient.query("insert into t values (2)", full_results=True)
        assert full.attempts > 1
        held.result(10)
    assert sql.col("select a from t") == [2]


def refusal(call: Callable[[], Any]) -> Refused:
    """The refusal of a call that may come before the pool is full."""
    deadline = time.monotonic() + 10
    while True:
        try:
            call()
        except Refused as error:
            return error
        assert time.monotonic() < deadline


def test_sizes_are_bounded_and_told(start_gateway: Start, database: Database) -> None:
    gateway = start_gateway(request={"max_bytes": 10_000}, response={"max_bytes": 10_000})
    sql = neon(database.url, endpoint=gateway.sql)
    with pytest.raises(RequestTooLarge, match="10000") as request:
        sql("select $1", "x" * 20_000)
    assert not request.value.may_have_run
    with pytest.raises(ResponseTooLarge, match="10000") as response:
        sql("select generate_series(1, 100000)")
    assert response.value.may_have_run
    with pytest.raises(ResponseTooLarge) as batch:
        sql.transaction([sql.q("select 1"), sql.q("select generate_series(1, 100000)")])
    assert batch.value.may_have_run is ("it was rolled back" not in batch.value.message)


def test_a_statement_that_takes_too_long_for_the_gateway_did_nothing(start_gateway: Start, database: Database) -> None:
    gateway = start_gateway(statement={"timeout": 0.2})
    sql = neon(database.url, endpoint=gateway.sql)
    with pytest.raises(errors.QueryCanceled) as caught:
        sql("select pg_sleep(30)")
    assert not caught.value.may_have_run


async def test_transactions_in_conflict_are_run_again_until_all_have_happened(
    gateway: Gateway, database: Database
) -> None:
    database.psql("create table t (n int); insert into t values (0)")
    sql = neon_async(database.url, endpoint=gateway.sql, retry=Retry(attempts=30, budget=30.0))
    add = [sql.q("select n from t"), sql.q("update t set n = n + 1"), sql.q("select pg_sleep(0.01)")]
    answers = await asyncio.gather(
        *[sql.transaction(add, isolation_level="Serializable", full_results=True) for _ in range(8)]
    )
    assert await sql.val("select n from t") == 8
    assert max(answer[0].attempts for answer in answers) > 1


def test_a_read_only_statement_cannot_write(gateway: Gateway, database: Database) -> None:
    sql = neon(database.url, endpoint=gateway.sql, read_only=True)
    with pytest.raises(errors.ReadOnlySqlTransaction):
        sql("create table t (a int)")
    assert sql.val("show transaction_read_only") == "on"
    sql.with_(read_only=False)("create table t (a int)")


def test_a_fragment_and_a_literal_mean_what_they_say(gateway: Gateway, database: Database) -> None:
    sql = neon(database.url, endpoint=gateway.sql)
    odd = 'ta"ble; drop'
    sql("create table $1 (a text)", sql.ident(odd))
    sql("insert into $1 values ($2)", sql.ident("public", odd), "x")
    where = sql.join([sql.q("a = $1", "x"), sql.q("a = any($1)", ["y", "z"])], " or ")
    assert sql("select * from $1 where $2", sql.ident(odd), where) == [{"a": "x"}]


@pytest.mark.parametrize("value", ["it's", "back\\slash' --", "$1 $$ /*", -1, -1.5, None, True, b"\x00'", {"a": "'\\"}])
@pytest.mark.parametrize("conforming", ["on", "off"])
def test_a_literal_is_its_value_whatever_the_quoting(
    value: Any, conforming: str, gateway: Gateway, database: Database
) -> None:
    from sqlhttp._literals import literal

    sql = neon(database.url, endpoint=gateway.sql)
    setting = sql.q("set local standard_conforming_strings = $1", sql.unsafe(conforming))
    [_, found] = sql.transaction(
        [setting, sql.q("select 1 -$1 as one, $2 as v", sql.unsafe("-1"), sql.unsafe(literal(value)))]
    )
    assert found[0]["v"] == (value if not isinstance(value, float) else -1.5)


async def test_a_timeout_is_the_gateway_s_too_which_says_where_the_time_went(
    gateway: Gateway, database: Database
) -> None:
    sql = neon(database.url, endpoint=gateway.sql, timeout=1.0)
    with pytest.raises(errors.QueryCanceled, match=r"s \(Sqlhttp-Timeout\) were over in execute: queue 0\.") as caught:
        await asyncio.to_thread(sql, "select pg_sleep(30)")
    assert caught.value.may_have_run
    async with neon_async(database.url, endpoint=gateway.sql) as sql_async:
        with pytest.raises(errors.QueryCanceled, match=r"\(Sqlhttp-Timeout\) were over in execute"):
            await sql_async.query("select pg_sleep(30)", timeout=1.0)
