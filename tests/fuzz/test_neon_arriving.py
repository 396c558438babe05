"""Many rows in chunks of any size, with anything between them: the bytes are those of the walker over all rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.errors import ResultUnreadable
from sqlhttp_gateway.model import Options
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.neon.fields import describe
from sqlhttp_gateway.neon.response import encode_result
from sqlhttp_gateway.neon.rows import encode_rows_walking
from sqlhttp_gateway.wire import exchange as exchange_module
from sqlhttp_gateway.wire.exchange import Exchange
from tests.fuzz.test_neon_rows import bytes_without_nul, names, texts, typed_cells
from tests.support.postgres_model import frame, ready
from tests.support.rows import data_row, description

Values = Sequence[Sequence[bytes | None]]

NOTICE = frame(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
BETWEEN = st.sampled_from(
    [
        NOTICE,
        frame(b"N", b"SNOTICE\0Mas long as some rows" + b"." * 400 + b"\0\0"),
        frame(b"S", b"TimeZone\0UTC\0"),
        frame(b"A", b"\0\0\0\x07channel\0payload\0"),
        frame(b"A", b"\0\3\0\1abcchannel\0payload\0"),
    ]
)


def tables(cells: st.SearchStrategy[bytes | None]) -> st.SearchStrategy[tuple[int, Values]]:
    """A width, and rows of it; wide ones are in the unit tests, since they take long to make up."""
    return st.integers(0, 6).flatmap(
        lambda width: st.tuples(st.just(width), st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8))
    )


def answer(values: Values, body: bytes, mode: tuple[bool, bool], *, between: bytes, at: int, cuts: list[int]) -> bytes:
    """What the gateway would answer to these rows, cut at `cuts`, with something in front of row number `at`."""
    array_mode, raw_text = mode
    frames = [data_row(row) for row in values]
    frames.insert(at % (len(frames) + 1), between)
    stream = frame(b"2", b"") + frame(b"T", body) + b"".join(frames) + frame(b"C", b"SELECT 1\0") + ready()
    exchange = Exchange()
    exchange.reading = READINGS[mode]
    rest: bytes | None = b""
    for start, end in pairwise(sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})):
        rest = exchange.receive(stream[start:end])
    assert rest == b""
    assert exchange.error is None
    [result] = exchange.results
    assert result.row_count == len(values)
    options = Options(array_mode=array_mode, raw_text=raw_text)
    return encode_result(result, options, array_mode=array_mode, array_types={})


def agree(values: Values, body: bytes, mode: tuple[bool, bool], **how: Any) -> None:
    described = describe(body)
    array_mode, raw_text = mode
    region = b"".join(data_row(row) for row in values)
    converters = None if raw_text else described.converters
    try:
        judged: bytes | None = encode_rows_walking(
            region, len(values), names=described.names, converters=converters, array_mode=array_mode
        )
    except ResultUnreadable:
        judged = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_module, "_MANY", 1)
        try:
            told: bytes | None = answer(values, body, mode, **how)
        except ResultUnreadable:
            told = None
    if judged is None or told is None:
        assert told is judged
    else:
        assert told.startswith(b'{"fields":' + described.json + b',"rows":' + judged + b',"command":')


cuts = st.lists(st.integers(0, 100_000), max_size=8)
how = st.fixed_dictionaries({"between": BETWEEN | st.just(b""), "at": st.integers(0, 20), "cuts": cuts})


@settings(max_examples=60, deadline=None)
@given(tables(st.one_of(st.none(), texts)), st.booleans(), how, st.data())
def test_text(table: tuple[int, Values], array_mode: bool, how: dict[str, Any], data: Any) -> None:
    width, values = table
    columns = data.draw(st.lists(names, min_size=width, max_size=width))
    agree(values, description(*columns), (array_mode, True), **how)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(typed_cells)), min_size=1, max_size=6), st.booleans(), how, st.data())
def test_typed_values(types: list[int], array_mode: bool, how: dict[str, Any], data: Any) -> None:
    row = st.tuples(*(st.none() | typed_cells[each].map(str.encode) for each in types))
    values = data.draw(st.lists(row, max_size=8))
    body = description(*((f"c{number}", each) for number, each in enumerate(types)))
    agree(values, body, (array_mode, False), **how)


@settings(max_examples=60, deadline=None)
@given(tables(st.one_of(st.none(), bytes_without_nul)), how)
def test_bytes_of_a_database_without_an_encoding(table: tuple[int, Values], how: dict[str, Any]) -> None:
    width, values = table
    agree(values, description(*(f"c{number}" for number in range(width))), (True, True), **how)


@pytest.mark.parametrize("length", [16_777_215, 16_777_216, 16_777_300])
def test_rows_of_sixteen_megabytes_among_others(length: int) -> None:
    small: Values = [(b"%d" % number, None, b"text") for number in range(200)]
    values = [*small, (b"large", b"x" * length, b""), *small]
    cuts = list(range(0, length + 40_000, 250_000))
    agree(values, description("a", "b", "c"), (True, True), between=NOTICE, at=100, cuts=cuts)
