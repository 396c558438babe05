"""Rows become JSON by one regular expression, which in Python is four times as fast as length after length.

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
from sqlhttp_gateway.neon.row_json import Taken, converted, undisguised
from sqlhttp_gateway.neon.values import Converter

WIDE: Final = 64
"""Columns up to which a pattern is quickly compiled."""
ROW_BYTES: Final = 7
"""Tag, length, count of columns."""
LENGTH_BYTES: Final = 4
"""Of each field's length."""

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

_FIRST_TAG: Final = ord("A")
"""The first byte of a length is always less, since no message of Postgres is as large as 1 GB."""
_BEHIND_ALL: Final = "D\0"
"""What looks like the beginning of another row, to stand behind the last one of all."""


class RowsByPattern:
    """The rows of one result, a piece at a time."""

    __slots__ = ("_array_mode", "_columns", "_converters", "_findall", "_names")

    def __init__(
        self, names: Sequence[str], converters: Sequence[Converter | None] | None, *, array_mode: bool
    ) -> None:
        """The arguments are those of `rows.encode_rows`; there is at least one column."""
        self._names = names
        self._columns = len(names)
        self._converters = converters
        self._array_mode = array_mode
        self._findall = _pattern(len(names)).findall

    def take(self, data: bytes, *, is_all: bool) -> Taken | None:
        """The rows that `data` begins with; None where there are none, or somebody else has to decide.

        With `is_all` these are whole rows, and nothing comes behind them.
        """
        guised = _guised(data) if 0xFF in data else data
        text = guised.decode("latin-1")
        if is_all:
            text += _BEHIND_ALL
        found: list[tuple[str, ...]] = self._findall(text, 1)
        if not found:
            return None  # a single byte
        following = self._following(found.pop(), len(text))
        if not following or not found:
            return None
        if self._columns == 1:
            found = [row[1:] for row in found]
        taken = self._encode(found, most_nulls=len(guised) - len(data))
        if taken is None:
            return None
        encoded, nulls = taken
        # Where a database has no encoding, a text can be the one byte that guises NULL.
        if guised is not data and nulls != len(guised) - len(data) - guised.count(NULL_FIELD, following):
            return None
        length = following - nulls
        # In front of a message of 16 MB there is no NUL that would have ended the last text: its length stands there.
        if length < len(data) and data[length] < _FIRST_TAG:
            return None
        return len(found), length, encoded

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


def row_by_pattern(row: bytes, names: Sequence[str], *, array_mode: bool) -> bytes | None:
    """The same by a pattern: in half the time that many rows would take, or with NULLs in a third, since one that has
    to match to the end needs no proof of having done so.
    """
    columns = len(names)
    if not 0 < columns <= WIDE:
        return None
    guised = row.replace(NULL_LENGTH, NULL_FIELD) if 0xFF in row else row
    found = _row_pattern(columns).fullmatch(guised.decode("latin-1"))
    if found is None:
        return None
    texts: tuple[str | None, ...] = found.groups()
    nulls = len(guised) - len(row)  # each is a byte longer in its guise
    if nulls:
        texts = tuple([None if text == NULL_GUISE else text for text in texts])
        if texts.count(None) != nulls:  # where a database has no encoding, a text can be that one byte
            return None
    encoded = orjson.dumps(texts if array_mode else dict(zip(names, texts)))  # noqa: B905  the pattern has counted them
    return encoded if encoded.isascii() else undisguised(encoded)


@lru_cache(maxsize=128)
def _row_pattern(columns: int) -> re.Pattern[str]:
    """One row from its tag to its end."""
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    return re.compile(r"D\0..." + count + r"\0...([^\0]*+)" * columns, re.DOTALL)
