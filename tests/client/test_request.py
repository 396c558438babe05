"""Statements and options as headers and a body."""

import json
from typing import Any

import pytest

from sqlhttp import InterfaceError
from sqlhttp._request import Statement, TransactionOptions, request

ALWAYS = {
    "User-Agent": "sqlhttp",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "Neon-Raw-Text-Output": "true",
    "Neon-Array-Mode": "true",
}


def made(*statements: Statement, batch: bool = False, **options: Any) -> tuple[dict[str, str], Any]:
    out = request(statements, batch=batch, **{"connection_string": "postgres://u:p@h/d", **options})
    return dict(out.headers), json.loads(out.body)


def test_a_statement_is_query_and_params() -> None:
    headers, body = made(Statement("select $1", ("ä", None)))
    assert headers == {**ALWAYS, "Neon-Connection-String": "postgres://u:p@h/d"}
    assert body == {"query": "select $1", "params": ["ä", None]}


def test_a_batch_is_queries_and_how_its_transaction_begins() -> None:
    options = TransactionOptions("RepeatableRead", read_only=True, deferrable=False)
    headers, body = made(Statement("a"), Statement("b"), batch=True, transaction=options)
    assert body == {"queries": [{"query": "a", "params": []}, {"query": "b", "params": []}]}
    assert headers["Neon-Batch-Isolation-Level"] == "RepeatableRead"
    assert headers["Neon-Batch-Read-Only"] == "true"
    assert headers["Neon-Batch-Deferrable"] == "false"


def test_options_that_were_not_given_have_no_header() -> None:
    headers, body = made(batch=True, transaction=TransactionOptions())
    assert body == {"queries": []}
    assert not [name for name in headers if name.startswith("Neon-Batch")]


def test_a_token_goes_into_its_header_and_an_empty_one_nowhere() -> None:
    assert made(Statement("a"), token="t")[0]["Authorization"] == "Bearer t"
    assert "Authorization" not in made(Statement("a"), token="")[0]


def test_the_connection_string_may_be_left_out() -> None:
    assert made(Statement("a"), connection_string=None)[0] == ALWAYS


def test_the_callers_header_replaces_ours_of_the_same_name() -> None:
    headers, _ = made(Statement("a"), extra=(("user-agent", "mine"), ("X-A", "1")))
    assert "User-Agent" not in headers
    assert (headers["user-agent"], headers["X-A"]) == ("mine", "1")


def test_characters_outside_of_ascii_are_sent_as_utf8() -> None:
    assert "€😀".encode() in request([Statement("€😀")], batch=False, connection_string=None).body


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InterfaceError, match="surrogate"):
        made(Statement("select $1", ("\ud800",)))


def test_an_unknown_isolation_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InterfaceError, match="ReadCommitted"):
        made(batch=True, transaction=TransactionOptions("serializable"))  # type: ignore[arg-type]
