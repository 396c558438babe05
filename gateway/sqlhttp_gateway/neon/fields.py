"""RowDescription becomes fields: as values, as Neon's JSON, and as the column names that rows are keyed by.

The same few descriptions come back request after request, so what was made of one is kept under its bytes. Those bytes
are all that is looked at, which is why nothing here can go stale.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import Final

import orjson

from sqlhttp_gateway.errors import RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.model import Field
from sqlhttp_gateway.neon.values import Converter, converter, unknown_types

_AFTER_NAME: Final = Struct(">IhIhih")  # table, column, type, size, modifier, format

_CACHED_DESCRIPTIONS: Final = 512
_CACHED_LENGTH: Final = 8192
"""Some 300 columns; with the count above this bounds the cache to 40 MB."""
_CACHED_WIDE: Final = 8
_CACHED_WIDE_LENGTH: Final = 65_536
"""Room for the 1,600 columns that a table can have, of a few statements; this bounds it to 5 MB. What is longer still,
by long names, is decoded each time."""


@dataclass(frozen=True, slots=True)
class Description:
    """All that encoding needs to know of a result's columns."""

    fields: tuple[Field, ...]
    json: bytes
    """The array that an answer has under "fields"."""
    head: bytes
    """An answer up to its rows."""
    names: tuple[str, ...]
    """Column names in the guise of rows: each character is one byte of the name's UTF-8."""
    converters: tuple[Converter | None, ...] | None
    """What makes typed values of the columns; None where a type's OID says nothing without the server's catalog."""


def fields_from_description(body: bytes) -> tuple[Field, ...]:
    """The columns of a result, in order, from the body of a RowDescription message.

    Raises:
        RemoteProtocolError: the body is not one of a RowDescription.
        ResultUnreadable: a name is not UTF-8.
    """
    return describe(body).fields


def describe(body: bytes) -> Description:
    """The same columns in every form.

    Raises:
        RemoteProtocolError, ResultUnreadable: as `fields_from_description`.
    """
    if len(body) <= _CACHED_LENGTH:
        return _cached(body)
    return _cached_wide(body) if len(body) <= _CACHED_WIDE_LENGTH else _describe(body)


def _describe(body: bytes) -> Description:
    return described(_decoded(body))


def described(fields: tuple[Field, ...]) -> Description:
    """The columns in every form."""
    json = bytes(memoryview(orjson.dumps([_neon(field) for field in fields])))  # what orjson makes keeps 4 KiB
    return Description(
        fields=fields,
        json=json,
        head=b'{"fields":' + json + b',"rows":',
        names=tuple(field.name.encode().decode("latin-1") for field in fields),
        converters=None if unknown_types(fields, ()) else tuple(converter(field.type_id, {}) for field in fields),
    )


_cached: Final = lru_cache(maxsize=_CACHED_DESCRIPTIONS)(_describe)
_cached_wide: Final = lru_cache(maxsize=_CACHED_WIDE)(_describe)


def _decoded(body: bytes) -> tuple[Field, ...]:
    fields = []
    count = int.from_bytes(body[:2])
    position = 2
    try:
        for _ in range(count):
            end = body.index(0, position)
            name = body[position:end].decode()
            table_id, column_id, type_id, type_size, type_modifier, _ = _AFTER_NAME.unpack_from(body, end + 1)
            fields.append(Field(name, table_id, column_id, type_id, type_size, type_modifier))
            position = end + 1 + _AFTER_NAME.size
    except UnicodeDecodeError:
        raise ResultUnreadable("could not parse postgres response: a column's name is not UTF-8") from None
    except (ValueError, error):  # no NUL after a name, or too little after the NUL
        raise RemoteProtocolError("malformed RowDescription") from None
    if position != len(body):
        raise RemoteProtocolError("malformed RowDescription")
    return tuple(fields)


def _neon(field: Field) -> dict[str, str | int]:
    """Neon's seven keys. Drivers compare them one by one with what Postgres says on its own wire."""
    return {
        "name": field.name,
        "dataTypeID": field.type_id,
        "tableID": field.table_id,
        "columnID": field.column_id,
        "dataTypeSize": field.type_size,
        "dataTypeModifier": field.type_modifier,
        "format": "text",
    }
