"""What is sent to clean a connection, and what of the answers means that it is clean."""

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, PostgresError, ResponseTooLarge
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.scrub import (
    AHEAD,
    AHEAD_LOOKING,
    CLEAN_REPLIES,
    Scrub,
    ScrubbedExchange,
    changes_schema,
    needs_deep_scrub,
)
from sqlhttp_gateway.wire.ahead import Ahead
from tests.support.rows import data_row, description

READY = b"Z\0\0\0\x05I"
CLEAN, CLEAN_AFTER_A_LOOK = CLEAN_REPLIES


def answered(data: bytes, *, step: int = 0) -> Scrub:
    """A scrub that has read `data`, in pieces of `step` bytes."""
    reading = Scrub()
    step = step or len(data)
    for at in range(0, len(data), step):
        rest = reading.receive(data[at : at + step])
        assert (rest is None) == (at + step < len(data))
    return reading


@pytest.mark.parametrize("reply", CLEAN_REPLIES)
@pytest.mark.parametrize("step", [0, 1, 7, 50])
def test_usual_answer_is_clean_in_whatever_pieces(reply: bytes, step: int) -> None:
    assert answered(reply, step=step).is_clean


def test_bytes_after_the_answer_are_handed_back() -> None:
    assert Scrub().receive(CLEAN) == b""
    assert Scrub().receive(CLEAN + b"N\0\0\0\x04") == b"N\0\0\0\x04"


def test_answer_that_also_tells_of_settings_is_clean() -> None:
    """RESET reports parameters that the program had changed."""
    status = b"S\0\0\0\x11TimeZone\0UTC\0"
    assert answered(status + CLEAN).is_clean


def test_first_run_is_answered_with_parse_complete_too() -> None:
    assert answered(b"1\0\0\0\x04" * len(scrub.LIGHT) + CLEAN).is_clean


def test_statement_that_somebody_prepared_in_sql_is_not_clean() -> None:
    assert b"\0\0\0\x01f" in CLEAN_AFTER_A_LOOK
    assert not answered(CLEAN_AFTER_A_LOOK.replace(b"\0\0\0\x01f", b"\0\0\0\x01t")).is_clean


def test_error_is_not_clean() -> None:
    error = b"SERROR\0VERROR\0C57014\0Mcanceled\0\0"
    assert not answered(b"2\0\0\0\x04E" + (len(error) + 4).to_bytes(4) + error + READY).is_clean


@pytest.mark.parametrize("status", [b"T", b"E"])
def test_transaction_that_is_still_open_is_not_clean(status: bytes) -> None:
    assert not answered(CLEAN[:-1] + status).is_clean


def test_session_is_left_as_discard_all_leaves_it_but_for_our_statements() -> None:
    """The order is DISCARD ALL's: cursors go first, while whoever opened them is still who runs their code."""
    words = [text.split()[:2] for text in scrub.LIGHT]
    assert words == [
        [b"CLOSE", b"ALL"],
        [b"RESET", b"SESSION"],
        [b"RESET", b"ALL"],
        [b"UNLISTEN", b"*"],
        [b"SELECT", b"pg_catalog.pg_advisory_unlock_all()"],
        [b"DISCARD", b"TEMP"],
        [b"DISCARD", b"SEQUENCES"],
    ]


@pytest.mark.parametrize(
    "tag",
    [b"PREPARE", b"PREPARE TRANSACTION", b"DEALLOCATE", b"DEALLOCATE ALL", b"DISCARD ALL", b"DO", b"CALL", b"LOAD"],
)
def test_what_may_have_touched_prepared_statements_needs_the_deep_scrub(tag: bytes) -> None:
    assert needs_deep_scrub(tag)


@pytest.mark.parametrize("tag", [b"SELECT 1", b"INSERT 0 1", b"SET", b"BEGIN", b"CREATE TABLE", b"EXPLAIN", None])
def test_anything_else_does_not(tag: bytes | None) -> None:
    assert not needs_deep_scrub(tag)
    assert not needs_deep_scrub(None)


@pytest.mark.parametrize("tag", [b"ALTER TABLE", b"ALTER DOMAIN", b"DROP TABLE", b"DROP TYPE"])
def test_what_alters_or_drops_changes_what_names_stand_for(tag: bytes) -> None:
    assert changes_schema(tag)


@pytest.mark.parametrize("tag", [b"SELECT 1", b"INSERT 0 1", b"CREATE TABLE", None])
def test_what_neither_alters_nor_drops_changes_no_meaning(tag: bytes | None) -> None:
    assert not changes_schema(tag)


# ── behind a single statement, in one Sync ──

ANSWER = b"2\0\0\0\x04" + b"T" + (len(description("a")) + 4).to_bytes(4) + description("a") + data_row([b"1"])
DONE = b"C\0\0\0\x0dSELECT 1\0"
BEHIND, BEHIND_A_LOOK = (scrub.BEHIND_ONE[1], scrub.BEHIND_ONE_LOOKING[1])
COMMITTED = BEHIND.removesuffix(CLEAN)


def error(text: bytes = b"canceling statement", code: bytes = b"57014") -> bytes:
    body = b"SERROR\0VERROR\0C%b\0M%b\0\0" % (code, text)
    return b"E" + (len(body) + 4).to_bytes(4) + body


def read(data: bytes, *, step: int = 0, max_bytes: int = 0) -> ScrubbedExchange:
    """What was read of it, in pieces of `step` bytes."""
    exchange = ScrubbedExchange(max_bytes=max_bytes)
    step = step or len(data)
    for at in range(0, len(data), step):
        rest = exchange.receive(data[at : at + step])
        assert (rest is None) == (at + step < len(data))
    return exchange


@pytest.mark.parametrize("behind", [BEHIND, BEHIND_A_LOOK])
@pytest.mark.parametrize("step", [0, 1, 7, 50])
def test_statement_and_scrub_are_told_apart_in_whatever_pieces(behind: bytes, step: int) -> None:
    exchange = read(ANSWER + DONE + behind, step=step)
    assert [result.tag for result in exchange.results] == [b"SELECT 1"]
    assert exchange.error is None
    assert exchange.is_clean


def test_setting_that_comes_back_is_no_surprise() -> None:
    status = b"S\0\0\0\x11TimeZone\0UTC\0"
    exchange = read(ANSWER + DONE + COMMITTED + status + CLEAN)
    assert exchange.is_clean
    assert exchange.parameters == [b"TimeZone\0UTC\0"]


def test_error_of_the_statement_leaves_the_scrub_undone() -> None:
    exchange = read(b"2\0\0\0\x04" + error() + READY)
    assert isinstance(exchange.error, PostgresError)
    assert not exchange.is_clean
    assert not exchange.is_scrub_lost, "it only has to be sent"


def test_error_of_the_commit_is_the_statements() -> None:
    exchange = read(ANSWER + DONE + COMMITTED[: -len(b"C\0\0\0\x0bCOMMIT\0")] + error(b"deferred", b"23503") + READY)
    assert isinstance(exchange.error, PostgresError)
    assert exchange.error.code == "23503"
    assert not exchange.is_committed
    assert not exchange.is_clean


@pytest.mark.parametrize("left", range(1, len(scrub.LIGHT)))
def test_error_behind_the_commit_is_the_scrubs(left: int) -> None:
    messages = CLEAN.split(b"2\0\0\0\x04")[:-left]
    exchange = read(ANSWER + DONE + COMMITTED + b"2\0\0\0\x04".join(messages) + error() + READY)
    assert exchange.error is None
    assert len(exchange.results) == 1
    assert exchange.is_scrub_lost
    assert not exchange.is_clean


def test_connection_that_breaks_behind_the_commit_takes_nothing_from_the_answer() -> None:
    exchange = ScrubbedExchange()
    assert exchange.receive(ANSWER + DONE + COMMITTED) is None
    exchange.refuse(ConnectionBroken("gone"))
    assert exchange.error is None
    assert not exchange.is_clean
    exchange = ScrubbedExchange()
    assert exchange.receive(ANSWER + DONE) is None
    exchange.refuse(ConnectionBroken("gone"))
    assert exchange.error is not None, "whether it was committed is not known"


def test_statement_that_somebody_prepared_is_found_behind_a_single_one_too() -> None:
    found = BEHIND_A_LOOK.replace(b"\0\0\0\x01f", b"\0\0\0\x01t")
    assert not read(ANSWER + DONE + found).is_clean
    assert read(ANSWER + DONE + found).is_scrub_lost


def test_scrub_does_not_count_as_a_part_of_the_answer() -> None:
    size = read(ANSWER + DONE + READY).bytes_received
    assert read(ANSWER + DONE + BEHIND, max_bytes=size).error is None
    assert isinstance(read(ANSWER + DONE + BEHIND, max_bytes=size - 1).error, ResponseTooLarge)


def test_many_rows_of_the_only_statement_are_read_from_the_first_few_on() -> None:
    row = data_row([b"x" * 1000])
    before = ANSWER.removesuffix(data_row([b"1"]))
    for results, at_most in ((1, 5), (2, 66)):
        exchange = ScrubbedExchange(results=results)
        exchange.reading = READINGS[True, True]
        exchange.receive(before + row * 200)
        assert 1 <= exchange._kept // len(row) <= at_most
        exchange.receive(DONE)
        [result] = exchange.results
        assert result.read is not None
        assert result.row_count == 200
        assert b"".join(result.read.json()) == b"[" + b",".join([b'["%b"]' % (b"x" * 1000)] * 200) + b"]"


def test_open_transaction_is_not_clean() -> None:
    assert not read(ANSWER + DONE + BEHIND[:-1] + b"T").is_clean


@pytest.mark.parametrize(("ahead", "run"), [(AHEAD, scrub.RUN_LIGHT), (AHEAD_LOOKING, scrub.RUN_LOOKING)])
def test_what_goes_ahead_is_the_light_scrub_without_a_sync_and_its_commit(ahead: Ahead, run: bytes) -> None:
    assert ahead.scrub.count(b"B\0\0\0") == run.count(b"B\0\0\0") == len(scrub.LIGHT)
    assert b"S\0\0\0\4" not in ahead.scrub + ahead.commit
    assert ahead.scrub.count(b"E\0\0\0\x09") + ahead.commit.count(b"E\0\0\0\x09") == ahead.statements
    assert ahead.scrubbed.count(b"D\0\0\0") == ahead.rows
    assert b"BEGIN\0" in ahead.commit
    assert b"COMMIT\0" in ahead.commit


def test_look_that_goes_ahead_fails_where_it_finds_something() -> None:
    """Whoever comes next has its statements right behind: a value would come too late."""
    assert b"EXISTS" not in AHEAD.scrub
    assert b"1 OPERATOR(pg_catalog./) (NOT EXISTS" in AHEAD_LOOKING.scrub
