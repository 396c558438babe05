"""The asynchronous client has the same names with the same meaning."""

import inspect
from typing import Any

import pytest

from sqlhttp import AsyncSql, InterfaceError, Sql, neon, neon_async
from tests.support.scripted_http import answers, result, scripted

TWO = result(["1", "x"], ["2", "y"], types=(23, 25))
AWAITED = {"__call__", "query", "transaction", "one", "first", "val", "col", "execute", "close"}


@pytest.fixture
def server() -> Any:
    with scripted(answers(TWO)) as server:
        yield server


@pytest.fixture
def sql(server: Any) -> AsyncSql[Any]:
    return neon_async(server.url)


def public(cls: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") or name == "__call__"
    }


def test_every_name_and_parameter_is_there() -> None:
    ours, theirs = public(AsyncSql), public(Sql)
    assert ours.keys() == theirs.keys()
    for name in ours:
        here, there = inspect.signature(ours[name]).parameters, inspect.signature(theirs[name]).parameters
        assert [(p.name, p.kind, p.default) for p in here.values()] == [
            (p.name, p.kind, p.default) for p in there.values()
        ], name
        assert inspect.iscoroutinefunction(ours[name]) == (name in AWAITED), name
    here, there = inspect.signature(neon_async).parameters, inspect.signature(neon).parameters
    assert [(p.name, p.kind, p.default) for p in here.values()] == [(p.name, p.kind, p.default) for p in there.values()]


async def test_calls_return_what_the_synchronous_ones_do(server: Any, sql: AsyncSql[Any]) -> None:
    twin = neon(server.url)
    assert await sql("select $1", 5) == twin("select $1", 5)
    assert await sql.query("select $1", [5], array_mode=True) == twin.query("select $1", [5], array_mode=True)
    assert (await sql.query("a", full_results=True)).fields == twin.query("a", full_results=True).fields
    assert await sql.first("a") == twin.first("a")
    assert await sql.val("a") == twin.val("a") == 1
    assert await sql.col("a") == twin.col("a") == [1, 2]
    assert await sql.execute("a") == twin.execute("a") == 2
    assert await sql.with_(array_mode=True)("a") == twin.with_(array_mode=True)("a")
    assert await sql.with_deadline(60)("a") == twin("a")
    assert await sql.transaction([sql.q("a"), sql.q("b")]) == twin.transaction([twin.q("a"), twin.q("b")])
    assert await sql.transaction(lambda tx: [tx("a")]) == twin.transaction(lambda tx: [tx("a")])
    bodies = [request.body for request in server.requests]
    assert bodies[::2] == bodies[1::2]


async def test_one_is_the_only_row(server: Any, sql: AsyncSql[Any]) -> None:
    server.acts[:] = [answers(result(["7"]))]
    assert await sql.one("a") == {"a": 7}
    assert await sql.one("a", row=lambda a: a) == 7
    assert await sql("a", row=lambda a: a) == [7]
    assert await sql.first("a", row=lambda a: a) == 7


async def test_a_token_may_be_text_a_function_or_awaitable(server: Any) -> None:
    async def later() -> str:
        return "later"

    wrong: Any = lambda: 5  # noqa: E731
    for token in ("text", lambda: "function", later):
        await neon_async(server.url, auth_token=token)("a")
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer text",
        "Bearer function",
        "Bearer later",
    ]
    with pytest.raises(InterfaceError, match="int"):
        await neon_async(server.url, auth_token=wrong)("a")


def test_what_it_shows_of_itself_has_no_password(sql: AsyncSql[Any], server: Any) -> None:
    assert repr(sql) == f"<sqlhttp.AsyncSql http://127.0.0.1:{server.port}/sql>"
