"""DataRow messages become the JSON of "rows".

There are two ways, and they give the same bytes. The walker reads length after length as the manual says, and says
what is wrong; it is the judge. The other takes many rows at once (`neon.row_pieces`), or one row by itself. When what
it finds does not cover the rows to the last byte, the walker takes over.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from sqlhttp_gateway.build import IS_COMPILED
from sqlhttp_gateway.errors import RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.neon.row_json import Row, converted
from sqlhttp_gateway.neon.row_pieces import RowPieces
from sqlhttp_gateway.neon.rows_by_lengths import row_by_lengths
from sqlhttp_gateway.neon.rows_by_pattern import LENGTH_BYTES, ROW_BYTES, WIDE, row_by_pattern
from sqlhttp_gateway.neon.values import Converter

_DATA_ROW: Final = ord("D")
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


def encode_row(row: bytes, names: Sequence[str], *, array_mode: bool) -> bytes | None:
    """The JSON of a single row in Postgres's text, without the array's brackets; None: `encode_rows` has to decide."""
    if IS_COMPILED and array_mode:
        return row_by_lengths(row, len(names))
    return row_by_pattern(row, names, array_mode=array_mode)


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
