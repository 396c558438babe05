"""The client and the gateway's result cache."""

import pytest

from sqlhttp import Cache, InterfaceError, NeonDbError, neon, neon_async
from tests.support.cluster import Database
from tests.support.gateway import Gateway


def test_call_asks_and_is_told_and_can_end_what_it_asked_for(database: Database, gateway: Gateway) -> None:
    database.psql("CREATE TABLE users AS SELECT 7 AS id, 'Ann' AS name")
    sql = neon(database.url, endpoint=gateway.sql, full_results=True, cache=Cache(ttl=60, tags=["user:7"]))
    first, second = sql("SELECT name FROM users WHERE id = $1", 7), sql("SELECT name FROM users WHERE id = $1", 7)
    assert first.rows == second.rows == [{"name": "Ann"}]
    assert first.cache is not None
    assert (first.cache.hit, first.cache.stored) == (False, True)
    assert second.cache is not None
    assert (second.cache.hit, second.cache.age) == (True, 0)
    database.psql("UPDATE users SET name = 'Bob'")
    assert sql("SELECT name FROM users WHERE id = $1", 7).rows == [{"name": "Ann"}]
    sql.cache.invalidate("user:7")
    assert sql("SELECT name FROM users WHERE id = $1", 7).rows == [{"name": "Bob"}]
    sql.cache.invalidate(relations=["users"])
    answer = sql("SELECT name FROM users WHERE id = $1", 7)
    assert answer.cache is not None
    assert not answer.cache.hit


def test_call_can_ask_otherwise_than_its_client(database: Database, gateway: Gateway) -> None:
    sql = neon(database.url, endpoint=gateway.sql, full_results=True)
    assert sql("SELECT 1 AS one").cache is None
    wish = Cache(ttl=60)
    assert sql.query("SELECT 1 AS one", cache=wish).cache.stored
    assert sql.query("SELECT 1 AS one", cache=wish).cache.hit
    assert not sql.query("SELECT 1 AS one", cache=wish._replace(refresh=True)).cache.hit
    assert sql.with_(cache=wish).query("SELECT 1 AS one", cache=None).cache is None
    assert sql.query("SELECT now() AS at", cache=wish).cache.detail == "time:now"
    with pytest.raises(NeonDbError, match="nobody else") as raised:
        sql.query("SELECT 2 AS two", cache=Cache(ttl=60, only_if_cached=True), retry=None)
    assert raised.value.code == "55000"


def test_what_is_no_cache_is_refused_before_anything_is_sent(database: Database, gateway: Gateway) -> None:
    sql = neon(database.url, endpoint=gateway.sql)
    with pytest.raises(InterfaceError):
        sql.query("SELECT 1", cache=60)  # type: ignore[call-overload]
    with pytest.raises(InterfaceError):
        sql.cache.invalidate()


async def test_asynchronous_client_does_the_same(database: Database, gateway: Gateway) -> None:
    async with neon_async(database.url, endpoint=gateway.sql, full_results=True, cache=Cache(ttl=60)) as sql:
        await sql("SELECT 1 AS one")
        answer = await sql("SELECT 1 AS one")
        assert answer.cache is not None
        assert answer.cache.hit
        await sql.cache.invalidate(all=True)
        answer = await sql("SELECT 1 AS one")
        assert answer.cache is not None
        assert not answer.cache.hit
