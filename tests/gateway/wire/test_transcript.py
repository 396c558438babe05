"""What a program asked and what came of it, read along."""

import pytest

from sqlhttp_gateway.wire.transcript import MAX_TEXT, Asked, Transcript
from tests.support.postgres_model import (
    BIND_COMPLETE,
    COPY_DONE,
    COPY_IN,
    EMPTY_QUERY,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    copy_data,
    error,
    execute,
    parameter_status,
    parse,
    query,
    ready,
    row,
)


def read(*steps: tuple[bytes, bytes], cut: int = 0) -> list[Asked]:
    """What is told of these bytes, sent and answered in turn; `cut` bytes at a time."""
    transcript, told = Transcript(), []
    for sent, said in steps:
        for piece in pieces(sent, cut):
            transcript.sent(piece, now=1.0)
        for piece in pieces(said, cut):
            told += transcript.said(piece)
    return told


def pieces(data: bytes, cut: int) -> list[bytes]:
    return [data[at : at + cut] for at in range(0, len(data), cut)] if cut else [data]


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_simple_query_is_told_statement_by_statement(cut: int) -> None:
    answer = row(b"1") + command_complete("SELECT 1") + command_complete("INSERT 0 3") + ready()
    [asked] = read((b"", parameter_status("a", "b") + ready()), (query("SELECT 1; INSERT x"), answer), cut=cut)
    assert asked == Asked(1.0, ["SELECT 1", " INSERT x"], [1, 3])


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_extended_queries_are_told_by_what_was_executed(cut: int) -> None:
    batch = parse("s", "SELECT $1") + bind("p", "s", "x" * 100) + execute("p") + bind("", "s") + execute("") + SYNC
    answer = PARSE_COMPLETE + BIND_COMPLETE + command_complete("SELECT 2") + error("22012", "no") + ready()
    again = bind("", "s") + execute("") + SYNC
    told = read((batch + again, answer), (b"", BIND_COMPLETE + EMPTY_QUERY + ready()), cut=cut)
    assert told == [Asked(1.0, ["SELECT $1"] * 2, [2], "22012"), Asked(1.0, ["SELECT $1"], [0])]


def test_what_only_prepares_is_not_told() -> None:
    assert read((parse("s", "SELECT 1") + SYNC, PARSE_COMPLETE + ready())) == []


def test_copy_with_a_sync_ahead_of_its_data_is_one_exchange() -> None:
    copy = parse("", "COPY t FROM STDIN") + bind("", "") + execute("") + SYNC
    told = read(
        (copy, PARSE_COMPLETE + BIND_COMPLETE + COPY_IN),
        (copy_data(b"1\n" * 100) + COPY_DONE + SYNC, command_complete("COPY 100") + ready()),
        (query("SELECT 1"), command_complete("SELECT 1") + ready()),
    )
    assert told == [Asked(1.0, ["COPY t FROM STDIN"], [100]), Asked(1.0, ["SELECT 1"], [1])]


def test_text_that_is_too_long_is_cut() -> None:
    long = "SELECT '" + "x" * MAX_TEXT + "'"
    [asked] = read((query(long) + query("SELECT 2"), ready()))
    assert (len(asked.texts[0]) < MAX_TEXT, long.startswith(asked.texts[0])) == (True, True)


def test_what_was_not_answered_is_told_at_the_end() -> None:
    transcript = Transcript()
    transcript.sent(query("SELECT 1") + parse("", "SELECT 2") + bind("", "") + execute(""), now=1.0)
    assert [asked.texts for asked in transcript.left()] == [["SELECT 1"], ["SELECT 2"]]
    assert list(transcript.left()) == []
