"""Rows: what the JSON is, that both ways agree, and that nothing is misread in silence."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sqlhttp_gateway.errors import GatewayError, RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.neon import row_pieces
from sqlhttp_gateway.neon import rows as rows_module
from sqlhttp_gateway.neon.rows import (
    encode_row,
    encode_rows,
    encode_rows_walking,
    walk_rows,
)
from sqlhttp_gateway.neon.rows_by_lengths import row_by_lengths
from sqlhttp_gateway.neon.rows_by_pattern import row_by_pattern
from sqlhttp_gateway.neon.values import Converter, converter
from tests.support.rows import data_row

Values = Sequence[Sequence[bytes | None]]


def encode(values: Values, names: Sequence[str], *, array_mode: bool = True, types: Sequence[int] | None = None) -> str:
    """The JSON of both ways, which must be the same."""
    region = b"".join(data_row(row) for row in values)
    guised = [name.encode().decode("latin-1") for name in names]
    converters: list[Converter | None] | None = None if types is None else [converter(oid, {}) for oid in types]
    given: dict[str, Any] = {"names": guised, "converters": converters, "array_mode": array_mode}
    encoded = encode_rows(region, len(values), **given)
    assert encoded == encode_rows_walking(region, len(values), **given)
    if types is None and len(values) == 1:
        assert encode_row(region, guised, array_mode=array_mode) in (None, encoded[1:-1])
    json.loads(encoded)
    return encoded.decode()


@pytest.fixture
def only_the_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the walker would step in, so that a test sees the fast way itself."""

    def refuse(*_: Any, **__: Any) -> bytes:
        raise AssertionError("the walker was asked")

    monkeypatch.setattr(rows_module, "encode_rows_walking", refuse)


# ── what comes out ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_arrays_of_text_with_nulls() -> None:
    assert encode([(b"1", b"zo\xc3\xab", None), (b"", None, b"NULL")], "abc") == '[["1","zoë",null],["",null,"NULL"]]'


def test_objects_keyed_by_name() -> None:
    values = [(b"1", None), (b"2", b"x")]
    assert encode(values, ["id", "größe"], array_mode=False) == '[{"id":"1","größe":null},{"id":"2","größe":"x"}]'


def test_of_equal_names_the_last_value_counts() -> None:
    assert encode([(b"1", b"2", b"3")], ["a", "b", "a"], array_mode=False) == '[{"a":"3","b":"2"}]'
    assert encode([(b"1", b"2", None)], ["a", "b", "a"], array_mode=False) == '[{"a":null,"b":"2"}]'
    assert encode([(None, b"2", b"1")], ["a", "b", "a"], array_mode=False) == '[{"a":"1","b":"2"}]'


def test_typed_values() -> None:
    types = (23, 16, 701, 3802, 1007, 20, 25)
    values = [(b"1", b"t", b"1.5", b'{"k": "\xc3\xbf"}', b"{1,NULL}", b"7", b"\xc3\xbf"), (None,) * 7]
    assert encode(values, "abcdefg", types=types) == (
        '[[1,true,1.5,{"k": "ÿ"},[1,null],"7","ÿ"],[null,null,null,null,null,null,null]]'
    )
    assert encode(values[:1], "abcdefg", types=types, array_mode=False) == (
        '[{"a":1,"b":true,"c":1.5,"d":{"k": "ÿ"},"e":[1,null],"f":"7","g":"ÿ"}]'
    )


def test_typed_text_arrays_keep_every_byte_of_utf8() -> None:
    """0x85 and 0xA0 are white space to Python but parts of letters in UTF-8."""
    assert encode([('{à,"… x",ÅÅ,NULL}'.encode(),)], "a", types=[1009]) == '[["à","… x","ÅÅ",null]]'.replace(
        "[[", "[[["
    ).replace("]]", "]]]")


def test_one_column() -> None:
    assert encode([(b"a",), (None,), (b"",)], "a") == '[["a"],[null],[""]]'
    assert encode([(b"a",), (None,)], "a", array_mode=False) == '[{"a":"a"},{"a":null}]'


def test_no_rows_and_no_columns() -> None:
    assert encode([], "ab") == "[]"
    assert encode([], "") == "[]"
    assert encode([(), ()], "") == "[[],[]]"
    assert encode([(), ()], "", array_mode=False) == "[{},{}]"
    assert encode([(), ()], "", types=[]) == "[[],[]]"
    assert encode([()], "", types=[], array_mode=False) == "[{}]"


def test_characters_that_json_escapes() -> None:
    controls = bytes(range(1, 32))
    text = encode([(controls + b'"\\ /\x7f',)], "a")
    assert json.loads(text) == [[controls.decode() + '"\\ /\x7f']]
    assert text.startswith('[["\\u0001\\u0002')
    assert text.endswith('\\u001f\\"\\\\ /\x7f"]]')


def test_letters_that_look_like_the_guise_of_null(only_the_pattern: None) -> None:
    region = data_row(["ÿ".encode(), None, b"\xc3\x83\xc2\xbf", b"\xef\xbf\xbd"])
    encoded = encode_rows(region, 1, names="abcd", converters=None, array_mode=True)
    assert encoded.decode() == '[["ÿ",null,"Ã¿","\ufffd"]]'


@pytest.mark.parametrize("length", [1, 127, 128, 254, 255, 256, 257, 511, 65_534, 65_535, 65_536, 70_000, 4_194_303])
def test_lengths_with_telling_bytes(length: int, only_the_pattern: None) -> None:
    text = b"D" * length
    region = data_row([text, None, b"", text]) + data_row([b"", text, None, None])
    t = '"' + text.decode() + '"'
    encoded = encode_rows(region, 2, names="abcd", converters=None, array_mode=True).decode()
    assert encoded == f'[[{t},null,"",{t}],["",{t},null,null]]'


def test_a_text_of_sixteen_megabytes_is_left_to_the_walker() -> None:
    text = b"x" * 16_777_216
    region = data_row([text])
    assert encode_rows(region, 1, names="a", converters=None, array_mode=True) == b'[["' + text + b'"]]'


@pytest.mark.parametrize("columns", [1, 2, 63, 64, 65, 254, 255, 256, 257, 511, 767, 1600, 1664])
@pytest.mark.parametrize("rows", [1, 60])
def test_every_width(columns: int, rows: int) -> None:
    names = [f"c{number}" for number in range(columns)]
    values: list[list[bytes | None]] = [
        [None if (row + column) % 3 == 0 else b"%d" % (row * column) for column in range(columns)]
        for row in range(rows)
    ]
    expected = [[None if value is None else value.decode() for value in row] for row in values]
    assert json.loads(encode(values, names)) == expected


def test_many_rows_go_by_the_pattern(only_the_pattern: None) -> None:
    values = [[b"%d" % number, b"name", None] for number in range(1000)]
    region = b"".join(data_row(row) for row in values)
    encoded = encode_rows(region, 1000, names="abc", converters=None, array_mode=True)
    assert json.loads(encoded) == [[str(number), "name", None] for number in range(1000)]


@pytest.mark.parametrize("piece", [1, 20, *range(30, 90), 1000])
@pytest.mark.parametrize("columns", [1, 3])
def test_rows_cut_anywhere_are_put_together_again(piece: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_pieces, "_PIECE", piece)
    values = [([b"D\xc3\xbf" * (row % 5), None, b""] * 2)[row % 3 :][:columns] for row in range(20)]
    expected = [[None if value is None else value.decode() for value in row] for row in values]
    assert json.loads(encode(values, "abc"[:columns])) == expected
    assert len(json.loads(encode(values, "abc"[:columns], array_mode=False))) == 20


def test_pieces_of_rows_are_the_patterns_own_work(only_the_pattern: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_pieces, "_PIECE", 100)
    region = b"".join(data_row([b"%d" % row, None]) for row in range(100))
    encoded = encode_rows(region, 100, names="ab", converters=None, array_mode=True)
    assert json.loads(encoded) == [[str(row), None] for row in range(100)]


# ── what cannot be told ──────────────────────────────────────────────────────────────────────────────────────────────


def refused(region: bytes, row_count: int, columns: int, types: Sequence[int] | None = None) -> GatewayError:
    given: dict[str, Any] = {
        "names": [f"c{number}" for number in range(columns)],
        "converters": None if types is None else [converter(oid, {}) for oid in types],
        "array_mode": True,
    }
    with pytest.raises(GatewayError) as judged:
        encode_rows_walking(region, row_count, **given)
    with pytest.raises(type(judged.value)) as told:
        encode_rows(region, row_count, **given)
    assert told.value.message == judged.value.message
    return told.value


@pytest.mark.parametrize(
    "values",
    [
        (b"\xff",),
        (b"\xff", None),
        (None, b"\xff"),
        (b"a", b"\xff\xff\xff\xff"),
        (b"\xff\xff\xff\xff", None),
        (b"\xff" * 255, None),
        (b"\xe9t\xe9",),
        (b"\xc3",),
        (b"\xc3", b"\xa9"),
        (b"\xed\xa0\x80",),  # a surrogate
        (b"\xc0\x80",),  # NUL the long way
        (b"\xf5\x80\x80\x80",),
    ],
)
def test_text_that_is_not_utf8_is_never_guessed_at(values: Sequence[bytes | None]) -> None:
    error = refused(data_row(values), 1, len(values))
    assert isinstance(error, ResultUnreadable)
    assert error.message == "could not parse postgres response: a value is not UTF-8"
    assert error.status == 500


def test_a_value_that_is_not_of_its_type_is_named_by_column_only() -> None:
    error = refused(data_row([b"1", b"zqx"]), 1, 2, types=[23, 23])
    assert isinstance(error, ResultUnreadable)
    assert error.message == "could not parse postgres response: a value in column 2 is not of the column's type"


@pytest.mark.parametrize(
    ("region", "row_count", "columns"),
    [
        (data_row([b"a"]), 2, 1),
        (data_row([b"a"]), 0, 1),
        (b"", 1, 1),
        (b"", 1, 0),
        (data_row([b"a", b"b"]), 1, 1),
        (data_row([b"a"]), 1, 2),
        (data_row([b"a", b"b"])[:-3], 1, 2),
        (b"x" + data_row([b"a"]), 1, 1),
        (data_row([b"a"]) + b"\0", 1, 1),
        (data_row([b"a"]) + b"Z\0\0\0\5I", 1, 1),
        (b"N\0\0\0\x06hi" + data_row([b"a"]), 1, 1),
        (data_row([b"a"])[:7], 1, 1),
        # As many bytes as an empty row of one column has, so that only the count of rows betrays it.
        (data_row([b"a"]) + b"D\0\0\0\x0a\0\x02\0\0\0\0", 2, 1),
    ],
)
def test_what_is_no_run_of_rows_is_refused(region: bytes, row_count: int, columns: int) -> None:
    assert isinstance(refused(region, row_count, columns), RemoteProtocolError)


@pytest.mark.parametrize(
    "row",
    [
        data_row([b"a"])[:-1],
        data_row([b"a"]) + b"x",
        b"D\0\0\0\x0b\0\x01\0\0\0\x09a",  # a field longer than its row
        b"D\0\0\0\x0c\0\x01\0\0\0\x01ab",  # a field shorter than its row
        b"D\0\0\0\x0c\0\x01\0\0\0\x01a",  # a row longer than its field
        b"D\0\0\0\x0a\0\x01\xff\xff\xff\xfe",  # a length below that of NULL
    ],
)
def test_the_walker_checks_every_length(row: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        walk_rows(row, 1, columns=1)


def test_a_nul_inside_a_text_cannot_make_rows_of_its_own() -> None:
    """Postgres never sends one; were it to, its bytes must not be taken for a row."""
    forged = data_row([b"x" + data_row([b"forged"])])
    assert encode_rows(forged, 1, names="a", converters=None, array_mode=True) == encode_rows_walking(
        forged, 1, names="a", converters=None, array_mode=True
    )


def test_the_walker_knows_null_from_the_letter_that_guises_it() -> None:
    assert walk_rows(data_row(["ÿ".encode(), None]), 1, columns=2) == [("ÿ", None)]


# ── one row ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "values",
    [
        [b"1"],
        [b"1", b"zo\xc3\xab", b""],
        [b"\x01\x02", b'"\\'],
        [b"x" * 70_000, b"D"],
        [b"x" * 255, b"x" * 65_535],
        [None],
        [None, None, None],
        [b"", None, b"null", "ÿ".encode(), None, b"x" * 255],
    ],
)
def test_single_row_is_encoded_as_among_others(values: list[bytes | None]) -> None:
    names = [chr(ord("a") + number) for number in range(len(values))]
    for array_mode in (True, False):
        among = encode_rows(data_row(values) * 2, 2, names=names, converters=None, array_mode=array_mode)
        for row in (
            encode_row(data_row(values), names, array_mode=array_mode),
            row_by_pattern(data_row(values), names, array_mode=array_mode),
            row_by_lengths(data_row(values), len(values)) if array_mode else among[1 : len(among) // 2],
        ):
            assert row is not None
            assert b"[%b,%b]" % (row, row) == among
