"""Results and errors become the JSON bytes of an answer.

The members, their order and their names are Neon's; its driver compares them strictly, so none is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import orjson

from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.model import ArrayType, Options, Result
from sqlhttp_gateway.neon.fields import describe, described
from sqlhttp_gateway.neon.rows import encode_row, encode_rows
from sqlhttp_gateway.neon.values import Converter, converter

NOT_SUPPORTED: Final = b'"query is not supported"'
"""The body for every path and method that is not served; status 400, as Neon has it."""

_NO_FIELDS: Final = described(())


def encode_result(result: Result, options: Options, *, array_mode: bool, array_types: Mapping[int, ArrayType]) -> bytes:
    """One statement's answer. `array_mode` is what holds for this one; `array_types` matters to typed values only.

    Raises:
        ResultUnreadable: Postgres's answer cannot be expressed in JSON.
        RemoteProtocolError: the description or the rows are malformed.
    """
    columns = _NO_FIELDS if result.description is None else describe(result.description)
    if result.read is not None:
        return bytes(encode_arrived(result, array_mode=array_mode))
    converters: Sequence[Converter | None] | None = None
    if not options.raw_text:
        converters = columns.converters
        if converters is None:
            converters = [converter(field.type_id, array_types) for field in columns.fields]
    elif result.row_count == 1:  # a lookup by key
        row = encode_row(result.rows, columns.names, array_mode=array_mode)
        if row is not None:
            return b"%b[%b]%b" % (columns.head, row, _tail(result.tag, array_mode))
    rows = encode_rows(result.rows, result.row_count, names=columns.names, converters=converters, array_mode=array_mode)
    return b"".join((columns.head, rows, _tail(result.tag, array_mode)))


@dataclass(frozen=True, slots=True)
class Pieces:
    """An answer of many rows that was not put together, which would copy it once more: a tenth of what they cost."""

    parts: Sequence[bytes | memoryview] = field(repr=False)  # a caller's values
    size: int
    """Of all of them, in bytes; their `len`, too."""

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


def encode_arrived(result: Result, *, array_mode: bool) -> Pieces:
    """`encode_result` of a result whose rows were `read` as they came.

    Raises:
        ResultUnreadable, RemoteProtocolError: as `encode_result`.
    """
    assert result.read is not None
    head = _NO_FIELDS.head if result.description is None else describe(result.description).head
    parts = (head, *result.read.json(), _tail(result.tag, array_mode))
    return Pieces(parts, sum(map(len, parts)))


def encode_batch(results: Sequence[bytes]) -> bytes:
    """The answer of a batch, from its statements' encoded answers in order."""
    return b'{"results":[' + b",".join(results) + b"]}"


@lru_cache(maxsize=1024)
def _tail(tag: bytes | None, array_mode: bool) -> bytes:
    """What follows the rows: the command and the row count that the tag of CommandComplete tells."""
    words = (tag or b"").decode("utf-8", "replace").split(" ")
    command = words[0]
    counts = words[2:3] if command == "INSERT" else words[1:2]  # INSERT has an OID, always 0, before its count
    row_count = int(counts[0]) if counts and counts[0].isascii() and counts[0].isdigit() else None
    members = orjson.dumps({"command": command, "rowCount": row_count, "rowAsArray": array_mode})
    return b"," + members[1:]


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_ERROR_KEYS: Final = {
    "message": "M",
    "code": "C",
    "detail": "D",
    "hint": "H",
    "position": "P",
    "internalPosition": "p",
    "internalQuery": "q",
    "severity": "S",
    "where": "W",
    "table": "t",
    "column": "c",
    "schema": "s",
    "dataType": "d",
    "constraint": "n",
    "file": "F",
    "line": "L",
    "routine": "R",
}
"""Neon's keys in Neon's order, each with the letter of its field in an ErrorResponse."""

_FATAL_KINDS: Final = frozenset({"auth", "pool", "backend"})
"""Kinds of errors that Postgres, had it spoken, would have ended the connection with."""


def encode_error(error: GatewayError) -> bytes:
    """The body of any error: all seventeen keys, null where there is nothing to say."""
    if isinstance(error, PostgresError):
        told = dict(error.fields)
        told.setdefault("C", "")
        told.setdefault("S", "")
        if "P" in told:
            # As Neon does: a position in the program's own statement leaves no room for an internal one.
            told.pop("p", None)
            told.pop("q", None)
        told.setdefault("M", "")
    else:
        # Neon leaves code and severity empty here. Programs that look at them fare better with what Postgres would
        # have said: Prisma's adapter knows a failed log-in by its code and wants a severity in every error.
        told = {"M": error.message, "C": error.sqlstate, "S": "FATAL" if error.kind in _FATAL_KINDS else "ERROR"}
        if error.hint is not None:
            told["H"] = error.hint
    body = {key: told.get(letter) for key, letter in _ERROR_KEYS.items()}
    try:
        return orjson.dumps(body)
    except TypeError:  # text with a lone surrogate; an error has to be told in any case
        return orjson.dumps({key: text and text.encode("utf-8", "replace").decode() for key, text in body.items()})
