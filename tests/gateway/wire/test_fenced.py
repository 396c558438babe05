"""A fenced program's messages on their way to a backend and back, message by message."""

from sqlhttp_gateway.model import Prologue, Statement
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession
from tests.support.postgres_model import (
    BIND_COMPLETE,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    ROW_DESCRIPTION,
    SYNC,
    bind,
    command_complete,
    describe,
    error,
    execute,
    frame,
    function_call,
    parse,
    query,
    ready,
    row,
)

PROLOGUE = Prologue((Statement("SELECT 'first'"),), read_only=True)
DONE = PARSE_COMPLETE + BIND_COMPLETE


def run(text: str) -> bytes:
    """A statement of the gateway's own, on a backend that keeps none."""
    return parse("", text) + bind("", "") + execute("")


OPENING = run("START TRANSACTION READ ONLY") + run("SELECT 'first'")
OPENED = DONE + command_complete("START TRANSACTION") + DONE + row(b"first") + command_complete("SELECT 1")
COMMITTED = DONE + command_complete("COMMIT")
ROW = row(b"1") + command_complete("SELECT 1")


def a_tunnel(*, size: int = 0) -> Pipeline:
    """A fenced tunnel after its log-in, with a backend."""
    tunnel = Pipeline({}, Sources(), key_data=b"", is_fenced=True)
    tunnel.attach(BackendSession({}, statement_cache_size=size), lambda: PROLOGUE)
    tunnel.to_frontend()
    return tunnel


def sent(tunnel: Pipeline, data: bytes) -> bytes:
    tunnel.receive_frontend(data)
    return tunnel.to_backend()


def answered(tunnel: Pipeline, data: bytes) -> bytes:
    tunnel.receive_backend(data)
    return tunnel.to_frontend()


def test_simple_query_becomes_prepared_statements_and_is_answered_as_a_simple_query() -> None:
    tunnel = a_tunnel()
    piece = parse("", "SELECT 1") + bind("", "") + describe("P", "") + execute("")
    assert sent(tunnel, query("SELECT 1")) == OPENING + piece + run("COMMIT") + SYNC
    answer = DONE + ROW_DESCRIPTION + ROW
    assert answered(tunnel, OPENED + answer + COMMITTED + ready()) == ROW_DESCRIPTION + ROW + ready()
    assert tunnel.may_release


def test_statement_without_rows_says_nothing_of_them() -> None:
    tunnel = a_tunnel()
    sent(tunnel, query("SET a.b = 'c'"))
    told = answered(tunnel, OPENED + DONE + NO_DATA + command_complete("SET") + COMMITTED + ready())
    assert told == command_complete("SET") + ready()


def test_batch_waits_until_the_one_before_is_answered() -> None:
    tunnel = a_tunnel()
    batch = parse("", "SELECT 1") + bind("", "") + execute("") + SYNC
    first = sent(tunnel, batch + batch)
    assert first == OPENING + batch[: -len(SYNC)] + run("COMMIT") + SYNC
    told = answered(tunnel, OPENED + DONE + ROW + COMMITTED + ready())
    assert told == DONE + ROW + ready()
    assert tunnel.to_backend() == first


def test_commonest_exchange_takes_no_short_cut_past_the_fence() -> None:
    tunnel = a_tunnel(size=100)
    named = sent(tunnel, parse("s", "SELECT 1") + SYNC)
    assert b"START TRANSACTION READ ONLY" in named
    answered(tunnel, OPENED + PARSE_COMPLETE + NO_PARAMETERS + ROW_DESCRIPTION + COMMITTED + ready())
    assert tunnel.may_release
    again = sent(tunnel, bind("", "s") + describe("P", "") + execute("") + SYNC)
    assert len(again) > len(bind("", "s") + describe("P", "") + execute("") + SYNC)


def test_failed_transaction_of_ours_is_ended_before_the_program_hears_that_it_may_go_on() -> None:
    tunnel = a_tunnel()
    batch = parse("", "SELECT 1/0") + bind("", "") + execute("") + SYNC
    sent(tunnel, batch + batch)
    wrong = error("22012", "no")
    assert answered(tunnel, OPENED + DONE + wrong + ready("E")) == DONE + wrong
    assert tunnel.to_backend() == run("ROLLBACK") + SYNC
    assert answered(tunnel, DONE + command_complete("ROLLBACK") + ready()) == ready()
    assert tunnel.to_backend().startswith(OPENING)


def test_failure_before_the_sync_sends_no_commit() -> None:
    tunnel = a_tunnel()
    sent(tunnel, parse("", "SELEC 1") + frame(b"H"))
    answered(tunnel, OPENED + error("42601", "no"))
    assert sent(tunnel, bind("", "") + execute("") + SYNC) == SYNC


def test_call_that_is_passed_over_behind_an_error_holds_no_sync_back() -> None:
    tunnel = a_tunnel()
    sent(tunnel, parse("", "SELEC") + function_call() + SYNC)
    syntax = error("42601", "syntax error")
    assert answered(tunnel, OPENED + syntax) == syntax
    assert tunnel.to_backend() == SYNC
    assert answered(tunnel, ready()) == ready()
    assert tunnel.may_release


def test_refused_message_fails_at_the_server_with_our_words() -> None:
    tunnel = a_tunnel()
    assert sent(tunnel, parse("", "COPY t FROM STDIN") + SYNC) == parse("", "refused by the gateway") + SYNC
    told = answered(tunnel, error("42601", "no") + ready())
    assert b"C42501" in told
    assert b"42601" not in told
    assert told.endswith(ready())


def test_prologue_that_fails_ends_the_tunnel() -> None:
    tunnel = a_tunnel()
    sent(tunnel, query("SELECT 1"))
    told = answered(tunnel, DONE + command_complete("START TRANSACTION") + error("28000", "no") + ready("E"))
    assert b"VFATAL" in told
    assert b"claims could not be set" in told
    assert tunnel.is_terminated
