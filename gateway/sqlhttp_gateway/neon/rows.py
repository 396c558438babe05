"""DataRow messages become the JSON of "rows".

There are two ways, and they give the same bytes. The walker reads length after length as the manual says; it is the
judge. The other takes all rows in one regular expression (`neon.row_pieces`), and one row in another, or, where it is
compiled, by its lengths as well. When what they find does not cover the rows to the last byte, the walker takes over
and says what is wrong.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import orjson

from sqlhttp_gateway.build import IS_COMPILED
from sqlhttp_gateway.errors import RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.neon.row_pieces import (
    LENGTH_BYTES,
    NULL_FIELD,
    NULL_GUISE,
    NULL_LENGTH,
    ROW_BYTES,
    Row,
    RowPieces,
    converted,
)
from sqlhttp_gateway.neon.values import Converter

_DATA_ROW: Final = ord("D")
_dumps: Final = orjson.dumps

WIDE: Final = 64
"""Columns up to which a pattern is quickly compiled."""
_MANY: Final = 50
"""A pattern for more columns than WIDE takes milliseconds to compile, so it has to serve this many rows at least."""


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
        pieces = RowPieces(names, converters, array_mode=array_mode)
        if pieces.read(rows, 0, is_all=True) == (row_count, len(rows)):
            return b"".join(pieces.json())
    return encode_rows_walking(rows, row_count, names=names, converters=converters, array_mode=array_mode)


# ── one row ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_row(row: bytes, names: Sequence[str], *, array_mode: bool) -> bytes | None:
    """The JSON of a single row in Postgres's text, without the array's brackets; None: `encode_rows` has to decide."""
    if IS_COMPILED and array_mode:
        return row_by_lengths(row, len(names))
    return row_by_pattern(row, names, array_mode=array_mode)


def row_by_lengths(row: bytes, columns: int) -> bytes | None:
    """The array that a row is, read length after length: three times as fast as by the pattern where it is compiled,
    and half as fast where it is not.
    """
    end = len(row)
    if end < ROW_BYTES or row[0] != _DATA_ROW or (row[5] << 8 | row[6]) != columns:
        return None
    texts: list[str | None] = []
    position = ROW_BYTES
    try:
        for _ in range(columns):
            if row[position]:  # a NULL; or a text of 16 MB, which is for the judge
                if row[position : position + LENGTH_BYTES] != NULL_LENGTH:
                    return None
                texts.append(None)
                position += LENGTH_BYTES
                continue
            begin = position + LENGTH_BYTES
            position = begin + (row[position + 1] << 16 | row[position + 2] << 8 | row[position + 3])
            texts.append(row[begin:position].decode())
    except (IndexError, UnicodeDecodeError):
        return None
    is_whole = position == end == 1 + (row[1] << 24 | row[2] << 16 | row[3] << 8 | row[4])
    return _dumps(texts) if is_whole and columns else None


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
    encoded = _dumps(texts if array_mode else dict(zip(names, texts)))  # noqa: B905  the pattern has counted them
    return encoded if encoded.isascii() else _undisguised(encoded)


@lru_cache(maxsize=128)
def _row_pattern(columns: int) -> re.Pattern[str]:
    """One row from its tag to its end."""
    count = re.escape(columns.to_bytes(2).decode("latin-1"))
    return re.compile(r"D\0..." + count + r"\0...([^\0]*+)" * columns, re.DOTALL)


def _undisguised(encoded: bytes) -> bytes | None:
    """JSON whose texts have one character for each byte, in the bytes themselves; None when they are no UTF-8."""
    encoded = encoded.decode().encode("latin-1")
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return None
    return encoded


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
