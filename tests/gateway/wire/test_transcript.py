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


def test_copy_that_fails_before_it_reads_ends_with_the_sync_ahead_of_its_data() -> None:
    copy = parse("", "COPY t FROM STDIN") + bind("", "") + execute("") + SYNC
    told = read(
        (copy, PARSE_COMPLETE + BIND_COMPLETE + COPY_IN + error("P0001", "no") + ready()),
        (query("SELECT 1"), command_complete("SELECT 1") + ready()),
    )
    assert told == [Asked(1.0, ["COPY t FROM STDIN"], [], "P0001"), Asked(1.0, ["SELECT 1"], [1])]


def test_name_stands_for_what_was_parsed_and_not_for_what_was_refused() -> None:
    told = read(
        (parse("a", "DROP TABLE t") + SYNC, PARSE_COMPLETE + ready()),
        (parse("a", "SELECT 1") + SYNC, error("42P05", "already exists") + ready()),
        (execute("no") + parse("a", "SELECT 2") + SYNC, error("34000", "no portal") + ready()),
        (bind("", "a") + execute("") + SYNC, BIND_COMPLETE + command_complete("DROP TABLE") + ready()),
    )
    assert told[-1] == Asked(1.0, ["DROP TABLE t"], [0])


def test_query_behind_a_batch_without_a_sync_hides_nothing() -> None:
    batch = parse("", "DELETE FROM t") + bind("", "") + execute("") + query("SELECT 1")
    done = PARSE_COMPLETE + BIND_COMPLETE + command_complete("DELETE 5") + command_complete("SELECT 1") + ready()
    assert read((batch, done)) == [Asked(1.0, ["DELETE FROM t", "SELECT 1"], [5, 1])]


def test_query_that_is_passed_over_behind_an_error_takes_no_other_ones_place() -> None:
    failing = parse("", "SELEC") + bind("", "") + execute("") + query("DELETE FROM t") + SYNC
    told = read(
        (failing, error("42601", "syntax") + ready()),
        (query("SELECT 1"), command_complete("SELECT 1") + ready()),
    )
    assert told == [Asked(1.0, ["SELEC"], [], "42601"), Asked(1.0, ["SELECT 1"], [1])]


def test_names_that_are_gone_are_not_kept() -> None:
    names = b"".join(parse(name, f"SELECT '{name}'") for name in "abcd")
    again = b"".join(bind("", name) + execute("") for name in "abcd") + SYNC
    dropped = command_complete("DEALLOCATE")
    [*_, asked] = read(
        (names + SYNC, PARSE_COMPLETE * 4 + ready()),
        (query("DEALLOCATE b; SELECT 1/0; DEALLOCATE a"), dropped + error("22012", "division by zero") + ready()),
        (
            parse("", "DEALLOCATE c") + bind("", "") + execute("") + SYNC,
            PARSE_COMPLETE + BIND_COMPLETE + dropped + ready(),
        ),
        (again, (BIND_COMPLETE + EMPTY_QUERY) * 4 + ready()),
    )
    assert asked.texts == ["SELECT 'a'", "EXECUTE b", "EXECUTE c", "SELECT 'd'"]
    [*_, asked] = read(
        (names + SYNC, PARSE_COMPLETE * 4 + ready()),
        (query("DISCARD ALL"), command_complete("DISCARD ALL") + ready()),
        (again, (BIND_COMPLETE + EMPTY_QUERY) * 4 + ready()),
    )
    assert asked.texts == [f"EXECUTE {name}" for name in "abcd"]


def test_portals_last_as_long_as_their_transaction() -> None:
    begun = parse("", "SELECT 1") + bind("p", "") + execute("p") + SYNC
    more = execute("p") + SYNC
    told = read(
        (begun, PARSE_COMPLETE + BIND_COMPLETE + EMPTY_QUERY + ready("T")),
        (more, EMPTY_QUERY + ready()),
        (more, error("34000", "no portal") + ready()),
    )
    assert [asked.texts for asked in told] == [["SELECT 1"], ["SELECT 1"], ["FETCH FROM p"]]


def test_text_that_is_too_long_is_cut() -> None:
    long = "SELECT '" + "x" * MAX_TEXT + "'"
    [asked] = read((query(long) + query("SELECT 2"), ready()))
    assert (len(asked.texts[0]) < MAX_TEXT, long.startswith(asked.texts[0])) == (True, True)


def test_what_was_not_answered_is_told_at_the_end() -> None:
    transcript = Transcript()
    transcript.sent(query("SELECT 1") + parse("", "SELECT 2") + bind("", "") + execute(""), now=1.0)
    assert [asked.texts for asked in transcript.left()] == [["SELECT 1"], ["SELECT 2"]]
    assert list(transcript.left()) == []
