import pytest

from sqlhttp_gateway.neon.rows import encode_rows_walking
from sqlhttp_gateway.neon.rows_by_lengths import RowsByLengths, cut, row_by_lengths
from tests.support.odd_rows import ODD
from tests.support.rows import data_row

ROW = data_row([b"1", None])


@pytest.mark.parametrize(("row", "columns"), [(row, columns) for row, columns in ODD if columns != 65])
def test_single_row_that_is_out_of_the_ordinary_is_for_the_judge(row: bytes, columns: int) -> None:
    assert row_by_lengths(row, columns) is None


def test_a_nul_in_a_single_row_is_what_the_judge_makes_of_it() -> None:
    row = data_row([b"\0"])
    judged = encode_rows_walking(row, 1, names="a", converters=None, array_mode=True)
    assert row_by_lengths(row, 1) == judged[1:-1]


@pytest.mark.parametrize("without", range(1, 30))
def test_part_of_a_row_is_for_the_judge(without: int) -> None:
    row = data_row([b"1", None, b"three"])
    for part in (row[:-without], row[without:], row + b"x" * without):
        assert row_by_lengths(part, 3) is None


def test_row_of_any_width_is_read_by_its_lengths() -> None:
    assert row_by_lengths(data_row([b"1"] * 1664), 1664) == b"[" + b",".join([b'"1"'] * 1664) + b"]"


@pytest.mark.parametrize("end", range(len(ROW) * 3 + 1))
def test_whole_rows_are_cut_and_what_is_left_of_another_is_not(end: int) -> None:
    rows: list[list[str | None]] = []
    whole = end // len(ROW)
    assert cut((ROW * 3)[:end], 2, rows) == whole * len(ROW)
    assert rows == [["1", None]] * whole


@pytest.mark.parametrize("at", range(len(ROW)))
@pytest.mark.parametrize("byte", [0x00, 0x01, 0x44, 0x7F, 0xFF])
def test_row_whose_lengths_are_not_true_ends_what_is_taken(at: int, byte: int) -> None:
    text = ROW.index(b"1", 8)
    if at == text or ROW[at] == byte:
        return
    spoiled = ROW[:at] + bytes([byte]) + ROW[at + 1 :]
    rows: list[list[str | None]] = []
    assert cut(ROW + spoiled + ROW, 2, rows) == len(ROW)
    assert rows == [["1", None]]


def test_objects_and_typed_values_are_made_of_what_was_cut() -> None:
    region = data_row([b"1", "ÿ".encode()]) + data_row([None, b"x"])
    assert RowsByLengths("ab", [int, None], array_mode=False).take(region, is_all=True) == (
        2,
        len(region),
        '[{"a":1,"b":"ÿ"},{"a":null,"b":"x"}]'.encode(),
    )


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xe9t\xe9"])
def test_text_that_is_no_utf8_is_for_the_judge(text: bytes) -> None:
    assert RowsByLengths("a", None, array_mode=True).take(data_row([text]), is_all=True) is None
    assert row_by_lengths(data_row([text]), 1) is None
