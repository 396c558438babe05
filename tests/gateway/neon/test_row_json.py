import pytest

from sqlhttp_gateway.errors import ResultUnreadable
from sqlhttp_gateway.neon.row_json import converted, undisguised


def test_conversion_goes_column_by_column_and_knows_null() -> None:
    rows = [("1", "x"), ("\xff", "\xff")]
    assert converted(rows, [int, None], null="\xff") == [(1, "x"), (None, "\xff")]
    assert converted(rows, [], null=None) == rows


def test_text_that_cannot_be_converted_is_told_by_its_column_and_not_shown() -> None:
    with pytest.raises(ResultUnreadable, match="column 2") as refused:
        converted([("1", "secret")], [int, int], null=None)
    assert "secret" not in str(refused.value)


def test_guise_comes_off_json_whose_bytes_are_utf8() -> None:
    assert undisguised('["zo\xc3\xab"]'.encode()) == '["zoë"]'.encode()
    assert undisguised('["\xe9"]'.encode()) is None
