"""Rows read as they arrive: the same JSON as when all of them are there, and nothing is taken that is not a row."""

from collections.abc import Sequence

import pytest

from sqlhttp_gateway.build import IS_COMPILED
from sqlhttp_gateway.errors import ResultUnreadable
from sqlhttp_gateway.neon import row_pieces as module
from sqlhttp_gateway.neon.arriving import READINGS, ArrivingRows
from sqlhttp_gateway.neon.fields import describe
from sqlhttp_gateway.neon.rows import WIDE, encode_rows_walking
from tests.support.rows import data_row, description

Values = Sequence[Sequence[bytes | None]]
READY = b"Z\0\0\0\x05I"
COMPLETE = b"C\0\0\0\x0dSELECT 3\0" + READY


def begin(*columns: str | tuple[str, int], array_mode: bool = True, raw_text: bool = True) -> ArrivingRows:
    reader = READINGS[array_mode, raw_text](description(*columns))
    assert isinstance(reader, ArrivingRows)
    return reader


def json(reader: ArrivingRows) -> bytes:
    return b"".join(reader.json())


def judged(values: Values, *columns: str | tuple[str, int], array_mode: bool = True, raw_text: bool = True) -> bytes:
    described = describe(description(*columns))
    return encode_rows_walking(
        b"".join(map(data_row, values)),
        len(values),
        names=described.names,
        converters=None if raw_text else described.converters,
        array_mode=array_mode,
    )


MIXED: Values = [
    (b"1", b"zo\xc3\xab", None),
    (b"", None, b'say "\\"\n'),
    (None, None, None),
    (b"4", b"D", b"\xc3\xbf"),
    (b"5", b"", b""),
]
STREAM = b"".join(map(data_row, MIXED))
ENDS = [sum(len(data_row(row)) for row in MIXED[:number]) for number in range(len(MIXED) + 1)]


@pytest.mark.parametrize("end", range(7, len(STREAM) + 1))
@pytest.mark.parametrize("array_mode", [True, False])
def test_of_rows_cut_anywhere_the_whole_ones_are_taken_but_perhaps_the_last(end: int, array_mode: bool) -> None:
    reader = begin("a", "b", "c", array_mode=array_mode)
    count, position = reader.read(STREAM[:end], 0)
    whole = max(number for number, at in enumerate(ENDS) if at <= end)
    assert position == ENDS[count]
    assert whole - 1 <= count <= whole
    reader.keep(STREAM[position:], len(MIXED) - count)
    assert json(reader) == judged(MIXED, "a", "b", "c", array_mode=array_mode)


@pytest.mark.parametrize("array_mode", [True, False])
def test_one_column(array_mode: bool) -> None:
    values: Values = [(b"a",), (None,), (b"",), ("ÿ".encode(),), (b"last",)]
    stream = b"".join(map(data_row, values))
    reader = begin("a", array_mode=array_mode)
    end = len(stream) - len(data_row(values[-1]))
    count, position = reader.read(stream[:-1], 0)
    assert (count, position) == (4, end)
    reader.keep(data_row(values[-1]), 1)
    assert json(reader) == judged(values, "a", array_mode=array_mode)


@pytest.mark.parametrize("columns", [2, 9, 10, 34, 63, 64])
def test_every_width(columns: int) -> None:
    """Some are characters that mean something in a pattern."""
    names = [f"c{number}" for number in range(columns)]
    values: Values = [[None if (row + at) % 3 else b"%d" % (row * at) for at in range(columns)] for row in range(9)]
    reader = begin(*names)
    assert reader.read(b"".join(map(data_row, values)) + COMPLETE, 0)[0] == 9
    assert json(reader) == judged(values, *names)


def test_of_equal_names_the_last_value_counts_and_no_null_is_missed() -> None:
    values: Values = [(None, b"1"), (b"2", None), (None, None)]
    reader = begin("a", "a", array_mode=False)
    stream = b"".join(map(data_row, values))
    assert reader.read(stream + COMPLETE, 0) == (3, len(stream))
    assert json(reader) == b'[{"a":"1"},{"a":null},{"a":null}]'


@pytest.mark.parametrize("array_mode", [True, False])
def test_typed_values(array_mode: bool) -> None:
    columns = [("a", 23), ("b", 16), ("c", 3802), ("d", 25), ("e", 1009)]
    row = (b"1", b"t", '{"k": "ÿ"}'.encode(), "ÿ".encode(), b"{x,NULL}")
    values: Values = [row, (None,) * 5, row, row]
    reader = begin(*columns, array_mode=array_mode, raw_text=False)
    assert reader.read(b"".join(map(data_row, values))[:-1], 0)[0] == 3
    reader.keep(data_row(row), 1)
    assert json(reader) == judged(values, *columns, array_mode=array_mode, raw_text=False)


def test_what_begins_behind_something_else_is_read_from_there() -> None:
    before = b"N\0\0\0\x0bSNOTE\0\0"
    reader = begin("a", "b", "c")
    count, position = reader.read(before + STREAM + COMPLETE, len(before))
    assert (count, position) == (5, len(before) + len(STREAM))
    assert json(reader) == judged(MIXED, "a", "b", "c")


@pytest.mark.parametrize(
    "message",
    [
        b"N\0\0\0\x0bSNOTE\0\0",
        b"S\0\0\0\x0aa\0bcd\0",
        b"A\0\0\0\x10\0\3\0\1ch\0hello\0",
        COMPLETE,
        data_row([b"x", b"y"]),
        data_row([b"x"] * 4),
    ],
    ids=["notice", "parameter", "notification", "end", "narrow", "wide"],
)
def test_anything_else_ends_the_run_of_rows(message: bytes) -> None:
    reader = begin("a", "b", "c")
    count, position = reader.read(STREAM + message + STREAM, 0)
    assert (count, position) == (5, len(STREAM))
    assert json(reader) == judged(MIXED, "a", "b", "c")


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 30])
def test_in_front_of_a_row_of_sixteen_megabytes_no_text_is_taken_for_longer(length: int) -> None:
    """Its length does not begin with the NUL that otherwise ends the text before it."""
    huge = b"D\1\0\0\0\0\3\0\0\0\1a\0\0\0\1a\0\xff\xff\xeda"
    reader = begin("a", "b", "c")
    count, position = reader.read(STREAM + huge[:length], 0)
    assert position == ENDS[count]
    reader.keep(STREAM[position:], len(MIXED) - count)
    assert json(reader) == judged(MIXED, "a", "b", "c")


def test_a_message_as_long_as_rows_cannot_hide_between_equal_rows() -> None:
    row = data_row([b"same"])
    reader = begin("a")
    notice = b"N" + (len(row) * 2 - 1).to_bytes(4) + b"M".ljust(len(row) * 2 - 5, b"\0")
    assert reader.read(row * 9 + notice + row * 9, 0) == (9, len(row) * 9)


def test_a_row_that_cannot_be_told_from_the_start_of_another_is_left() -> None:
    """Empty texts, and then one that was cut: or else the length of a row of 16 MB."""
    reader = begin("a", "b")
    first = data_row([b"1", b"2"])
    told = (1, len(first)) if IS_COMPILED else (0, 0)  # by its lengths, which is how that build reads, it can be
    assert reader.read(first + data_row([b"", b"text"])[:-1], 0) == told


def test_rows_of_a_database_without_an_encoding_are_told_right_or_not_at_all() -> None:
    for stray in (b"\xff", b"\xff\xff\xff\xff", b"\xe9t\xe9", b"\xc3"):
        values: Values = [(b"1", None), (stray, None), (b"3", b"c"), (b"4", b"d")]
        reader = begin("a", "b")
        count, position = reader.read(b"".join(map(data_row, values)), 0)
        assert position == sum(len(data_row(row)) for row in values[:count])
        assert count <= 1, stray
        reader.keep(b"".join(map(data_row, values[count:])), len(values) - count)
        with pytest.raises(ResultUnreadable, match="not UTF-8"):
            reader.json()


def test_lengths_with_the_byte_of_null_are_no_nulls() -> None:
    values: Values = [(b"x" * 255, None), (b"y" * 65_535, b"z" * 255), (None, b"\xc3\xbf"), (b"", b"")]
    reader = begin("a", "b")
    assert reader.read(b"".join(map(data_row, values)) + COMPLETE, 0)[0] == 4
    assert json(reader) == judged(values, "a", "b")


def test_a_fault_is_told_when_the_answer_is_asked_for_and_nothing_is_taken_after_it() -> None:
    reader = begin(("a", 23), raw_text=False)
    bad = b"".join(map(data_row, [(b"1",), (b"zqx",), (b"3",)]))
    assert reader.read(bad, 0) == (0, 0)
    reader.keep(bad, 3)
    assert reader.read(bad, 0) == (0, 0)
    reader.keep(data_row([b"1"]), 1)
    with pytest.raises(ResultUnreadable, match="column 1 is not of the column's type"):
        reader.json()


@pytest.mark.parametrize("piece", [8, 20, 40, 41, 60, 90, 200])
def test_chunks_are_taken_in_pieces_that_may_be_smaller_than_a_row(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    reader = begin("a", "b", "c")
    count, position = reader.read(STREAM * 3 + COMPLETE, 0)
    assert position == sum(len(data_row(row)) for row in (*MIXED, *MIXED, *MIXED)[:count])
    assert count >= 14
    if count < 15:
        reader.keep(data_row(MIXED[-1]), 1)
    assert json(reader) == judged((*MIXED, *MIXED, *MIXED), "a", "b", "c")


def test_no_rows_are_an_empty_array() -> None:
    assert json(begin("a")) == b"[]"


def test_rows_that_are_better_kept_are_not_begun() -> None:
    assert READINGS[True, True](description()) is None
    assert READINGS[True, True](description(*["a"] * (WIDE + 1))) is None
    assert READINGS[True, True](description(*["a"] * WIDE)) is not None
    # A type that is not built in: its array, if it is one, is known to the catalog alone.
    assert READINGS[True, False](description(("a", 99_999))) is None
    assert READINGS[True, True](description(("a", 99_999))) is not None
