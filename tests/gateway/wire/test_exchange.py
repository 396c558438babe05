"""What Postgres answers to one exchange, whatever the pieces it arrives in."""

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.errors import PostgresError, RemoteProtocolError, ResponseTooLarge, UnsupportedStatement
from sqlhttp_gateway.model import Result
from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from tests.support.backend_bytes import message
from tests.support.rows import data_row, description

PARSED = b"1\0\0\0\x04"
BOUND = b"2\0\0\0\x04"
CLOSED = b"3\0\0\0\x04"
NO_DATA = b"n\0\0\0\x04"
EMPTY = b"I\0\0\0\x04"
READY = b"Z\0\0\0\x05I"
IN_TRANSACTION = b"Z\0\0\0\x05T"
FAILED = b"Z\0\0\0\x05E"
SELECT_2 = b"C\0\0\0\x0dSELECT 2\0"
INSERT = b"C\0\0\0\x0fINSERT 0 1\0"
BEGIN = b"C\0\0\0\x0aBEGIN\0"
DIVISION = message(b"E", b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0")
TERMINATED = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")
NOTICE = message(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
PARAMETER = message(b"S", b"TimeZone\0UTC\0")
NOTIFICATION = message(b"A", b"\0\0\0\x07channel\0payload\0")

COLUMNS = message(b"T", description("a", "b"))
FIRST_ROW, SECOND_ROW = data_row([b"1", None]), data_row([b"2", b"two"])
ROWS = FIRST_ROW + SECOND_ROW
ONE_SELECT = PARSED + BOUND + COLUMNS + ROWS + SELECT_2 + READY


def read(stream: bytes, *, cuts: Sequence[int] = (), max_bytes: int = 0, count_names: bool = False) -> Exchange:
    """The exchange after `stream`, given in pieces; it has to end with the last byte and not before."""
    exchange = Exchange(max_bytes=max_bytes, count_names=count_names)
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    for begin, end in itertools.pairwise(places):
        rest = exchange.receive(stream[begin:end])
        assert (rest is not None) == (end == len(stream)), f"at byte {end} of {len(stream)}"
    assert rest == b""
    return exchange


def seen(exchange: Exchange) -> tuple[object, ...]:
    """All that a caller may look at."""
    error = exchange.error
    fields = error.fields if isinstance(error, PostgresError) else None
    return (
        exchange.results,
        type(error),
        fields,
        exchange.status,
        exchange.parsed,
        exchange.bound,
        exchange.fatal_first,
        exchange.copy_in,
        exchange.parameters,
    )


def test_select_becomes_a_result_with_rows_as_they_came() -> None:
    exchange = read(ONE_SELECT)
    assert exchange.results == [Result(description("a", "b"), ROWS, 2, b"SELECT 2")]
    assert exchange.error is None
    assert (exchange.status, exchange.parsed, exchange.bound) == (IDLE, 1, 1)


def test_statement_without_rows_has_no_description() -> None:
    assert read(BOUND + NO_DATA + INSERT + READY).results == [Result(None, b"", 0, b"INSERT 0 1")]


def test_query_without_rows_keeps_its_description() -> None:
    exchange = read(BOUND + COLUMNS + b"C\0\0\0\x0dSELECT 0\0" + READY)
    assert exchange.results == [Result(description("a", "b"), b"", 0, b"SELECT 0")]


def test_empty_query_has_no_tag() -> None:
    assert read(PARSED + BOUND + NO_DATA + EMPTY + READY).results == [Result(None, b"", 0, None)]


def test_row_without_columns_is_a_row() -> None:
    nothing = message(b"T", description())
    exchange = read(BOUND + nothing + data_row([]) * 2 + SELECT_2 + READY)
    assert exchange.results == [Result(description(), data_row([]) * 2, 2, b"SELECT 2")]


def test_statements_of_a_batch_keep_their_own_rows() -> None:
    more = data_row([b"3", b"three"]) * 2
    exchange = read(BEGIN + COLUMNS + ROWS + SELECT_2 + NO_DATA + INSERT + COLUMNS + more + SELECT_2 + IN_TRANSACTION)
    assert [result.rows for result in exchange.results] == [b"", ROWS, b"", more]
    assert [result.row_count for result in exchange.results] == [0, 2, 0, 2]
    assert [result.description is None for result in exchange.results] == [True, False, True, False]
    assert exchange.status == ord("T")


def test_what_comes_after_the_end_is_handed_back() -> None:
    assert Exchange().receive(ONE_SELECT + BOUND + READY) == BOUND + READY


STREAMS = [
    ONE_SELECT,
    BEGIN + COLUMNS + ROWS + SELECT_2 + CLOSED + NO_DATA + INSERT + COLUMNS + ROWS + SELECT_2 + FAILED,
    CLOSED + PARSED + BOUND + COLUMNS + ROWS + DIVISION + READY,
    BOUND + COLUMNS + NOTICE + ROWS + PARAMETER + data_row([None, None]) + NOTIFICATION + SELECT_2 + READY,
    BOUND + COLUMNS + data_row([b"x" * 300, b""]) + data_row([b"", b"y" * 5000]) + SELECT_2 + READY,
    NO_DATA + INSERT + DIVISION + READY,
    BOUND + message(b"G", b"\0\0\1\0\0") + DIVISION + READY,
    BOUND + message(b"H", b"\0\0\1\0\0") + message(b"d", b"1\t2\n") * 3 + message(b"c") + INSERT + READY,
    EMPTY * 3 + b"Z\0\0\0\x05I",
]


@pytest.mark.parametrize("stream", STREAMS)
def test_byte_by_byte_is_the_same_as_at_once(stream: bytes) -> None:
    assert seen(read(stream, cuts=range(len(stream)))) == seen(read(stream))


@given(st.sampled_from(STREAMS), st.lists(st.integers(1, 6000)), st.sampled_from([0, 20, 100, 400]))
def test_pieces_of_any_size_are_the_same_as_at_once(stream: bytes, cuts: list[int], max_bytes: int) -> None:
    whole, pieces = read(stream, max_bytes=max_bytes), read(stream, cuts=cuts, max_bytes=max_bytes)
    if isinstance(whole.error, ResponseTooLarge) or isinstance(pieces.error, ResponseTooLarge):
        # A row that is known to be too large is refused before it is whole, so what was kept until then may differ.
        assert type(pieces.error) is type(whole.error)
        assert (pieces.status, len(pieces.results)) == (whole.status, len(whole.results))
    else:
        assert seen(pieces) == seen(whole)


# ── many rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Counting:
    """Reads what a real reader would, and remembers who gave it what."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.rows = b""
        self.read_at: list[int] = []
        self.kept: list[int] = []

    def read(self, data: bytes, start: int) -> tuple[int, int]:
        count, position = 0, start
        while data[position : position + 1] == b"D" and len(data) >= position + 5:
            following = position + 1 + int.from_bytes(data[position + 1 : position + 5])
            if following >= len(data):
                break  # as for a real one the last row of a chunk is never sure to be whole
            position, count = following, count + 1
        self.rows += data[start:position]
        self.read_at.append(count)
        return count, position

    def keep(self, rows: bytes, count: int) -> None:
        self.rows += rows
        self.kept.append(count)

    def json(self) -> list[bytes | memoryview]:
        return [self.rows]


ROW = data_row([b"x" * 1000, None])
MANY_ROWS = ROW * 200
MANY = b"C\0\0\0\x0fSELECT 200\0"


def read_many(stream: bytes, *, size: int = 10_000, max_bytes: int = 0) -> Exchange:
    exchange = Exchange(max_bytes=max_bytes)
    exchange.reading = Counting
    for start in range(0, len(stream), size):
        assert (exchange.receive(stream[start : start + size]) is None) == (start + size < len(stream))
    return exchange


def reader_of(result: Result) -> Counting:
    assert isinstance(result.read, Counting)
    return result.read


def test_few_rows_are_kept_as_they_came() -> None:
    exchange = read_many(BOUND + COLUMNS + ROW * 50 + MANY + READY)
    assert exchange.results == [Result(description("a", "b"), ROW * 50, 50, b"SELECT 200")]


def test_many_rows_are_read_as_they_come() -> None:
    [result] = read_many(BOUND + COLUMNS + MANY_ROWS + MANY + READY).results
    assert (result.rows, result.row_count) == (b"", 200)
    reader = reader_of(result)
    assert reader.body == description("a", "b")
    assert reader.rows == MANY_ROWS
    # First those that were kept until it was clear that they are many; then from each chunk what it did not find.
    assert 60 <= reader.kept[0] <= 80
    assert set(reader.kept[1:]) <= {1}
    assert min(reader.read_at[1:-1]) >= 8


def test_of_many_rows_that_come_at_once_only_the_first_are_walked_over() -> None:
    [result] = read_many(BOUND + COLUMNS + MANY_ROWS + MANY + READY, size=1 << 20).results
    reader = reader_of(result)
    assert reader.rows == MANY_ROWS
    assert result.row_count == 200
    assert reader.kept[0] <= 80
    assert sum(reader.read_at) == 200 - reader.kept[0]


def test_each_statement_of_a_batch_has_a_reader_of_its_own_if_it_has_many_rows() -> None:
    columns = message(b"T", description("c"))
    first, second, third = read_many(
        COLUMNS + MANY_ROWS + MANY + columns + ROWS + SELECT_2 + columns + MANY_ROWS + MANY + READY
    ).results
    assert reader_of(first).body == description("a", "b")
    assert (second.rows, second.read) == (ROWS, None)
    assert reader_of(third).body == description("c")
    assert reader_of(third).rows == reader_of(first).rows == MANY_ROWS


def test_rows_that_nobody_wants_to_read_are_kept() -> None:
    exchange = Exchange()
    exchange.reading = lambda body: None
    assert exchange.receive(BOUND + COLUMNS + MANY_ROWS + MANY + READY) == b""
    assert exchange.results == [Result(description("a", "b"), MANY_ROWS, 200, b"SELECT 200")]


def test_what_comes_between_rows_is_seen_while_they_are_read() -> None:
    exchange = read_many(BOUND + COLUMNS + MANY_ROWS + NOTICE + PARAMETER + MANY_ROWS + MANY + READY)
    assert reader_of(exchange.results[0]).rows == MANY_ROWS * 2
    assert exchange.results[0].row_count == 400
    assert exchange.parameters == [b"TimeZone\0UTC\0"]


def test_error_behind_many_rows_is_the_outcome() -> None:
    exchange = read_many(BOUND + COLUMNS + MANY_ROWS + DIVISION + READY)
    assert isinstance(exchange.error, PostgresError)
    assert exchange.results == []


@pytest.mark.parametrize("size", [10_000, 1 << 20])
def test_size_of_rows_that_are_read_is_bounded_as_that_of_others(size: int) -> None:
    stream = BOUND + COLUMNS + MANY_ROWS + MANY + READY
    plain = Exchange()
    plain.receive(stream)
    assert read_many(stream, size=size, max_bytes=plain.bytes_received).error is None
    exchange = read_many(stream, size=size, max_bytes=plain.bytes_received - 1)
    assert isinstance(exchange.error, ResponseTooLarge)
    assert exchange.status == IDLE
    assert all(result.read is None and not result.rows for result in exchange.results)


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536, 1 << 20])
def test_many_rows_are_the_same_in_pieces_of_any_size(size: int) -> None:
    exchange = read_many(BOUND + COLUMNS + ROW * 80 + NOTICE + SECOND_ROW * 9 + MANY + READY, size=size)
    assert reader_of(exchange.results[0]).rows == ROW * 80 + SECOND_ROW * 9
    assert exchange.results[0].row_count == 89


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_answer_that_came_whole_and_is_too_large_is_over() -> None:
    stream = BOUND + COLUMNS + MANY_ROWS + MANY + READY
    for max_bytes in (50_000, 65_000, 66_000, 100_000):
        exchange = Exchange(max_bytes=max_bytes)
        exchange.reading = Counting
        assert exchange.receive(stream) == b"", f"it waits for more with a bound of {max_bytes}"
        assert isinstance(exchange.error, ResponseTooLarge)


def test_error_keeps_all_its_fields_and_what_was_complete_before_it() -> None:
    exchange = read(BEGIN + COLUMNS + ROWS + SELECT_2 + BOUND + DIVISION + FAILED)
    assert isinstance(exchange.error, PostgresError)
    assert exchange.error.fields == {"S": "ERROR", "V": "ERROR", "C": "22012", "M": "division by zero"}
    assert [result.tag for result in exchange.results] == [b"BEGIN", b"SELECT 2"]
    assert exchange.status == ord("E")
    assert not exchange.fatal_first


def test_error_after_the_command_is_complete_is_an_error() -> None:
    """A deferred constraint speaks at Sync, when the statement itself has succeeded."""
    exchange = read(PARSED + BOUND + NO_DATA + INSERT + DIVISION + READY)
    assert isinstance(exchange.error, PostgresError)
    assert [result.tag for result in exchange.results] == [b"INSERT 0 1"]


def test_rows_before_an_error_are_not_kept() -> None:
    exchange = read(BOUND + COLUMNS + ROWS + DIVISION + READY)
    assert exchange.results == []
    assert exchange._rows == []


def test_first_error_counts() -> None:
    exchange = read(DIVISION + TERMINATED + READY)
    assert isinstance(exchange.error, PostgresError)
    assert exchange.error.code == "22012"


def test_fatal_as_the_first_word_says_that_nothing_ran() -> None:
    assert read(TERMINATED + READY).fatal_first
    assert read(NOTICE + PARAMETER + TERMINATED + READY).fatal_first
    assert read(CLOSED + TERMINATED + READY).fatal_first


@pytest.mark.parametrize("before", [PARSED, BOUND, INSERT, EMPTY])
def test_fatal_after_anything_was_done_does_not(before: bytes) -> None:
    assert not read(before + TERMINATED + READY).fatal_first


def test_severity_is_known_in_any_language() -> None:
    exchange = read(message(b"E", b"SFATAL en fran\xc3\xa7ais\0VFATAL\0C57P01\0Mfin\0\0") + READY)
    assert exchange.fatal_first
    assert not read(message(b"E", b"SFATAL\0VERROR\0C57P01\0Mno\0\0") + READY).fatal_first


def test_refusal_from_outside_is_the_outcome_and_ends_the_keeping_of_rows() -> None:
    exchange = Exchange()
    assert exchange.receive(BOUND + COLUMNS + data_row([b"1", b"2"])) is None
    exchange.refuse(ResponseTooLarge("enough"))
    assert exchange.receive(ROWS * 100) is None
    assert exchange._rows == []
    assert exchange.receive(DIVISION + READY) == b""
    assert isinstance(exchange.error, ResponseTooLarge)


# ── COPY ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tag", "waits"), [(b"G", True), (b"H", False), (b"W", False)])
def test_copy_is_refused_and_says_who_waits_for_data(tag: bytes, waits: bool) -> None:
    exchange = Exchange()
    assert exchange.receive(BOUND + message(tag, b"\0\0\1\0\0")) is None
    assert isinstance(exchange.error, UnsupportedStatement)
    assert exchange.error.may_have_run, "Postgres is at it already"
    assert exchange.copy_in is waits


def test_data_of_a_copy_is_dropped() -> None:
    exchange = Exchange()
    exchange.receive(BOUND + message(b"H", b"\0\0\1\0\0"))
    for _ in range(50):
        assert exchange.receive(message(b"d", b"x" * 1000)) is None
    assert exchange.receive(message(b"c") + b"C\0\0\0\x0cCOPY 50\0" + READY) == b""
    assert exchange._chunks == []
    assert exchange._rows == []


# ── the bound on rows ────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_up_to_the_bound_pass_and_one_byte_more_does_not() -> None:
    stream = BOUND + COLUMNS + ROWS + SELECT_2 + READY
    size = read(stream).bytes_received
    assert read(stream, max_bytes=size).error is None
    exchange = read(stream, max_bytes=size - 1)
    assert isinstance(exchange.error, ResponseTooLarge)
    assert exchange.error.message == f"response is too large (max is {size - 1} bytes)"
    assert exchange.results[0].rows == b""


def test_bound_is_on_all_statements_together() -> None:
    one = BOUND + COLUMNS + ROWS + SELECT_2
    size = read(one + READY).bytes_received
    assert read(one * 3 + READY, max_bytes=size * 3).error is None
    assert isinstance(read(one * 3 + READY, max_bytes=size * 3 - 1).error, ResponseTooLarge)


def test_columns_count_since_an_answer_tells_them_for_every_statement() -> None:
    """Or a batch of a hundred thousand empty selects could make an answer of any size."""
    empty = BOUND + COLUMNS + b"C\0\0\0\x0dSELECT 0\0"
    exchange = Exchange(max_bytes=100_000)
    assert exchange.receive(empty * 10_000) is None
    assert isinstance(exchange.error, ResponseTooLarge)
    assert sum(len(result.description or b"") for result in exchange.results) < 100_000


def test_statements_count_even_without_columns() -> None:
    exchange = Exchange(max_bytes=100_000)
    exchange.receive((BOUND + NO_DATA + INSERT) * 10_000)
    assert isinstance(exchange.error, ResponseTooLarge)


def test_names_count_for_rows_that_will_be_objects() -> None:
    long_name = message(b"T", description("n" * 60))
    stream = BOUND + long_name + data_row([b"1"]) * 100 + SELECT_2 + READY
    assert read(stream, max_bytes=5000).error is None
    assert isinstance(read(stream, max_bytes=5000, count_names=True).error, ResponseTooLarge)


def test_names_of_one_statement_do_not_count_for_the_next() -> None:
    long_name, short_name = message(b"T", description("n" * 60)), message(b"T", description("n"))
    alone = read(BOUND + short_name + data_row([b"1"]) * 100 + SELECT_2 + READY, count_names=True).bytes_received
    first = read(BOUND + long_name + SELECT_2 + READY, count_names=True).bytes_received
    both = BOUND + long_name + SELECT_2 + BOUND + short_name + data_row([b"1"]) * 100 + SELECT_2 + READY
    assert read(both, count_names=True).bytes_received == first + alone


def test_row_larger_than_the_bound_is_skipped_without_being_kept() -> None:
    piece = b"x" * 65_536
    size = 200 * len(piece)
    head = b"D" + (4 + 2 + 4 + size).to_bytes(4) + b"\0\1" + size.to_bytes(4)
    exchange = Exchange(max_bytes=100_000)
    tracemalloc.start()
    try:
        assert exchange.receive(BOUND + message(b"T", description("a")) + head) is None
        for _ in range(200):
            assert exchange.receive(piece) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(piece), "13 MB were to be skipped"
    assert isinstance(exchange.error, ResponseTooLarge)
    assert exchange.receive(ROWS + DIVISION + READY) == b""


def test_rows_behind_the_bound_are_dropped_as_they_come() -> None:
    exchange = Exchange(max_bytes=1000)
    exchange.receive(BOUND + COLUMNS)
    for _ in range(1000):
        assert exchange.receive(ROWS) is None
    assert isinstance(exchange.error, ResponseTooLarge)
    assert exchange._rows == []
    assert exchange.receive(DIVISION + READY) == b""
    assert exchange.results == []


def test_large_row_in_many_chunks_takes_linear_time() -> None:
    """Joined once per message: a copy for each chunk would be 100 GB here."""
    row = data_row([b"x" * 20_000_000])
    exchange = Exchange()
    exchange.receive(BOUND + message(b"T", description("a")))
    for at in range(0, len(row), 2000):
        exchange.receive(row[at : at + 2000])
    assert exchange.receive(SELECT_2 + READY) == b""
    assert exchange.results[0].rows == row


# ── what is no answer ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "stream",
    [
        b"C\0\0\0\x03abc",  # a length that does not cover itself
        b"D\0\0\0\x02\0\0",
        b"D\xff\xff\xff\xff\0",
        b"C\xff\xff\xff\xff\0",
        b"R\0\0\0\x08\0\0\0\0",  # authentication was long ago
        b"s\0\0\0\x04",  # no row limit was given
        b"\0\0\0\0\x04",
        b"Z\0\0\0\x04",  # without its status
        b"T\0\0\0\x04I\0\0\0\x04",  # without its count of columns, which the next message does not have
        b"T\0\0\0\x05\0",
        b"Z\0\0\0\x06II",
    ],
)
def test_what_cannot_be_an_answer_is_the_servers_fault(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Exchange().receive(stream)


@given(st.binary(max_size=60))
def test_any_bytes_are_either_read_or_refused(noise: bytes) -> None:
    exchange = Exchange(max_bytes=50)
    try:
        for at in range(0, len(noise), 7):
            if exchange.receive(noise[at : at + 7]) is not None:
                break
    except RemoteProtocolError:
        pass


def _in_pieces(exchange: Exchange, message: bytes) -> None:
    for start in range(0, len(message), 100_000):
        assert exchange.receive(message[start : start + 100_000]) is None


def test_notice_is_not_held_however_long_it_is() -> None:
    exchange = Exchange()
    body = b"SNOTICE\0M" + b"x" * 3_000_000 + b"\0\0"
    _in_pieces(exchange, b"N" + (4 + len(body)).to_bytes(4) + body[:-10])
    assert exchange._chunks == []
    assert exchange.receive(body[-10:] + b"C\0\0\0\x07DO\0" + b"Z\0\0\0\x05I") == b""
    assert [result.tag for result in exchange.results] == [b"DO"]
    assert exchange.error is None


def test_of_an_error_that_is_longer_than_any_reader_wants_the_beginning_is_told() -> None:
    exchange = Exchange()
    body = b"SERROR\0VERROR\0CP0001\0M" + b"x" * 3_000_000 + b"\0Dnobody reads this\0\0"
    _in_pieces(exchange, b"E" + (4 + len(body)).to_bytes(4) + body)
    assert exchange.receive(b"Z\0\0\0\x05I") == b""
    assert isinstance(exchange.error, PostgresError)
    assert exchange.error.code == "P0001"
    assert set(exchange.error.message) == {"x"}
    assert 1_000_000 < len(exchange.error.message) < 1_200_000
    assert "D" not in exchange.error.fields


def test_error_that_is_long_and_no_longer_than_that_is_told_whole() -> None:
    exchange = Exchange()
    body = b"SERROR\0VERROR\0CP0001\0M" + b"x" * 900_000 + b"\0Dthe end\0\0"
    _in_pieces(exchange, b"E" + (4 + len(body)).to_bytes(4) + body)
    assert isinstance(exchange.error, PostgresError)
    assert (len(exchange.error.message), exchange.error.fields["D"]) == (900_000, "the end")
