"""What is sent to clean a connection, and what of the answers means that it is clean."""

import pytest

from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.scrub import CLEAN_REPLIES, Scrub, needs_deep_scrub

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
