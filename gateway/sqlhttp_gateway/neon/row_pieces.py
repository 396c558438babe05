"""Rows become JSON in pieces, each taken whole in one regular expression: four times as fast as length after length.

In Postgres's text format a text never holds a NUL and a length below 16 MB always begins with one: a field is a NUL,
three bytes, and whatever comes before the next NUL. For that the rows wear a guise: each byte is one character
(latin-1), so that no UTF-8 is decoded before the end, and NULL, whose length is four bytes of 0xFF, is a text of the
single byte 0xFF, which UTF-8 never has.

A piece ends anywhere, and nobody has counted its rows: to walk over their lengths would take a tenth of the time of
all. So the pattern must not pass over anything. As soon as no row begins where the last one ended it takes all that is
left; what it finds in front of that is whole rows, one behind the other, to the byte. Neither a notice nor anything
else that Postgres may send between rows looks like a row of so many columns. Whatever is not found here has to be
walked (`neon.rows`), and whether each length is true is the walker's question alone: a server that lies there has its
own text to answer for.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import orjson

from sqlhttp_gateway.errors import ResultUnreadable
from sqlhttp_gateway.neon.values import Converter

ROW_BYTES: Final = 7
"""Tag, length, count of columns."""
LENGTH_BYTES: Final = 4
"""Of each field's length."""

_PIECE = 1 << 16
"""Bytes of rows taken at a time. The texts of a chunk of 256 KiB take a megabyte, which the system would give and
take back each time: 600 page faults in place of 100 for 10,000 rows of 8 columns, a tenth of all their CPU. And since
Python can switch threads between two pieces, a large result encoded in a thread leaves the event loop its turns."""

NULL_LENGTH: Final = b"\xff\xff\xff\xff"
"""What stands in a NULL's place."""
NULL_FIELD: Final = b"\0\0\0\1\xff"
"""What stands there in guise."""
NULL_GUISE: Final = "\xff"
"""Its text, then."""
_NULL_BYTE: Final = b"\xff"
_NULL_JSON: Final = b'"\xff"'
_SPARSE: Final = 300
"""Bytes for each NULL from which on it is cheaper to look for the one byte: that is ten times as fast as looking for
several, and then takes 0.2 us for each NULL."""
_FEW: Final = 4096
"""Bytes up to which nothing is gained by it, and those that tell how many NULLs to expect."""

_BEGINNING: Final = 5
"""Bytes of a tag and a length."""
_FIRST_TAG: Final = ord("A")
"""The first byte of a length is always less, since no message of Postgres is as large as 1 GB."""
_BEHIND_ALL: Final = "D\0"
"""What looks like the beginning of another row, to stand behind the last one of all."""

Row = Sequence[Any]


class RowPieces:
    """The rows of one result, as far as they were taken."""

    __slots__ = ("_array_mode", "_columns", "_converters", "_findall", "_names", "_pieces")

    def __init__(
        self, names: Sequence[str], converters: Sequence[Converter | None] | None, *, array_mode: bool
    ) -> None:
        """The arguments are those of `rows.encode_rows`; there is at least one column."""
        self._names = names
        self._columns = len(names)
        self._converters = converters
        self._array_mode = array_mode
        self._findall = _pattern(len(names)).findall
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
        guised = _guised(data) if 0xFF in data else data
        text = guised.decode("latin-1")
        if is_all:
            text += _BEHIND_ALL
        found: list[tuple[str, ...]] = self._findall(text, 1)
        if not found:
            return 0, 0  # a single byte
        following = self._following(found.pop(), len(text))
        if not following or not found:
            return 0, 0
        if self._columns == 1:
            found = [row[1:] for row in found]
        taken = self._encode(found, most_nulls=len(guised) - len(data))
        if taken is None:
            return 0, 0
        encoded, nulls = taken
        # Where a database has no encoding, a text can be the one byte that guises NULL.
        if guised is not data and nulls != len(guised) - len(data) - guised.count(NULL_FIELD, following):
            return 0, 0
        length = following - nulls
        # In front of a message of 16 MB there is no NUL that would have ended the last text: its length stands there.
        if length < len(data) and data[length] < _FIRST_TAG:
            return 0, 0
        self.append(encoded)
        return len(found), length

    def _following(self, last: tuple[str, ...], size: int) -> int:
        """Where in the guised text, of that size, the last thing found begins, with its tag; 0 where that cannot be
        told.

        It is what was left, which nearly always begins with the length of a message; or else a row that perhaps has
        more to come.
        """
        if last[-1].startswith("\0"):
            return size - 1 - len(last[-1])
        if not any(last[:-1]):
            return 0
        texts = "".join(last[-self._columns :])
        # One more than its bytes, since what would be the next tag is perhaps its own.
        return size - 1 - ROW_BYTES - self._columns * LENGTH_BYTES - len(texts)

    def _encode(self, found: Sequence[tuple[str, ...]], *, most_nulls: int) -> tuple[bytes, int] | None:
        """The JSON array of the rows, and how many NULLs they have; None where the walker has to find the fault."""
        rows: Sequence[Any] = found
        is_plain = self._converters is None and self._array_mode
        # Elsewhere not every NULL comes out as its guise: converters know it, and of equal names one value counts.
        nulls = 0 if is_plain or not most_nulls else "".join(chain.from_iterable(found)).count(NULL_GUISE)
        if self._converters is not None:
            try:
                rows = converted(rows, self._converters, null=NULL_GUISE)
            except ResultUnreadable:
                return None
        if not self._array_mode:
            names = self._names
            rows = [dict(zip(names, row)) for row in rows]  # noqa: B905  the pattern has counted the columns
        encoded = orjson.dumps(rows)
        if not encoded.isascii():
            size = len(encoded)
            encoded = encoded.decode().encode("latin-1")  # the guise comes off
            not_ascii = size - len(encoded)  # bytes of which each was two
            if is_plain and 0 < most_nulls * _SPARSE < len(encoded) > _FEW:
                encoded, nulls = _with_nulls(encoded)
            elif most_nulls:
                size = len(encoded)
                encoded = encoded.replace(_NULL_JSON, b"null")
                nulls = len(encoded) - size if is_plain else nulls  # it is one byte longer
            try:
                if not is_plain or not_ascii != nulls:  # there is more than NULLs
                    encoded.decode()
            except UnicodeDecodeError:
                return None
        return encoded, nulls


def _guised(data: bytes) -> bytes:
    """The same with another length and text in place of each NULL's length."""
    if len(data) > _FEW and data.count(_NULL_BYTE, 0, _FEW) * _SPARSE <= len(NULL_LENGTH) * _FEW:
        parts = _cut_at_nulls(data, most=len(data) // _SPARSE)
        if parts is not None:
            return NULL_FIELD.join(parts) if len(parts) > 1 else data
    return NULL_FIELD.join(data.split(NULL_LENGTH))  # nearly twice as fast as to replace, which looks twice


def _cut_at_nulls(data: bytes, *, most: int) -> list[memoryview] | None:
    """What stands between the NULLs' lengths; None when there are more than `most` of those, or of what begins so."""
    parts: list[memoryview] = []
    view, begin, at = memoryview(data), 0, data.find(_NULL_BYTE)
    for _ in range(most):
        if at < 0:
            parts.append(view[begin:])
            return parts
        if data[at : at + LENGTH_BYTES] == NULL_LENGTH:
            parts.append(view[begin:at])
            begin = at = at + len(NULL_LENGTH)
        else:
            at += 1
        at = data.find(_NULL_BYTE, at)
    return None


def _with_nulls(encoded: bytes) -> tuple[bytes, int]:
    """Arrays of texts with null in place of each text that is the guise alone, and how often that byte stands in them.

    Where that is more often than there are NULLs, this is not their JSON.
    """
    parts: list[bytes | memoryview] = []
    view, begin, at = memoryview(encoded), 0, encoded.find(_NULL_BYTE)
    while at >= 0:
        parts.append(view[begin : at - 1])  # without the quotes on both sides
        begin = at + 2
        at = encoded.find(_NULL_BYTE, begin)
    parts.append(view[begin:])
    return b"null".join(parts), len(parts) - 1


@lru_cache(maxsize=128)
def _pattern(columns: int) -> re.Pattern[str]:
    """One row, from after its tag up to and including the next message's tag; or else all that is left, as the last of
    the texts. Of one column there is a NUL in front of the text.
    """
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    # A NUL follows each text, so that nothing is ever gained by giving a part of it back; only the last one gives its
    # last character, which is the next tag.
    lengths = r"(\0)..." if columns == 1 else r"\0...([^\0]*+)" * (columns - 1) + r"\0..."
    return re.compile(rf"(?:\0...{count}{lengths}|)((?(1)[^\0]*|.+))(?(1)[^\0]|)", re.DOTALL)


def converted(rows: Sequence[Row], converters: Sequence[Converter | None], *, null: str | None) -> list[Row]:
    """The rows with every column that has a converter sent through it, column by column; `null` is NULL's text.

    Raises:
        ResultUnreadable: a text is not what its type looks like.
    """
    if not rows or not converters:
        return list(rows)  # nothing can be turned into columns and back where either is missing
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for index, convert in enumerate(converters):
        if convert is None:
            continue
        try:
            columns[index] = [None if text == null else convert(text) for text in columns[index]]
        except ValueError:
            # The text could be anybody's data, so only its place is told.
            raise ResultUnreadable(
                f"could not parse postgres response: a value in column {index + 1} is not of the column's type"
            ) from None
    return list(zip(*columns, strict=True))
