"""What Postgres sends, as bytes: whole messages for tests that play the server's part. Nothing here reads."""

from collections.abc import Sequence
from struct import pack

ASKS_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"
ACCEPTED = b"R\0\0\0\x08\0\0\0\0"
PARSED, BOUND, NO_DATA = b"1\0\0\0\x04", b"2\0\0\0\x04", b"n\0\0\0\x04"
EMPTY = b"I\0\0\0\x04"


def message(tag: bytes, body: bytes = b"") -> bytes:
    return tag + pack("!I", len(body) + 4) + body


def ready(status: str = "I") -> bytes:
    """ReadyForQuery: idle, in a transaction, or in one that has failed (E)."""
    return message(b"Z", status.encode())


GREETING = (
    ASKS_PASSWORD
    + ACCEPTED
    + message(b"S", b"server_version\x0018.0\0")
    + message(b"K", b"\0\0\0\x07\0\0\0\x08")
    + ready()
)
"""All that a log-in brings."""


def described(*columns: tuple[str, int]) -> bytes:
    """RowDescription of columns with these names and types, which belong to no table."""
    body = pack("!H", len(columns))
    for name, type_id in columns:
        body += name.encode() + b"\0" + pack("!IhIhih", 0, 0, type_id, 4, -1, 0)
    return message(b"T", body)


def row(*values: str | None) -> bytes:
    """DataRow."""
    body = pack("!H", len(values))
    for value in values:
        data = b"" if value is None else value.encode()
        body += pack("!i", -1 if value is None else len(data)) + data
    return message(b"D", body)


def completed(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", tag.encode() + b"\0")


def done(tag: str, status: str = "I") -> bytes:
    """The whole answer to a statement without rows."""
    return PARSED + BOUND + NO_DATA + completed(tag) + ready(status)


def selected(columns: Sequence[tuple[str, int]], *rows: Sequence[str | None], status: str = "I") -> bytes:
    """The whole answer to a SELECT."""
    found = b"".join(row(*values) for values in rows)
    return PARSED + BOUND + described(*columns) + found + completed(f"SELECT {len(rows)}") + ready(status)


def failed(code: str, text: str = "no", *, severity: str = "ERROR", position: str | None = None) -> bytes:
    """ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": code, "M": text} | ({"P": position} if position else {})
    return message(b"E", b"".join(f"{kind}{value}\0".encode() for kind, value in fields.items()) + b"\0")


def notified(channel: str, payload: str = "", process_id: int = 7) -> bytes:
    """NotificationResponse."""
    return message(b"A", pack("!I", process_id) + channel.encode() + b"\0" + payload.encode() + b"\0")
