"""Rows of a large answer become JSON while they arrive, a piece for each chunk of bytes.

What a row is made of is told in `neon.rows`, whose guise is worn here, too. The difference is that a chunk ends
anywhere, and that nobody has counted its rows: to walk over their lengths would take a tenth of the time of all. So the
pattern must not pass over anything. As soon as no row begins where the last one ended it takes all that is left; what
it finds in front of that is whole rows, one behind the other, to the byte. Neither a notice nor anything else that
Postgres may send between rows looks like a row of so many columns. Whatever is not found here is walked, and comes
back by `keep`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson

from sqlhttp_gateway.errors import GatewayError, ResultUnreadable
from sqlhttp_gateway.model import ReadRows
from sqlhttp_gateway.neon.fields import describe
from sqlhttp_gateway.neon.rows import (
    LENGTH_BYTES,
    NULL_FIELD,
    NULL_GUISE,
    NULL_LENGTH,
    ROW_BYTES,
    WIDE,
    converted,
    encode_rows,
)
from sqlhttp_gateway.neon.values import Converter

_PIECE = 1 << 16
"""Bytes of rows taken at a time. The texts of a chunk of 256 KiB take a megabyte, which the system would give and
take back each time: 600 page faults in place of 100 for 10,000 rows of 8 columns, a tenth of all their CPU."""

_NULL = re.compile(b'"\xff"')
_FIRST_TAG = ord("A")
"""The first byte of a length is always less, since no message of Postgres is as large as 1 GB."""

_Texts = Sequence[tuple[str, ...]]


class ArrivingRows:
    """The rows of one result, as far as they have come."""

    __slots__ = ("_array_mode", "_columns", "_converters", "_fault", "_findall", "_names", "_pieces")

    def __init__(
        self, names: Sequence[str], converters: Sequence[Converter | None] | None, *, array_mode: bool
    ) -> None:
        """The arguments are those of `encode_rows`; there is at least one column."""
        self._names = names
        self._columns = len(names)
        self._converters = converters
        self._array_mode = array_mode
        self._findall = _pattern(len(names)).findall
        self._pieces: list[bytes | memoryview] = []
        self._fault: GatewayError | None = None

    def read(self, data: bytes, start: int) -> tuple[int, int]:
        """How many whole rows were taken from `start` on, and where they end. A DataRow begins at `start`."""
        if self._fault is not None:
            return 0, start
        count, position, end = 0, start, len(data)
        while True:
            piece = data[position : position + _PIECE]
            rows, length = self._read_piece(piece)
            if not rows and len(piece) < end - position:
                piece = data[position:]  # there may be a row that is larger than a piece
                rows, length = self._read_piece(piece)
            is_last = len(piece) == end - position
            count += rows
            position += length
            if not rows or is_last:
                return count, position

    def _read_piece(self, data: bytes) -> tuple[int, int]:
        """How many rows `data` begins with, and how many bytes they are; one at its end may be left."""
        # Looking for one byte is so much faster than for four that it pays to ask first; and to cut and join is nearly
        # twice as fast as to replace, which looks twice.
        guised = NULL_FIELD.join(data.split(NULL_LENGTH)) if 0xFF in data else data
        found: list[tuple[str, ...]] = self._findall(guised.decode("latin-1"), 1)
        # There is at least one, since `data` has more than its first byte.
        following = self._following(found.pop(), guised)
        if not following or not found:
            return 0, 0
        if self._columns == 1:
            found = [row[1:] for row in found]
        taken = self._encode(found, has_nulls=guised is not data)
        if taken is None:
            return 0, 0
        encoded, nulls = taken
        # Where a database has no encoding, a text can be the one byte that guises NULL.
        if guised is not data and nulls != len(guised) - len(data) - guised.count(NULL_FIELD, following):
            return 0, 0
        # In front of a message of 16 MB there is no NUL that would have ended the last text: its length stands there.
        if data[following - nulls] < _FIRST_TAG:
            return 0, 0
        self._append(encoded)
        return len(found), following - nulls

    def keep(self, rows: bytes, count: int) -> None:
        """Take rows that were walked: so many whole DataRow messages."""
        if self._fault is not None:
            return
        names, converters, array_mode = self._names, self._converters, self._array_mode
        try:
            encoded = encode_rows(rows, count, names=names, converters=converters, array_mode=array_mode)
        except GatewayError as error:
            # Told when the answer is asked for: the statement goes on to its end, as that of few rows does.
            self._fault = error
            self._pieces.clear()
        else:
            self._append(encoded)

    def json(self) -> list[bytes | memoryview]:
        """The JSON array of all rows, in pieces.

        Raises:
            ResultUnreadable, RemoteProtocolError: as `encode_rows`.
        """
        if self._fault is not None:
            raise self._fault
        return [b"[", *self._pieces[1:], b"]"]

    def _append(self, encoded: bytes) -> None:
        """Add what stands between an array's brackets."""
        self._pieces += (b",", memoryview(encoded)[1:-1])

    def _following(self, last: tuple[str, ...], guised: bytes) -> int:
        """Where in `guised` the last thing found begins, with its tag; 0 where that cannot be told.

        It is what was left, which nearly always begins with the length of a message; or else a row that perhaps has
        more to come.
        """
        if last[-1].startswith("\0"):
            return len(guised) - 1 - len(last[-1])
        if not any(last[:-1]):
            return 0
        texts = "".join(last[-self._columns :])
        # One more than its bytes, since what would be the next tag is perhaps its own.
        return len(guised) - 1 - ROW_BYTES - self._columns * LENGTH_BYTES - len(texts)

    def _encode(self, found: _Texts, *, has_nulls: bool) -> tuple[bytes, int] | None:
        """The JSON array of the rows, and how many NULLs they have; None where the walker has to find the fault."""
        rows: Sequence[Any] = found
        is_plain = self._converters is None and self._array_mode
        # Elsewhere not every NULL comes out as its guise: converters know it, and of equal names one value counts.
        nulls = 0 if is_plain or not has_nulls else "".join(chain.from_iterable(found)).count(NULL_GUISE)
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
            encoded = encoded.decode().encode("latin-1")  # the guise comes off
            if has_nulls:
                encoded, replaced = _NULL.subn(b"null", encoded)
                nulls = replaced if is_plain else nulls
            try:
                if not encoded.isascii():
                    encoded.decode()
            except UnicodeDecodeError:
                return None
        return encoded, nulls


@lru_cache(maxsize=WIDE)
def _pattern(columns: int) -> re.Pattern[str]:
    """One row, from after its tag up to and including the next message's tag; or else all that is left, as the last of
    the texts. Of one column there is a NUL in front of the text.
    """
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    # A NUL follows each text, so that nothing is ever gained by giving a part of it back; only the last one gives its
    # last character, which is the next tag.
    lengths = r"(\0)..." if columns == 1 else r"\0...([^\0]*+)" * (columns - 1) + r"\0..."
    return re.compile(rf"(?:\0...{count}{lengths}|)((?(1)[^\0]*|.+))(?(1)[^\0]|)", re.DOTALL)


def _reading(*, array_mode: bool, raw_text: bool) -> ReadRows:
    def begin(description: bytes) -> ArrivingRows | None:
        described = describe(description)
        names = described.names
        # Compiling a pattern for more takes milliseconds, so wider rows are kept until all of them are there.
        if not 0 < len(names) <= WIDE or (not raw_text and described.converters is None):
            return None
        return ArrivingRows(names, None if raw_text else described.converters, array_mode=array_mode)

    return begin


READINGS = {
    (array_mode, raw_text): _reading(array_mode=array_mode, raw_text=raw_text)
    for array_mode in (True, False)
    for raw_text in (True, False)
}
"""What begins to read a result's rows, given the body of its RowDescription, by whether rows are arrays and values
Postgres's own text. It gives None where rows are better kept until all of them are there."""
