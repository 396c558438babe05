"""Values and names as SQL text, for the places where a parameter cannot stand. Quoting rules: "Lexical Structure"."""

from typing import Any

from sqlhttp._errors import InterfaceError
from sqlhttp._params import Json, encode_param

_CASTS = {
    "date": "date",
    "datetime": "timestamp",
    "time": "time",
    "timedelta": "interval",
    "UUID": "uuid",
    "Decimal": "numeric",
    "IPv4Address": "inet",
    "IPv6Address": "inet",
    "IPv4Interface": "inet",
    "IPv6Interface": "inet",
    "IPv4Network": "cidr",
    "IPv6Network": "cidr",
    "bytes": "bytea",
    "bytearray": "bytea",
    "memoryview": "bytea",
    "dict": "jsonb",
    "float": "float8",
}


def quoted_name(*parts: str) -> str:
    """`"schema"."table"`: names exactly as they are, whatever characters they have.

    Raises:
        InterfaceError: a part is empty or has a NUL, which no name can.
    """
    if not parts:
        raise InterfaceError("sql.ident needs a name")
    for part in parts:
        if not isinstance(part, str) or not part or "\0" in part:
            raise InterfaceError("a name is a string that is not empty and has no NUL character")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(value: Any) -> str:
    """The value as a constant with its type, right whatever standard_conforming_strings says.

    Raises:
        InterfaceError: there is no rule for the type, or the text has a NUL.
    """
    if value is None:
        return "NULL"
    if value is True or value is False:
        return "true" if value else "false"
    text = encode_param(value)
    assert text is not None
    if isinstance(value, int):
        return f" {text}" if text.startswith("-") else text  # `-` before a negative number would begin a comment
    if "\0" in text:
        raise InterfaceError("a text in Postgres cannot have a NUL character")
    quoted = "'" + text.replace("'", "''") + "'"
    if "\\" in quoted:
        quoted = " E" + quoted.replace("\\", "\\\\")
    cast = "json" if isinstance(value, Json) else _CASTS.get(type(value).__name__)
    if cast in ("timestamp", "time") and value.tzinfo is not None:
        cast += "tz"
    return f"{quoted}::{cast}" if cast else quoted
