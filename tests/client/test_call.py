"""One call: the request that goes out, and what is made of the answer."""

import json
from typing import Any

import pytest

from sqlhttp import InterfaceError, NoDataFound, Query, TooManyRows
from sqlhttp import _options as options_of
from sqlhttp._call import Positional, asked, batch_call, column_of, first_of, one_of, single_call, value_of, wanting
from sqlhttp._endpoint import destination
from sqlhttp._http1 import Reply
from sqlhttp._options import ClientOptions, Wanted
from sqlhttp._response import FullResults
from sqlhttp._startup import startup
from sqlhttp._template import Maker
from tests.support.scripted_http import ONE_ROW

OPTIONS = ClientOptions(destination("postgres://u:p@localhost/db", None, {}), transport=None)


def answered(call: Any, body: Any) -> Any:
    """What the steps end in when the first attempt gets this answer."""
    next(call.steps)
    try:
        call.steps.send(Reply(200, {}, json.dumps(body).encode()))
    except StopIteration as done:
        return done.value
    raise AssertionError("the call has not ended")


def test_a_statement_is_sent_alone() -> None:
    call = single_call(OPTIONS, Query("select $1", (5,)), None)
    assert json.loads(call.request.body) == {"query": "select $1", "params": ["5"]}
    assert answered(call, ONE_ROW) == [{"a": 1}]


def test_no_repr_has_a_secret() -> None:
    """Tools that report errors send along what every variable on the way shows of itself."""
    where = destination("postgres://u:hunter2@localhost/db", None, {})
    options = ClientOptions(where, transport=None, auth_token="hunter2")
    call = single_call(options, Query("select $1", ("hunter2",)), "hunter2")
    statement, _ = asked(options, Query("select $1", ("hunter2",)))
    login = startup(where.connection_string, None)
    assert b"hunter2" in call.request.body
    assert login.password == b"hunter2"
    assert "hunter2" not in repr((options, call, statement, login))


def test_a_statement_with_transaction_options_is_a_batch_of_one() -> None:
    options = options_of.changed(OPTIONS, read_only=True)
    call = single_call(options, Query("select 1"), None)
    assert json.loads(call.request.body) == {"queries": [{"query": "select 1", "params": []}]}
    assert dict(call.request.headers)["Neon-Batch-Read-Only"] == "true"
    assert answered(call, {"results": [ONE_ROW]}) == [{"a": 1}]


def test_options_that_ask_for_nothing_keep_a_statement_single() -> None:
    options = options_of.changed(OPTIONS, read_only=False, deferrable=False)
    assert "query" in json.loads(single_call(options, Query("select 1"), None).request.body)


@pytest.mark.parametrize(
    ("text", "read_only", "reads"),
    [("select 1", None, True), ("select f()", None, False), ("select f()", True, True), ("insert", None, False)],
)
def test_what_only_reads_is_told_from_the_text_or_by_the_caller(text: str, read_only: bool, reads: bool) -> None:
    options = options_of.changed(OPTIONS, read_only=read_only)
    assert single_call(options, Query(text), None).request.reads_only is reads
    assert batch_call(options, [Query("select 1"), Query(text)], None).request.reads_only is reads


def test_a_token_decides_where_the_request_goes() -> None:
    options = ClientOptions(destination("postgres://u@ep-x.eu.neon.tech/db", None, {}), transport=None)
    assert single_call(options, Query("select 1"), "token").endpoint.authority == "apiauth.eu.neon.tech"
    assert single_call(options, Query("select 1"), None).endpoint.authority == "api.eu.neon.tech"
    assert batch_call(options, [], "token").endpoint.authority == "apiauth.eu.neon.tech"


def test_a_fragment_is_put_in_before_the_text_is_judged() -> None:
    query: Query[Any] = Query("select $1", (Maker().unsafe("f()"),))
    assert not single_call(OPTIONS, query, None).request.reads_only


def test_queries_of_a_batch_have_their_own_wishes() -> None:
    call = batch_call(OPTIONS, [Query("a"), wanting(Query("b"), Wanted(array_mode=True))], None)
    assert answered(call, {"results": [ONE_ROW, ONE_ROW]}) == [[{"a": 1}], [(1,)]]


def test_a_batch_takes_queries_alone() -> None:
    with pytest.raises(InterfaceError, match=r"sql\.q, not str"):
        batch_call(OPTIONS, ["select 1"], None)


def test_places_are_looked_at_whatever_the_rows_are() -> None:
    query: Query[Any] = wanting(Query("a"), Wanted(row=dict, types={23: str}))
    assert answered(single_call(OPTIONS, query, None, positional=Positional.ROWS), ONE_ROW) == [["1"]]
    full = answered(single_call(OPTIONS, query, None, positional=Positional.FULL), ONE_ROW)
    assert isinstance(full, FullResults)
    assert full.row_count == 1


def test_one_is_the_only_row() -> None:
    assert one_of([1]) == 1
    assert one_of(FullResults([1], [], "SELECT", 1)) == 1
    with pytest.raises(NoDataFound) as none:
        one_of([])
    with pytest.raises(TooManyRows) as more:
        one_of([1, 2])
    assert (none.value.sqlstate, more.value.sqlstate) == ("P0002", "P0003")
    assert none.value.may_have_run
    assert more.value.may_have_run


def test_less_than_a_list_of_rows() -> None:
    assert first_of([1, 2]) == 1
    assert first_of([]) is None
    assert value_of([[7, 8]]) == 7
    assert value_of([]) is value_of([[]]) is None
    assert column_of([[1, 2], [3, 4]]) == [1, 3]


def test_a_timeout_of_the_caller_s_is_told_to_the_gateway_and_the_default_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("sqlhttp._options.monotonic", lambda: now)

    def told(options: ClientOptions) -> str | None:
        return dict(single_call(options, Query("select 1"), None).request.headers).get("Sqlhttp-Timeout")

    assert told(OPTIONS) is None
    assert told(OPTIONS._replace(timeout=None)) is None
    assert float(told(OPTIONS._replace(timeout=2.5)) or 0) == pytest.approx(2.4)
    assert float(told(OPTIONS._replace(timeout=0.1)) or 0) == pytest.approx(0.09)
    assert float(told(OPTIONS._replace(deadline=now + 5)) or 0) == pytest.approx(4.9)
    assert told(OPTIONS._replace(deadline=now - 1)) is None, "it is over before it is sent"
    assert told(OPTIONS._replace(timeout=1e7)) is None, "the gateway refuses so large a number"
    assert told(OPTIONS._replace(timeout=5e5)) == "499999.900"
    own = OPTIONS._replace(timeout=5.0, headers=(("sqlhttp-timeout", "1"),))
    assert told(own) is None
    assert dict(single_call(own, Query("select 1"), None).request.headers)["sqlhttp-timeout"] == "1"
