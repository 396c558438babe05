"""Replies become rows, or the error that says what happened."""

import json
from email.utils import formatdate
from time import time
from typing import Any, NamedTuple

import pytest

from sqlhttp import DataError, Field, FullResults, InterfaceError, NeonDbError, ProtocolError
from sqlhttp._http1 import Reply
from sqlhttp._response import Shape, batch, error_of, single
from tests.support.scripted_http import result

ANSWER = result(["1", "x"], [None, "y"], types=(23, 25))


def ok(body: Any) -> Reply:
    return Reply(200, {}, json.dumps(body).encode())


def failed(status: int, body: Any = None, **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def test_rows_are_made_of_texts() -> None:
    assert single(ok(ANSWER), Shape()) == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
    assert single(ok(ANSWER), Shape(tuple)) == [(1, "x"), (None, "y")]
    assert single(ok(ANSWER), Shape(types={23: float})) == [{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}]


def test_full_results_have_fields_command_count_and_attempts() -> None:
    full = single(ok(ANSWER), Shape(full_results=True), attempts=2)
    assert isinstance(full, FullResults)
    assert list(full) == full.rows == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
    assert full.fields == [Field("a", 23, 0, 0, 4, -1, "text"), Field("b", 25, 0, 0, 4, -1, "text")]
    assert (full.command, full.row_count, full.attempts, len(full)) == ("SELECT", 2, 2, 2)
    assert repr(full) == "FullResults(SELECT 2, 2 rows)"


def test_a_statement_without_rows_gives_none() -> None:
    answer: dict[str, Any] = {"fields": [], "rows": [], "command": "CREATE", "rowCount": None, "rowAsArray": True}
    assert single(ok(answer), Shape()) == []
    assert single(ok(answer), Shape(full_results=True)).row_count is None


def test_a_batch_has_an_answer_for_each_statement_in_its_own_shape() -> None:
    reply = ok({"results": [ANSWER, ANSWER]})
    assert batch(reply, [Shape(tuple), Shape(full_results=True)])[0] == [(1, "x"), (None, "y")]
    assert batch(ok({"results": []}), []) == []


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1]", b'"x"', b"{}", b'{"fields": 1, "rows": []}', b'{"fields": [{}], "rows": []}']
)
def test_an_answer_that_is_none_says_so_and_that_the_statement_may_have_run(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        single(Reply(200, {}, body), Shape())
    assert caught.value.may_have_run


def test_a_batch_with_too_few_answers_is_none() -> None:
    with pytest.raises(ProtocolError, match="one result for each"):
        batch(ok({"results": [ANSWER]}), [Shape(), Shape()])


def test_rows_that_cannot_be_made_do_not_undo_the_statement() -> None:
    class Other(NamedTuple):
        x: int

    with pytest.raises(InterfaceError, match="no field for the column 'a'") as caught:
        single(ok(ANSWER), Shape(Other))
    assert caught.value.may_have_run


def test_a_value_that_cannot_be_read_names_its_column() -> None:
    with pytest.raises(DataError, match=r"column 'b' .*type 25.*invalid literal") as caught:
        single(ok(ANSWER), Shape(types={25: int}))
    assert caught.value.may_have_run
    with pytest.raises(DataError, match="column 'b'"):
        single(ok(result(["1"], types=(23, 23))), Shape())  # a row that is too short


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

POSTGRES = {
    "message": "duplicate key",
    "code": "23505",
    "detail": "Key (id)=(1) already exists.",
    "hint": None,
    "position": None,
    "internalPosition": "4",
    "internalQuery": "select",
    "severity": "ERROR",
    "where": "PL",
    "table": "t",
    "column": "c",
    "schema": "public",
    "dataType": "int4",
    "constraint": "t_pkey",
    "file": "nbtinsert.c",
    "line": "666",
    "routine": "_bt_check_unique",
}


def test_every_field_of_neons_error_is_there() -> None:
    error = error_of(failed(400, POSTGRES), ("insert",))
    for key, value in POSTGRES.items():
        name = {"internalPosition": "internal_position", "internalQuery": "internal_query", "dataType": "data_type"}
        assert getattr(error, name.get(key, key)) == value
    assert error.sqlstate == "23505"
    assert error.query == "insert"
    assert type(error).__name__ == "UniqueViolation"


def test_which_statement_of_a_batch_failed_is_not_known() -> None:
    assert error_of(failed(400, POSTGRES), ("a", "b")).query is None


NO_ROLE = {"message": "password authentication failed for user 'x'", "code": ""}
CANCELLED = {"message": "Query cancelled, connection was terminated", "code": "08P01"}


@pytest.mark.parametrize(
    ("reply", "name", "may_have_run", "retryable"),
    [
        (failed(400, {"message": "m", "code": "42601"}), "SyntaxError", False, False),
        (failed(400, {"message": "m", "code": "08P01"}), "ProtocolViolation", False, False),
        (failed(400, {"message": "m", "code": "08006"}), "ConnectionFailure", True, False),
        (failed(400, {"message": "m", "code": "40003"}), "StatementCompletionUnknown", True, False),
        (failed(400, {"message": "m", "code": "57014"}), "QueryCanceled", False, False),
        (failed(500, {"message": "m", "code": "08001"}), "SqlclientUnableToEstablishSqlconnection", False, False),
        (failed(500, {"message": "m", "code": "53300"}), "TooManyConnections", False, False),
        (failed(500, {"message": "m", "code": "22021"}), "CharacterNotInRepertoire", True, False),
        (failed(500, {"message": "m", "code": "08P01"}), "ProtocolViolation", True, False),
        (failed(500, {"message": "m", "code": "XX000"}), "InternalError_", True, False),
        (failed(503, {"message": "m", "code": "53300"}), "Refused", False, True),
        (failed(503, {"message": "m", "code": None}), "Refused", False, True),
        # of a balancer whose server may have gone away in the middle of it
        (failed(503, b"upstream connect error or disconnect/reset before headers"), "Refused", True, True),
        (failed(503, {"message": "Service Unavailable"}), "Refused", True, True),
        (failed(429, b""), "Refused", False, True),
        (failed(409, {"message": "m", "code": "55P03"}), "KeyInFlight", False, True),
        (failed(409, {"message": "m", "code": "58000"}), "BookmarkLost", False, False),
        (failed(409, {"message": "m", "code": "40003"}), "StatementCompletionUnknown", True, False),
        (failed(422, {"message": "m", "code": "22023"}), "KeyReused", False, False),
        (failed(413, {"message": "m", "code": "54000"}), "RequestTooLarge", False, False),
        (failed(507, {"message": "m", "code": "54000"}), "ResponseTooLarge", True, False),
        # without a code, as Neon's proxy answers
        (failed(400, NO_ROLE), "OperationalError", False, False),
        (failed(400, {"message": "missing username", "code": ""}), "DatabaseError", False, False),
        (failed(400, {"message": "connection closed", "code": ""}), "DatabaseError", True, False),
        (failed(400, CANCELLED), "ProtocolViolation", True, False),
        (failed(500, {"message": "Couldn't connect to compute node", "code": ""}), "ServerFailed", False, False),
        (failed(504, {"message": "late", "code": "57014"}), "QueryCanceled", True, False),
        (failed(504, {"message": "late", "code": "53300"}), "TooManyConnections", False, False),
        (failed(429, {"message": "too fast", "code": "53400"}), "Refused", False, True),
        # from something on the way
        (failed(400, "query is not supported"), "DatabaseError", False, False),
        (failed(404, b"not found"), "ServerFailed", False, False),
        (failed(401, b""), "ServerFailed", False, False),
        (failed(502, b"<html>"), "ServerFailed", True, False),
        (failed(301, b""), "ServerFailed", True, False),
    ],
)  # fmt: skip
def test_an_error_has_its_class_and_says_whether_the_statement_may_have_run(
    reply: Reply, name: str, may_have_run: bool, retryable: bool
) -> None:
    error = error_of(reply, ("select 1",))
    assert (type(error).__name__, error.may_have_run, error.retryable) == (name, may_have_run, retryable)


@pytest.mark.parametrize(
    ("texts", "code", "may"),
    [
        (("/* x */ CALL p()",), "40001", True),
        (("do $$ begin commit; raise 'x'; end $$",), "P0001", True),
        (("call p()",), None, False),  # Neon's own word, before anything ran
        (("call p()", "call p()"), "2D000", False),  # in a transaction it can commit nothing
        (("insert into t values (1)",), "40001", False),
    ],
)
def test_a_procedure_that_fails_may_have_committed_a_part(texts: tuple[str, ...], code: str | None, may: bool) -> None:
    body = {"message": "invalid x"} | ({} if code is None else {"code": code})
    assert error_of(failed(400, body), texts).may_have_run is may


def test_a_batch_whose_answer_is_too_large_was_rolled_back() -> None:
    assert not error_of(failed(507, {"message": "m"}), ("a", "b")).may_have_run


def test_what_is_no_json_is_shown_with_its_status() -> None:
    assert str(error_of(failed(502, b"Bad Gateway"))) == "HTTP status 502: Bad Gateway"
    assert str(error_of(failed(502, b""))) == "HTTP status 502"
    assert str(error_of(failed(400, "query is not supported"))) == "HTTP status 400: query is not supported"


def test_retry_after_is_seconds_or_a_date() -> None:
    assert error_of(failed(503, b"", retry_after="7")).retry_after == 7.0
    dated = error_of(failed(503, b"", retry_after=formatdate(time() + 60, usegmt=True))).retry_after
    assert dated is not None
    assert 50 < dated <= 60
    assert error_of(failed(503, b"", retry_after=formatdate(time() - 60, usegmt=True))).retry_after == 0.0
    for wrong in ("soon", "0.5", "Mon, 01 Jan 99999999999 00:00:00 GMT"):
        assert error_of(failed(503, b"", retry_after=wrong)).retry_after is None
    assert error_of(failed(503, b"")).retry_after is None


def test_errors_are_raised() -> None:
    with pytest.raises(NeonDbError):
        single(failed(400, POSTGRES), Shape())
    with pytest.raises(NeonDbError):
        batch(failed(400, POSTGRES), [])


@pytest.mark.parametrize(("ran", "may"), [("no", False), ("maybe", True), ("yes", True)])
@pytest.mark.parametrize("status", [400, 500, 503, 507])
def test_a_server_that_says_whether_it_ran_is_believed(status: int, ran: str, may: bool) -> None:
    body = {"message": "m", "code": "57014"}
    reply = failed(status, body)
    error = error_of(reply._replace(headers={"sqlhttp-ran": ran}), ("a", "b"))
    assert error.may_have_run is may
