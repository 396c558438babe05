"""Any rows at all: the fast way and the walker give the same bytes, and those mean what went in."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.errors import GatewayError, ResultUnreadable
from sqlhttp_gateway.neon import row_pieces
from sqlhttp_gateway.neon.rows import encode_rows, encode_rows_walking
from sqlhttp_gateway.neon.values import Converter, converter
from tests.support.rows import data_row

Values = Sequence[Sequence[bytes | None]]

letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
telling = st.sampled_from([1, 9, 10, 34, 92, 127, 128, 254, 255, 256, 257, 300, 511, 512, 65_535, 65_536])
long_texts = st.builds(lambda letter, length: (letter * length)[:length], st.sampled_from('x\\D"ÿ€\n\x01'), telling)
texts = st.one_of(letters, letters, long_texts).map(str.encode)
bytes_without_nul = st.binary(max_size=12).map(lambda value: value.replace(b"\0", b"\xff"))
widths = st.one_of(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.sampled_from([64, 65, 255, 256]))
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)


def tables(cells: st.SearchStrategy[bytes | None]) -> st.SearchStrategy[tuple[int, Values]]:
    """A width, and up to a dozen rows of it."""
    return widths.flatmap(
        lambda width: st.tuples(st.just(width), st.lists(st.lists(cells, min_size=width, max_size=width), max_size=12))
    )


pieces = st.sampled_from([1 << 18, 1 << 18, 40, 100, 300])


def encode(region: bytes, row_count: int, given_: dict[str, Any], *, piece: int) -> bytes:
    """The fast way, with rows taken `piece` bytes at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_pieces, "_PIECE", piece)
        return encode_rows(region, row_count, **given_)


def arguments(columns: Sequence[str], types: Sequence[int] | None, *, array_mode: bool) -> dict[str, Any]:
    converters: list[Converter | None] | None = None if types is None else [converter(each, {}) for each in types]
    guised = [name.encode().decode("latin-1") for name in columns]
    return {"names": guised, "converters": converters, "array_mode": array_mode}


@settings(max_examples=60, deadline=None)
@given(tables(st.one_of(st.none(), texts)), st.booleans(), pieces, st.data())
@example((2, [[None, "ÿ".encode()], [b"", None]]), True, 40, None)
@example((255, [[None] * 255]), True, 40, None)
def test_both_ways_agree_and_mean_what_went_in(
    table: tuple[int, Values], array_mode: bool, piece: int, data: Any
) -> None:
    width, values = table
    if data is None:
        columns = [str(number) for number in range(width)]
    else:
        columns = data.draw(st.lists(names, min_size=width, max_size=width))
    region = b"".join(data_row(row) for row in values)
    given_ = arguments(columns, None, array_mode=array_mode)
    encoded = encode(region, len(values), given_, piece=piece)
    assert encoded == encode_rows_walking(region, len(values), **given_)
    meant = [[None if value is None else value.decode() for value in row] for row in values]
    if array_mode:
        assert json.loads(encoded) == meant
    else:
        assert json.loads(encoded) == [dict(zip(columns, row, strict=True)) for row in meant]


def float_text(number: float) -> str:
    """As Postgres prints it."""
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(number), repr(number))


def array_text(items: list[str | None]) -> str:
    return (
        "{"
        + ",".join("NULL" if item is None else '"' + re.sub(r'(["\\])', r"\\\1", item) + '"' for item in items)
        + "}"
    )


documents = st.recursive(st.none() | letters, lambda inner: st.lists(inner, max_size=3))

BOOL, INT4, FLOAT8, JSONB, TEXT_ARRAY, TEXT = 16, 23, 701, 3802, 1009, 25
typed_cells: dict[int, st.SearchStrategy[str]] = {
    BOOL: st.sampled_from(["t", "f"]),
    INT4: st.integers(-(2**31), 2**31 - 1).map(str),
    FLOAT8: st.floats().map(float_text),
    JSONB: documents.map(lambda value: json.dumps(value, ensure_ascii=False)),
    TEXT_ARRAY: st.lists(st.none() | letters, max_size=3).map(array_text),
    TEXT: texts.map(bytes.decode),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(typed_cells)), min_size=1, max_size=6), st.booleans(), pieces, st.data())
def test_both_ways_agree_on_typed_values(types: list[int], array_mode: bool, piece: int, data: Any) -> None:
    row = st.tuples(*(st.none() | typed_cells[each].map(str.encode) for each in types))
    values = data.draw(st.lists(row, max_size=6))
    region = b"".join(data_row(each) for each in values)
    given_ = arguments([f"c{number}" for number in range(len(types))], types, array_mode=array_mode)
    encoded = encode(region, len(values), given_, piece=piece)
    assert encoded == encode_rows_walking(region, len(values), **given_)
    for told, sent in zip(json.loads(encoded), values, strict=True):
        cells = told if array_mode else list(told.values())
        for type_id, cell, text in zip(types, cells, sent, strict=True):
            if text is None:
                assert cell is None
            elif type_id == TEXT:
                assert cell == text.decode()
            elif type_id == JSONB:
                assert cell == json.loads(text)


@settings(max_examples=60, deadline=None)
@given(tables(st.one_of(st.none(), bytes_without_nul)), pieces)
@example((2, [[b"\xff", None]]), 100)
@example((3, [[b"\xff\xff\xff\xff", None, b"\xff"]] * 9), 100)
def test_bytes_of_a_database_without_an_encoding_are_told_right_or_not_at_all(
    table: tuple[int, Values], piece: int
) -> None:
    width, values = table
    region = b"".join(data_row(row) for row in values)
    given_ = arguments([f"c{number}" for number in range(width)], None, array_mode=True)
    try:
        judged: bytes | None = encode_rows_walking(region, len(values), **given_)
    except ResultUnreadable:
        judged = None
    try:
        encoded: bytes | None = encode(region, len(values), given_, piece=piece)
    except ResultUnreadable:
        encoded = None
    assert encoded == judged


@settings(max_examples=60, deadline=None)
@given(tables(st.one_of(st.none(), texts)), pieces, st.data())
def test_damaged_rows_are_refused_or_still_json(table: tuple[int, Values], piece: int, data: Any) -> None:
    width, values = table
    region = bytearray(b"".join(data_row(row) for row in values))
    for _ in range(data.draw(st.integers(1, 3))):
        if region:
            position = data.draw(st.integers(0, len(region) - 1))
            cut = data.draw(st.integers(0, 2))
            region[position : position + cut] = data.draw(st.binary(max_size=3))
    given_ = arguments([f"c{number}" for number in range(width)], None, array_mode=True)
    try:
        encoded = encode(bytes(region), len(values), given_, piece=piece)
    except GatewayError:
        return
    assert len(json.loads(encoded)) == len(values)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5), st.integers(0, 4))
def test_noise_is_refused_or_still_json(noise: bytes, row_count: int, width: int) -> None:
    given_ = arguments([f"c{number}" for number in range(width)], None, array_mode=False)
    try:
        encoded = encode_rows(noise, row_count, **given_)
    except GatewayError:
        return
    assert len(json.loads(encoded)) == row_count
