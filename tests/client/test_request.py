"""Statements and options as headers and a body."""

import json
from typing import Any

import pytest

from sqlhttp import InterfaceError
from sqlhttp._request import Request, Statement, TransactionOptions, request, with_key

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


# ── exactly once ─────────────────────────────────────────────────────────────────────────────────────────────────────


def written(text: str = "insert into t values (1)") -> Request:
    return request((Statement(text),), batch=False, connection_string=None)


def test_key_is_quoted_as_the_standard_has_it_and_makes_the_request_repeatable() -> None:
    out = with_key(written(), 'a "b" \\')
    assert dict(out.headers)["Idempotency-Key"] == '"a \\"b\\" \\\\"'
    assert (written().is_repeatable, out.is_repeatable) == (False, True)


def test_auto_makes_a_key_for_each_request_that_may_write_and_none_for_others() -> None:
    keys = {dict(with_key(written(), "auto").headers)["Idempotency-Key"] for _ in range(3)}
    assert len(keys) == 3
    assert "Idempotency-Key" not in dict(with_key(written("select 1"), "auto").headers)


@pytest.mark.parametrize("key", ["", "é", "a\nb", "k" * 256])
def test_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(InterfaceError, match="idempotency_key="):
        with_key(written(), key)
