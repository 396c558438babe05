"""The few rows that the gateway itself reads."""

from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.wire.rows import rows_of
from tests.support.rows import data_row

VALUES = st.none() | st.binary(max_size=20)


def test_values_of_each_row_in_order() -> None:
    region = data_row([b"1", None, b""]) + data_row([b"D\0\0\0\x04", b"\xff\xff\xff\xff", "é".encode()])
    assert list(rows_of(region)) == [(b"1", None, b""), (b"D\0\0\0\x04", b"\xff\xff\xff\xff", b"\xc3\xa9")]


def test_no_rows_and_rows_without_columns() -> None:
    assert list(rows_of(b"")) == []
    assert list(rows_of(data_row([]) * 2)) == [(), ()]


@given(st.lists(st.lists(VALUES, max_size=5), max_size=5))
def test_what_was_encoded_comes_back(rows: list[list[bytes | None]]) -> None:
    assert [list(row) for row in rows_of(b"".join(map(data_row, rows)))] == rows
