"""What a user of the synchronous client calls, against a server that answers from a script."""

import dataclasses
from typing import Any

import pytest

import sqlhttp
from sqlhttp import InterfaceError, NoDataFound, Query, Retry, Sql, neon
from tests.client.test_template import Template
from tests.support.scripted_http import answers, result, scripted

TWO = result(["1", "x"], ["2", "y"], types=(23, 25))


@dataclasses.dataclass
class Row:
    a: int
    b: str


@pytest.fixture
def server() -> Any:
    with scripted(answers(TWO)) as server:
        yield server


@pytest.fixture
def sql(server: Any) -> Sql[Any]:
    return neon(server.url)


def test_a_call_sends_text_and_parameters_and_returns_dicts(server: Any, sql: Sql[Any]) -> None:
    assert sql("select $1, $2", 1, "x") == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    [request] = server.requests
    assert request.json == {"query": "select $1, $2", "params": ["1", "x"]}
    assert request.headers["neon-connection-string"] == server.url
    assert request.headers["neon-raw-text-output"] == request.headers["neon-array-mode"] == "true"


def test_a_template_string_sends_its_values_beside_the_text(server: Any, sql: Sql[Any]) -> None:
    sql(Template("select * from {t:i} where a = {a}", t="users", a="x' or true"))
    assert server.requests[0].json == {"query": 'select * from "users" where a = $1', "params": ["x' or true"]}


def test_parts_are_put_together(server: Any, sql: Sql[Any]) -> None:
    conditions = sql.join([sql.q("a = $1", 1), sql.q("b = $1", 2)], " or ")
    sql("select * from $1 where $2 limit $3", sql.ident("t"), conditions, 5)
    assert server.requests[0].json == {
        "query": 'select * from "t" where a = $1 or b = $2 limit $3',
        "params": ["1", "2", "5"],
    }


def test_query_takes_options_of_its_own(server: Any, sql: Sql[Any]) -> None:
    assert sql.query("select $1", [1], array_mode=True) == [(1, "x"), (2, "y")]
    assert sql.query("select 1", full_results=True).command == "SELECT"
    assert sql.query("select 1", row=Row) == [Row(1, "x"), Row(2, "y")]
    assert sql.query("select 1", types={23: str})[0]["a"] == "1"
    sql.query("select 1", fetch_options={"headers": {"X-Trace": "7"}}, auth_token="t")
    assert server.requests[-1].headers["x-trace"] == "7"
    assert server.requests[-1].headers["authorization"] == "Bearer t"
    assert "authorization" not in server.requests[-2].headers


def test_a_query_that_was_made_keeps_its_wishes(sql: Sql[Any]) -> None:
    assert sql(sql.q("select 1", array_mode=True)) == [(1, "x"), (2, "y")]
    assert sql(sql.q("select $1", 5, row=Row)) == [Row(1, "x"), Row(2, "y")]


def test_rows_are_what_the_call_asks_for(sql: Sql[Any]) -> None:
    assert sql("select 1", row=Row) == [Row(1, "x"), Row(2, "y")]
    assert sql.first("select 1", row=Row) == Row(1, "x")


def test_a_client_can_be_told_once(server: Any) -> None:
    assert neon(server.url, array_mode=True)("select 1") == [(1, "x"), (2, "y")]
    assert neon(server.url, full_results=True)("select 1").row_count == 2
    assert neon(server.url, row=Row).first("select 1") == Row(1, "x")
    assert neon(server.url, types={23: float}).val("select 1") == 1.0
    assert neon(server.url, full_results=True, array_mode=True).first("select 1") == (1, "x")


def test_less_than_a_list_of_rows(sql: Sql[Any], server: Any) -> None:
    assert sql.first("select 1") == {"a": 1, "b": "x"}
    assert sql.val("select 1") == 1
    assert sql.col("select 1") == [1, 2]
    assert sql.execute("update t set a = 1") == 2
    with pytest.raises(sqlhttp.TooManyRows):
        sql.one("select 1")
    server.acts[:] = [answers(result(types=(23,)))]
    assert sql.first("select 1") is sql.val("select 1") is None
    with pytest.raises(NoDataFound):
        sql.one("select 1")
    server.acts[:] = [answers(result(["7"]))]
    assert sql.one("select 1") == {"a": 7}
    assert sql.one("select 1", row=lambda a: a) == 7


def test_one_works_on_a_client_with_full_results(server: Any) -> None:
    server.acts[:] = [answers(result(["7"]))]
    assert neon(server.url, full_results=True).one("select 1") == {"a": 7}


# ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transaction_is_one_request(server: Any, sql: Sql[Any]) -> None:
    rows = sql.transaction([sql.q("select $1", 1), sql.q("select 2", array_mode=True)], isolation_level="Serializable")
    assert rows == [[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], [(1, "x"), (2, "y")]]
    [request] = server.requests
    assert request.json == {"queries": [{"query": "select $1", "params": ["1"]}, {"query": "select 2", "params": []}]}
    assert request.headers["neon-batch-isolation-level"] == "Serializable"
    assert "neon-batch-read-only" not in request.headers


def test_a_transaction_may_be_a_function(server: Any, sql: Sql[Any]) -> None:
    rows = sql.transaction(
        lambda tx: [
            tx("select $1", 1),
            tx.query("select $1", [2], array_mode=True),
            tx("delete from $1", tx.ident("t")),
        ]
    )
    assert [len(answer) for answer in rows] == [2, 2, 2]
    assert [query["query"] for query in server.requests[0].json["queries"]] == [
        "select $1",
        "select $1",
        'delete from "t"',
    ]


def test_a_transactions_wishes_are_those_of_queries_that_have_none(sql: Sql[Any]) -> None:
    rows = sql.transaction([sql.q("a"), sql.q("b", row=Row)], array_mode=True, full_results=True)
    assert [answer.rows[0] for answer in rows] == [(1, "x"), Row(1, "x")]


def test_a_transaction_without_queries_is_one_too(server: Any, sql: Sql[Any]) -> None:
    assert sql.transaction([]) == []
    assert server.requests[0].json == {"queries": []}


def test_a_clients_transaction_options_are_the_default(server: Any) -> None:
    sql = neon(server.url, isolation_level="RepeatableRead", read_only=True)
    sql.transaction([sql.q("select 1")], read_only=False)
    headers = server.requests[0].headers
    assert (headers["neon-batch-isolation-level"], headers["neon-batch-read-only"]) == ("RepeatableRead", "false")


def test_a_string_is_no_query_of_a_transaction(sql: Sql[Any], server: Any) -> None:
    wrong: Any = ["select 1"]
    with pytest.raises(InterfaceError, match=r"sql\.q"):
        sql.transaction(wrong)
    assert not server.requests


# ── derived clients, tokens, deadlines ───────────────────────────────────────────────────────────────────────────────


def test_a_derived_client_differs_and_shares_connections(server: Any, sql: Sql[Any]) -> None:
    rows = sql.with_(row=Row)
    assert rows("select 1") == [Row(1, "x"), Row(2, "y")]
    assert sql("select 1") == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert sql.with_(array_mode=True).with_(full_results=True)("select 1").rows[0] == (1, "x")
    assert server.connections == 1


def test_a_token_may_be_a_function_that_is_asked_every_time(server: Any) -> None:
    tokens = iter(["one", "two"])
    sql = neon(server.url, auth_token=lambda: next(tokens))
    sql("select 1")
    sql.transaction([])
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]


def test_a_token_function_that_gives_none_sends_none(server: Any) -> None:
    none: Any = lambda: None  # noqa: E731
    neon(server.url, auth_token=none)("select 1")
    assert "authorization" not in server.requests[0].headers


def test_a_token_that_must_be_awaited_belongs_to_the_other_client(server: Any) -> None:
    async def token() -> str:
        return "t"

    wrong: Any = token
    with pytest.raises(InterfaceError, match="neon_async"):
        neon(server.url, auth_token=wrong)("select 1")
    assert not server.requests


def test_a_deadline_ends_every_call_of_the_derived_client(server: Any, sql: Sql[Any]) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 500

    with pytest.raises(sqlhttp.ConnectTimeout):
        sql.with_deadline(Context())("select 1")
    assert sql.with_deadline(60)("select 1")


def test_attempts_are_in_the_result(server: Any) -> None:
    server.acts.insert(0, answers({"message": "busy"}, status=503, headers=["Retry-After: 0"]))
    assert neon(server.url, retry=Retry(attempts=2)).query("select 1", full_results=True).attempts == 2


def test_an_error_knows_its_query(server: Any, sql: Sql[Any]) -> None:
    server.acts[:] = [answers({"message": "no", "code": "42703", "position": "8"}, status=400)]
    with pytest.raises(sqlhttp.errors.UndefinedColumn) as caught:
        sql("select $1", sql.ident("nme"))
    assert str(caught.value) == 'no (SQLSTATE 42703)\nLINE 1: select "nme"\n               ^'


def test_url_and_endpoint_come_from_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@ep-x.eu.neon.tech/db")
    monkeypatch.setenv("SQLHTTP_ENDPOINT", f"http://127.0.0.1:{server.port}")
    neon()("select 1")
    assert server.requests[0].headers["neon-connection-string"] == "postgresql://u:p@ep-x.eu.neon.tech/db"


def test_what_it_shows_of_itself_has_no_password(sql: Sql[Any], server: Any) -> None:
    assert repr(sql) == f"<sqlhttp.Sql http://127.0.0.1:{server.port}/sql>"


def test_a_query_is_text_a_template_or_a_query(sql: Sql[Any]) -> None:
    wrong: Any = 5
    with pytest.raises(InterfaceError):
        sql(wrong)
    assert isinstance(sql.q("select 1"), Query)
