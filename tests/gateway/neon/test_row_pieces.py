"""Pieces of rows: whole rows and nothing else, however they are cut, and the JSON is the walker's."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.neon import row_pieces as module
from sqlhttp_gateway.neon.row_pieces import RowPieces
from sqlhttp_gateway.neon.rows import encode_rows_walking
from tests.support.rows import data_row

Values = Sequence[Sequence[bytes | None]]

MIXED: Values = [(b"1", "ÿ".encode(), None), (None, None, None), (b"", b"", b""), (b"x" * 255, None, b"D")]
STREAM = b"".join(map(data_row, MIXED))
NAMES = "abc"


@pytest.fixture(params=[False, True], ids=["by pattern", "by lengths"])
def by_lengths(request: pytest.FixtureRequest) -> bool:
    """Either way, whichever of them this build takes."""
    return bool(request.param)


def pieces(columns: int = 3, *, array_mode: bool = True, by_lengths: bool) -> RowPieces:
    return RowPieces("abcdefgh"[:columns], None, array_mode=array_mode, by_lengths=by_lengths)


def json(taken: RowPieces) -> bytes:
    return b"".join(taken.json())


def judged(region: bytes, count: int, columns: int = 3, *, array_mode: bool = True) -> bytes:
    return encode_rows_walking(region, count, names="abcdefgh"[:columns], converters=None, array_mode=array_mode)


@pytest.mark.parametrize("array_mode", [True, False])
def test_with_nothing_behind_them_all_rows_are_taken(array_mode: bool, by_lengths: bool) -> None:
    taken = pieces(array_mode=array_mode, by_lengths=by_lengths)
    assert taken.read(STREAM, 0, is_all=True) == (4, len(STREAM))
    assert json(taken) == judged(STREAM, 4, array_mode=array_mode)


@pytest.mark.parametrize("columns", [1, 2, 8])
def test_single_row_is_taken_by_its_last_text(columns: int, by_lengths: bool) -> None:
    for value in (b"", b"D", b"\xc3\xbf", None, b"x" * 300):
        row = data_row([value] * columns)
        taken = pieces(columns, by_lengths=by_lengths)
        assert taken.read(row, 0, is_all=True) == (1, len(row)), value
        assert json(taken) == judged(row, 1, columns)


@pytest.mark.uncompiled
@pytest.mark.parametrize("piece", [1, 10, 64, 100, 300])
def test_row_that_is_larger_than_a_piece_does_not_make_the_next_ones_so(
    piece: int, monkeypatch: pytest.MonkeyPatch, by_lengths: bool
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    sizes: list[int] = []
    read_piece = RowPieces._read_piece

    def spy(self: RowPieces, data: bytes, *, is_all: bool) -> tuple[int, int]:
        sizes.append(len(data))
        return read_piece(self, data, is_all=is_all)

    monkeypatch.setattr(RowPieces, "_read_piece", spy)
    rows = [data_row([b"%d" % row, b"y" * (1000 if row == 3 else 3), None]) for row in range(50)]
    region = b"".join(rows)
    taken = pieces(by_lengths=by_lengths)
    assert taken.read(region, 0, is_all=True) == (50, len(region))
    assert json(taken) == judged(region, 50)
    assert max(sizes) <= max(map(len, rows)) + 5


@pytest.mark.parametrize("way", [False, True], ids=["by pattern", "by lengths"])
@given(noise=st.binary(max_size=30), at=st.integers(0, len(STREAM)), is_all=st.booleans())
def test_of_spoiled_rows_only_what_the_walker_reads_is_taken(noise: bytes, at: int, is_all: bool, way: bool) -> None:
    spoiled = STREAM[:at] + noise + STREAM[at + len(noise) :]
    if not spoiled.startswith(b"D"):
        return
    taken = pieces(by_lengths=way)
    count, position = taken.read(spoiled, 0, is_all=is_all)
    if not count:
        assert position == 0
        return
    texts = judged_or_lying(spoiled[:position], count)
    assert json(taken) == texts or (texts is None and not way), "by lengths nothing is taken whose lengths are not true"


def judged_or_lying(region: bytes, count: int) -> bytes | None:
    """None where a length is not true, which is nobody's question but the walker's."""
    try:
        return judged(region, count)
    except Exception:
        return None


@pytest.mark.parametrize("texts", [[b"\xff"], [b"\xff" * 4, None], [None, b"\xff"], [b"\xff" * 7, b"a"]])
def test_texts_of_a_database_without_an_encoding_pass_for_no_null(texts: list[bytes | None], by_lengths: bool) -> None:
    row = data_row(texts)
    assert pieces(len(texts), by_lengths=by_lengths).read(row * 2, 0, is_all=True) == (0, 0)


def much(*, nulls: int) -> list[bytes]:
    """Rows of some 300 bytes, most of them without a NULL; lengths have the byte that NULLs are looked for by."""
    rows: list[list[bytes | None]] = [[b"%d" % row, "ÿ".encode(), b"x" * 255] for row in range(200)]
    for number in range(nulls):
        rows[number * 199 // max(1, nulls - 1)][number % 3] = None  # in the first row, in the last, and between
    return [data_row(row) for row in rows]


@pytest.mark.parametrize("array_mode", [True, False])
@pytest.mark.parametrize("nulls", [0, 1, 7])
def test_few_nulls_in_much_text_are_where_they_were(nulls: int, array_mode: bool, by_lengths: bool) -> None:
    region = b"".join(much(nulls=nulls))
    taken = pieces(array_mode=array_mode, by_lengths=by_lengths)
    assert taken.read(region, 0, is_all=True) == (200, len(region))
    assert json(taken) == judged(region, 200, array_mode=array_mode)


@pytest.mark.parametrize("array_mode", [True, False])
@pytest.mark.parametrize("nulls_first", [True, False])
def test_nulls_that_stand_all_together_are_where_they_were(
    nulls_first: bool, array_mode: bool, by_lengths: bool
) -> None:
    many, few = [data_row([b"1", None, None])] * 300, much(nulls=0)
    region = b"".join([*many, *few] if nulls_first else [*few, *many])
    taken = pieces(array_mode=array_mode, by_lengths=by_lengths)
    assert taken.read(region, 0, is_all=True) == (500, len(region))
    assert json(taken) == judged(region, 500, array_mode=array_mode)


@pytest.mark.parametrize("nulls", [0, 7])
def test_in_much_text_as_well_none_passes_for_null_that_is_not(nulls: int, by_lengths: bool) -> None:
    rows = much(nulls=nulls)
    rows[100] = data_row([b"100", b"\xff", b""])
    count, position = (taken := pieces(by_lengths=by_lengths)).read(b"".join(rows), 0, is_all=True)
    assert count <= 100
    assert position == len(b"".join(rows[:count]))
    assert json(taken) == judged(b"".join(rows[:count]), count)


@pytest.mark.parametrize("array_mode", [True, False])
def test_columns_that_are_converted_are_as_the_walker_has_them(array_mode: bool, by_lengths: bool) -> None:
    region = b"".join(map(data_row, [(b"1", b"x"), (None, "ÿ".encode()), (b"2", None)]))
    taken = RowPieces("ab", [int, None], array_mode=array_mode, by_lengths=by_lengths)
    assert taken.read(region, 0, is_all=True) == (3, len(region))
    assert json(taken) == encode_rows_walking(region, 3, names="ab", converters=[int, None], array_mode=array_mode)
    none = data_row((b"one", b"x"))
    assert RowPieces("ab", [int, None], array_mode=array_mode, by_lengths=by_lengths).read(none, 0, is_all=True) == (
        0,
        0,
    )


def test_nothing_is_left_of_what_was_cleared(by_lengths: bool) -> None:
    taken = pieces(by_lengths=by_lengths)
    taken.read(STREAM, 0, is_all=True)
    taken.clear()
    assert json(taken) == b"[]"
    taken.append(b'[["elsewhere"]]')
    assert json(taken) == b'[["elsewhere"]]'
