"""The rows of a result become JSON in pieces of some size, whole rows each.

There are two ways of reading a piece, which give the same bytes: by the rows' lengths where this is compiled, which is
a quarter faster there, and by a regular expression where it is Python, which is four times as fast there.
"""

from collections.abc import Sequence
from typing import Final

from sqlhttp_gateway.build import IS_COMPILED
from sqlhttp_gateway.neon.rows_by_lengths import RowsByLengths
from sqlhttp_gateway.neon.rows_by_pattern import RowsByPattern
from sqlhttp_gateway.neon.values import Converter

_PIECE = 1 << 16
"""Bytes of rows taken at a time. The texts of a chunk of 256 KiB take a megabyte, which the system would give and
take back each time: 600 page faults in place of 100 for 10,000 rows of 8 columns, a tenth of all their CPU. And since
Python can switch threads between two pieces, a large result encoded in a thread leaves the event loop its turns."""

_BEGINNING: Final = 5
"""Bytes of a tag and a length."""


class RowPieces:
    """The rows of one result, as far as they were taken."""

    __slots__ = ("_pieces", "_way")

    def __init__(
        self,
        names: Sequence[str],
        converters: Sequence[Converter | None] | None,
        *,
        array_mode: bool,
        by_lengths: bool = IS_COMPILED,
    ) -> None:
        """The arguments are those of `rows.encode_rows`, and the way of reading; there is at least one column."""
        self._way: RowsByLengths | RowsByPattern
        if by_lengths:
            self._way = RowsByLengths(names, converters, array_mode=array_mode)
        else:
            self._way = RowsByPattern(names, converters, array_mode=array_mode)
        self._pieces: list[bytes | memoryview] = []

    def read(self, data: bytes, start: int, *, is_all: bool = False) -> tuple[int, int]:
        """How many whole rows were taken from `start` on, and where they end. A DataRow begins at `start`.

        With `is_all` these are whole rows, and nothing comes behind them; else the last one may be left.
        """
        count, position, end = 0, start, len(data)
        while True:
            piece = data[position : position + _PIECE]
            is_last = len(piece) == end - position
            rows, length = self._read_piece(piece, is_all=is_all and is_last)
            if not rows and not is_last:
                # A row that is larger than a piece, with the beginning of what follows it; nothing else is that large.
                size = 1 + int.from_bytes(data[position + 1 : position + 5]) + _BEGINNING
                piece = data[position : position + max(size, _PIECE)]
                is_last = len(piece) == end - position
                rows, length = self._read_piece(piece, is_all=is_all and is_last)
            count += rows
            position += length
            if not rows or is_last:
                return count, position

    def append(self, encoded: bytes) -> None:
        """Add the JSON array of rows that were encoded elsewhere."""
        self._pieces += (b",", memoryview(encoded)[1:-1])

    def clear(self) -> None:
        """Forget all of them."""
        self._pieces.clear()

    def json(self) -> list[bytes | memoryview]:
        """The JSON array of all that was taken, in pieces."""
        return [b"[", *self._pieces[1:], b"]"]

    # ── inside ──

    def _read_piece(self, data: bytes, *, is_all: bool) -> tuple[int, int]:
        """How many rows `data` begins with, and how many bytes they are."""
        taken = self._way.take(data, is_all=is_all)
        if taken is None:
            return 0, 0
        count, length, encoded = taken
        self.append(encoded)
        return count, length
