"""Wishes read from headers, the echo of a batch, and what a browser's preflight is told."""

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import IsolationLevel, Options, TransactionOptions
from sqlhttp_gateway.neon.headers import (
    ALLOWED_REQUEST_HEADERS,
    CORS_PREFLIGHT,
    JSON_HEADERS,
    batch_echo,
    options_from_headers,
)


def test_no_headers_ask_for_nothing() -> None:
    assert options_from_headers({}) == Options()


def test_the_drivers_usual_two_headers() -> None:
    headers = {b"neon-raw-text-output": b"true", b"neon-array-mode": b"true", b"host": b"localhost"}
    assert options_from_headers(headers) == Options(raw_text=True, array_mode=True)


@pytest.mark.parametrize("value", [b"True", b"TRUE", b"1", b"yes", b"false", b"", b" true", b"true "])
def test_only_the_exact_word_true_is_true(value: bytes) -> None:
    names = (b"neon-raw-text-output", b"neon-array-mode", b"neon-batch-read-only", b"neon-batch-deferrable")
    assert options_from_headers(dict.fromkeys(names, value)) == Options()


@pytest.mark.parametrize(
    ("value", "begin"),
    [
        (b"ReadUncommitted", "START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ ONLY, DEFERRABLE"),
        (b"ReadCommitted", "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY, DEFERRABLE"),
        (b"RepeatableRead", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE"),
        (b"Serializable", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
    ],
)
def test_each_isolation_level_with_both_switches(value: bytes, begin: str) -> None:
    headers = {
        b"neon-batch-isolation-level": value,
        b"neon-batch-read-only": b"true",
        b"neon-batch-deferrable": b"true",
    }
    options = options_from_headers(headers)
    assert options.transaction.begin == begin
    assert batch_echo(options.transaction) == [
        (b"neon-batch-read-only", b"true"),
        (b"neon-batch-deferrable", b"true"),
        (b"neon-batch-isolation-level", value),
    ]


@pytest.mark.parametrize("value", [b"serializable", b"READ COMMITTED", b"", b"Serializable ", b"\xff"])
def test_any_other_isolation_level_is_refused_each_time(value: bytes) -> None:
    for _ in range(2):  # a refusal must not be remembered as an answer
        with pytest.raises(BadRequest, match="invalid isolation level") as refused:
            options_from_headers({b"neon-batch-isolation-level": value})
    assert refused.value.hint == (
        "One of ReadUncommitted, ReadCommitted, RepeatableRead, Serializable, spelled like this."
    )


def test_read_only_false_asks_for_nothing_and_is_not_echoed() -> None:
    options = options_from_headers({b"neon-batch-read-only": b"false"})
    assert options.transaction.begin == "START TRANSACTION"
    assert batch_echo(options.transaction) == []


def test_the_echo_of_a_level_alone() -> None:
    options = TransactionOptions(isolation_level=IsolationLevel.SERIALIZABLE)
    assert batch_echo(options) == [(b"neon-batch-isolation-level", b"Serializable")]


def test_the_preflight_allows_all_that_neons_does_and_what_it_forgot() -> None:
    headers = dict(CORS_PREFLIGHT)
    assert headers[b"allow"] == b"OPTIONS, POST, QUERY"
    assert headers[b"access-control-allow-methods"] == b"POST, QUERY"
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"access-control-max-age"] == b"86400"
    allowed = {name.decode() for name in headers[b"access-control-allow-headers"].split(b", ")}
    of_neon = {
        "Authorization",
        "Neon-Connection-String",
        "Neon-Raw-Text-Output",
        "Neon-Array-Mode",
        "Neon-Pool-Opt-In",
        "Neon-Batch-Read-Only",
        "Neon-Batch-Isolation-Level",
    }
    assert of_neon < allowed == set(ALLOWED_REQUEST_HEADERS)
    assert {"Neon-Batch-Deferrable", "Content-Type", "Sqlhttp-Timeout"} < allowed


def test_every_answer_is_json_that_any_page_may_read() -> None:
    headers = dict(JSON_HEADERS)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"access-control-expose-headers"] == b"*"
