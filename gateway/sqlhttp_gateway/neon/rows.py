"""DataRow messages become the JSON of "rows".

There are two ways, and they give the same bytes. The walker reads length after length as the manual says; it is the
judge. The other takes all rows in one regular expression, three times as fast, because in Postgres's text format a
text never holds a NUL and a length below 16 MB always begins with one: a field is a NUL, three bytes, and whatever
comes before the next NUL. For that the rows wear a guise: each byte is one character (latin-1), so that no UTF-8 is
decoded before the end, and NULL, whose length is four bytes of 0xFF, is a text of the single byte 0xFF, which UTF-8
never has. When the fields found do not cover the rows to the last byte, the walker takes over and says what is wrong.
Whether each length is true is the walker's question alone: a server that lies there has its own text to answer for.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson

from sqlhttp_gateway.errors import RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.neon.values import Converter

NULL_LENGTH = b"\xff\xff\xff\xff"
"""What stands in a NULL's place."""
NULL_FIELD = b"\0\0\0\1\xff"
"""What stands there in guise."""
NULL_GUISE = "\xff"
"""Its text, then."""
_NULL_JSON = orjson.dumps(NULL_GUISE)

_DATA_ROW = ord("D")
ROW_BYTES = 7
"""Tag, length, count of columns."""
LENGTH_BYTES = 4
"""Of each field's length."""

WIDE = 64
"""Columns up to which a pattern is quickly compiled."""
_MANY = 50
"""A pattern for more columns than WIDE takes milliseconds to compile, so it has to serve this many rows at least."""

_PIECE = 1 << 18
"""Bytes of rows taken at a time. It bounds the memory that texts need beside their JSON, and since Python can switch
threads between two pieces, a large result encoded in a thread leaves the event loop its turns of a few milliseconds."""

Row = Sequence[Any]


def encode_rows(
    rows: bytes,
    row_count: int,
    *,
    names: Sequence[str],
    converters: Sequence[Converter | None] | None,
    array_mode: bool,
) -> bytes:
    """The JSON array of a result's rows.

    `names` are the columns' names in guise (see `neon.fields.Description`); rows are arrays in `array_mode`, else
    objects, where of equal names the last one counts. `converters`, one a column, make typed values; None leaves every
    value Postgres's text.

    Raises:
        ResultUnreadable: a text is not UTF-8, or is not what its type looks like.
        RemoteProtocolError: these are not `row_count` DataRow messages of that many columns.
    """
    if not row_count and not rows:
        return b"[]"
    columns = len(names)
    if columns and (columns <= WIDE or row_count >= _MANY):
        encoded = _encode_by_pattern(rows, row_count, names, converters, array_mode=array_mode)
        if encoded is not None:
            return encoded
    return encode_rows_walking(rows, row_count, names=names, converters=converters, array_mode=array_mode)


# ── one row ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_row(row: bytes, names: Sequence[str], *, array_mode: bool) -> bytes | None:
    """The JSON of a single row in Postgres's text, without the array's brackets; None: `encode_rows` has to decide.

    What it encodes is the same in half the time: a pattern that has to match to the end needs no proof of having done
    so, and a row without the byte 0xFF has no NULL.
    """
    columns = len(names)
    if not 0 < columns <= WIDE or 0xFF in row:
        return None
    found = _row_pattern(columns).fullmatch(row.decode("latin-1"))
    if found is None:
        return None
    texts = found.groups()
    encoded = orjson.dumps(texts if array_mode else dict(zip(names, texts)))  # noqa: B905  the pattern has counted them
    return encoded if encoded.isascii() else _undisguised(encoded)


@lru_cache(maxsize=128)
def _row_pattern(columns: int) -> re.Pattern[str]:
    """One row from its tag to its end."""
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    return re.compile(r"D\0..." + count + r"\0...([^\0]*+)" * columns, re.DOTALL)


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_rows_walking(
    rows: bytes,
    row_count: int,
    *,
    names: Sequence[str],
    converters: Sequence[Converter | None] | None,
    array_mode: bool,
) -> bytes:
    """`encode_rows`, field by field."""
    walked: Sequence[Row] = walk_rows(rows, row_count, columns=len(names))
    if converters is not None:
        walked = converted(walked, converters, null=None)
    if array_mode:
        return orjson.dumps(walked)
    real_names = [name.encode("latin-1").decode() for name in names]
    return orjson.dumps([dict(zip(real_names, row, strict=True)) for row in walked])


def walk_rows(rows: bytes, row_count: int, *, columns: int) -> list[tuple[str | None, ...]]:
    """The texts of every row; None is NULL.

    Raises:
        ResultUnreadable, RemoteProtocolError: as `encode_rows`.
    """
    walked = []
    position, end = 0, len(rows)
    try:
        while position < end:
            following = position + 1 + int.from_bytes(rows[position + 1 : position + 5])
            if rows[position] != _DATA_ROW or int.from_bytes(rows[position + 5 : position + 7]) != columns:
                raise RemoteProtocolError(f"a row is no DataRow of {columns} columns")
            position += ROW_BYTES
            row: list[str | None] = []
            for _ in range(columns):
                length = int.from_bytes(rows[position : position + 4], signed=True)
                position += LENGTH_BYTES
                if length == -1:
                    row.append(None)
                    continue
                if length < 0:
                    raise RemoteProtocolError(f"a field with a length of {length}")
                row.append(rows[position : position + length].decode())
                position += length
            if position != following:
                raise RemoteProtocolError("a row's fields are not as long as the row")
            walked.append(tuple(row))
    except UnicodeDecodeError:
        raise ResultUnreadable(
            "could not parse postgres response: a value is not UTF-8",
            hint="The database's encoding is perhaps SQL_ASCII; cast the column to bytea or convert it.",
        ) from None
    if position != end or len(walked) != row_count:
        raise RemoteProtocolError(f"{len(walked)} rows where {row_count} were counted")
    return walked


# ── the fast way ─────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=128)
def _pattern(columns: int) -> re.Pattern[str]:
    """One row from after its tag up to and including the next row's tag."""
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    # A NUL follows each text, so that nothing is ever gained by giving a part of it back; only the last one has to, for
    # the next row's tag. Not to try takes a quarter off the time of many rows.
    field, last = r"\0...([^\0]*+)", r"\0...([^\0]*)"
    return re.compile(r"\0..." + count + field * (columns - 1) + last + r"[^\0]", re.DOTALL)


def _encode_by_pattern(
    rows: bytes,
    row_count: int,
    names: Sequence[str],
    converters: Sequence[Converter | None] | None,
    *,
    array_mode: bool,
) -> bytes | None:
    """The same bytes, or None when the walker has to decide."""
    columns = len(names)
    if len(rows) <= _PIECE:
        found, _, nulls = _find_rows(rows, columns, is_last=True)
        if len(found) != row_count:
            return None
        return _encode_found(found, nulls, names, converters, array_mode=array_mode)
    parts: list[bytes] = []
    start = seen = 0
    while start < len(rows):
        piece = rows[start : start + _PIECE]
        found, length, nulls = _find_rows(piece, columns, is_last=start + len(piece) == len(rows))
        part = _encode_found(found, nulls, names, converters, array_mode=array_mode) if found else None
        if part is None:
            return None
        parts.append(part[1:-1])
        seen += len(found)
        start += length
    if seen != row_count:
        return None
    return b"[" + b",".join(parts) + b"]"


def _find_rows(piece: bytes, columns: int, *, is_last: bool) -> tuple[Sequence[Row], int, int]:
    """The rows that `piece` begins with: what they hold, how many bytes they are, and how many NULLs are among them.

    With `is_last` they are all of it. No rows at all where they do not add up to that.
    """
    # Looking for one byte is so much faster than for four that it pays to ask first.
    guised = piece.replace(NULL_LENGTH, NULL_FIELD) if 0xFF in piece else piece
    found: Sequence[Row] = _pattern(columns).findall(guised.decode("latin-1") + "D", 1)
    if columns == 1:
        found = list(zip(found, strict=True))  # findall gives bare texts where there is one group
    if not is_last:
        found = found[:-1]  # the piece may end within it
    # findall passes over what it cannot match: only texts that make up all of the bytes prove that it did not. Where a
    # database has no encoding a text can have a byte 0xFF and pass for NULL, hence the second count.
    texts = "".join(chain.from_iterable(found))
    nulls = 0 if guised is piece else texts.count(NULL_GUISE)
    length = len(texts) + len(found) * (ROW_BYTES + columns * LENGTH_BYTES) - nulls
    if is_last:
        adds_up = length == len(piece) and nulls == len(guised) - length
    else:
        # The next row begins where these end. A row larger than the piece is for the walker.
        adds_up = length > 0 and piece[length] == _DATA_ROW and nulls == piece.count(NULL_LENGTH, 0, length)
    return (found, length, nulls) if adds_up else ((), 0, 0)


def _encode_found(
    found: Sequence[Any],
    nulls: int,
    names: Sequence[str],
    converters: Sequence[Converter | None] | None,
    *,
    array_mode: bool,
) -> bytes | None:
    if converters is not None:
        found = converted(found, converters, null=NULL_GUISE)
    if not array_mode:
        found = [dict(zip(names, row)) for row in found]  # noqa: B905  the pattern has counted the columns
    encoded = orjson.dumps(found)
    if nulls:
        encoded = encoded.replace(_NULL_JSON, b"null")
    return encoded if encoded.isascii() else _undisguised(encoded)


def _undisguised(encoded: bytes) -> bytes | None:
    """JSON whose texts have one character for each byte, in the bytes themselves; None when they are no UTF-8."""
    encoded = encoded.decode().encode("latin-1")
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return None
    return encoded


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
