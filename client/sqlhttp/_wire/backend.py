"""Messages that a server sends: cut out of a stream of bytes, and read. Named as in the Postgres manual."""

from struct import error as StructError
from struct import unpack_from
from typing import Any, NamedTuple

from sqlhttp._errors import ProtocolError

MAX_MESSAGE = 1 << 30
"""Bytes. Postgres sends none that is longer; a length above it was never one."""

_ERROR_FIELDS = {
    "S": "severity",
    "C": "code",
    "M": "message",
    "D": "detail",
    "H": "hint",
    "P": "position",
    "p": "internal_position",
    "q": "internal_query",
    "W": "where",
    "s": "schema",
    "t": "table",
    "c": "column",
    "d": "data_type",
    "n": "constraint",
    "F": "file",
    "L": "line",
    "R": "routine",
}


class Message(NamedTuple):
    """One message: its tag, and its bytes after the length."""

    tag: bytes
    body: bytes


class Notification(NamedTuple):
    """What NOTIFY sent."""

    channel: str
    payload: str
    """Empty where NOTIFY gave none."""
    process_id: int
    """The backend that sent it."""


class Messages:
    """Any pieces of bytes in, whole messages out."""

    def __init__(self) -> None:
        self._pieces = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are whole by now; each is given once.

        Raises:
            ProtocolError: the bytes cannot be Postgres's.
        """
        pieces, start = self._pieces, 0
        pieces += data
        found = []
        while len(pieces) - start >= 5:
            length = int.from_bytes(pieces[start + 1 : start + 5], "big")
            if not 4 <= length <= MAX_MESSAGE:
                raise ProtocolError("the answer is not Postgres's; does the endpoint carry Postgres's protocol?")
            end = start + 1 + length
            if end > len(pieces):
                break
            found.append(Message(bytes(pieces[start : start + 1]), bytes(pieces[start + 5 : end])))
            start = end
        del pieces[:start]
        return found


def decode_row_description(body: bytes) -> list[dict[str, Any]]:
    """RowDescription, each column as Neon's JSON has it.

    Raises:
        ProtocolError: the message is malformed.
    """
    try:
        (count,) = unpack_from("!H", body)
        fields, position = [], 2
        for _ in range(count):
            end = body.index(b"\0", position)
            table, column, type_id, size, modifier, _ = unpack_from("!IhIhih", body, end + 1)
            fields.append(
                {
                    "name": body[position:end].decode(),
                    "dataTypeID": type_id,
                    "tableID": table,
                    "columnID": column,
                    "dataTypeSize": size,
                    "dataTypeModifier": modifier,
                    "format": "text",
                }
            )
            position = end + 19
        return fields
    except (ValueError, StructError):
        raise _malformed("RowDescription") from None


def decode_data_row(body: bytes) -> list[str | None]:
    """DataRow: the columns' texts.

    Raises:
        ProtocolError: the message is malformed.
    """
    values: list[str | None] = []
    position = 2
    try:
        for _ in range(int.from_bytes(body[:2], "big")):
            (length,) = unpack_from("!i", body, position)
            position += 4
            if length < 0:
                values.append(None)
                continue
            end = position + length
            if end > len(body):
                raise _malformed("DataRow")
            values.append(body[position:end].decode())
            position = end
        return values
    except (ValueError, StructError):
        raise _malformed("DataRow") from None


def decode_command_complete(body: bytes) -> tuple[str, int | None]:
    """CommandComplete: the first word of its tag, and its row count where it has one."""
    words = body.rstrip(b"\0").decode("utf-8", "replace").split(" ")
    return words[0], int(words[-1]) if words[-1].isdecimal() else None


def decode_error(body: bytes) -> dict[str, str]:
    """The fields of ErrorResponse under the names of `NeonDbError`; those that we do not know are left out."""
    fields = {}
    for field in body.split(b"\0"):
        name = _ERROR_FIELDS.get(field[:1].decode("latin-1"))
        if name is not None:
            fields[name] = field[1:].decode("utf-8", "replace")
    return fields


def decode_notification(body: bytes) -> Notification:
    """NotificationResponse.

    Raises:
        ProtocolError: the message is malformed.
    """
    channel, _, rest = body[4:].partition(b"\0")
    try:
        return Notification(channel.decode(), rest[:-1].decode(), int.from_bytes(body[:4], "big"))
    except UnicodeDecodeError:
        raise _malformed("NotificationResponse") from None


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(f"the server sent a malformed {what}")
