import pytest

from sqlhttp_gateway.neon.rows_by_pattern import NULL_FIELD, RowsByPattern, row_by_pattern
from tests.support.odd_rows import ODD
from tests.support.rows import data_row


@pytest.mark.parametrize(("row", "columns"), ODD)
def test_single_row_that_is_out_of_the_ordinary_is_for_the_judge(row: bytes, columns: int) -> None:
    names = [f"c{number}" for number in range(columns)]
    assert row_by_pattern(row, names, array_mode=True) is None
    assert row_by_pattern(row, names, array_mode=False) is None


def test_a_nul_in_a_single_row_is_for_the_judge() -> None:
    assert row_by_pattern(data_row([b"\0"]), "a", array_mode=True) is None


def test_last_row_is_left_where_nothing_tells_that_it_is_whole() -> None:
    row = data_row([b"1", None])
    way = RowsByPattern("ab", None, array_mode=True)
    assert way.take(row * 3, is_all=False) == (2, 2 * len(row), b'[["1",null],["1",null]]')
    assert way.take(row * 3, is_all=True) == (3, 3 * len(row), b'[["1",null],["1",null],["1",null]]')


def test_text_that_is_the_guise_of_null_is_taken_for_none() -> None:
    """As it may be where a database has no encoding."""
    assert NULL_FIELD.endswith(b"\xff")
    assert RowsByPattern("a", None, array_mode=True).take(data_row([b"\xff"]) * 2, is_all=True) is None
