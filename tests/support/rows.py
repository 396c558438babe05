"""RowDescription and DataRow bytes as Postgres would send them, for tests that have no server."""

from collections.abc import Iterable, Sequence
from struct import pack

from sqlhttp_gateway.model import Result

TEXT, INT4 = 25, 23


def description(*columns: str | tuple[str, int]) -> bytes:
    """The body of a RowDescription: names, or names with a type OID."""
    body = pack(">h", len(columns))
    for column in columns:
        name, type_id = (column, TEXT) if isinstance(column, str) else column
        body += name.encode() + b"\0" + pack(">IhIhih", 0, 0, type_id, -1, -1, 0)
    return body


def data_row(values: Sequence[bytes | None]) -> bytes:
    """One whole DataRow message, tag and length included."""
    fields = b"".join(b"\xff\xff\xff\xff" if value is None else pack(">i", len(value)) + value for value in values)
    return b"D" + pack(">ih", 6 + len(fields), len(values)) + fields


def result(columns: Sequence[str | tuple[str, int]], rows: Iterable[Sequence[bytes | None]]) -> Result:
    """A SELECT's result."""
    messages = [data_row(row) for row in rows]
    return Result(description(*columns), b"".join(messages), len(messages), b"SELECT %d" % len(messages))
