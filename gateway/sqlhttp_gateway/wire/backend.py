"""Messages that Postgres sends: those the gateway reads are decoded, those it says itself are encoded.

`decode_x` takes a message's body, without tag and length; `encode_x` gives the whole frame. Names and order follow
"Message Formats" of the Postgres manual. What comes from a server is read tolerantly; text that is not UTF-8 (the
words of a server before it knows the client's encoding) is shown with replacement characters.
"""

from collections.abc import Iterable, Mapping, Sequence
from struct import pack

from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.model import Field

# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

BIND_COMPLETE = b"2"
CLOSE_COMPLETE = b"3"
COMMAND_COMPLETE = b"C"
COPY_BOTH_RESPONSE = b"W"
COPY_DATA = b"d"
COPY_DONE = b"c"
COPY_IN_RESPONSE = b"G"
COPY_OUT_RESPONSE = b"H"
DATA_ROW = b"D"
EMPTY_QUERY_RESPONSE = b"I"
ERROR_RESPONSE = b"E"
NO_DATA = b"n"
NOTICE_RESPONSE = b"N"
NOTIFICATION_RESPONSE = b"A"
PARAMETER_DESCRIPTION = b"t"
PARAMETER_STATUS = b"S"
PARSE_COMPLETE = b"1"
PORTAL_SUSPENDED = b"s"
READY_FOR_QUERY = b"Z"
ROW_DESCRIPTION = b"T"

IDLE, IN_TRANSACTION, FAILED = b"I", b"T", b"E"
"""Transaction status, as ReadyForQuery tells it."""

# ── fixed frames ─────────────────────────────────────────────────────────────────────────────────────────────────────

AuthenticationOk = b"R\0\0\0\x08\0\0\0\0"
AuthenticationCleartextPassword = b"R\0\0\0\x08\0\0\0\x03"
ParseComplete = b"1\0\0\0\x04"
CloseComplete = b"3\0\0\0\x04"
NoData = b"n\0\0\0\x04"
EmptyQueryResponse = b"I\0\0\0\x04"

PROTOCOL_3_0 = 3 << 16


# ── decode ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_error(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse: one-letter code → text, in the order they came.

    Never fails: a body cut short gives the fields that are whole, a repeated field keeps its first text.
    """
    fields: dict[str, str] = {}
    for field in body.split(b"\0")[:-1]:
        if not field:
            break
        fields.setdefault(chr(field[0]), field[1:].decode(errors="replace"))
    return fields


# ── encode: log-in ───────────────────────────────────────────────────────────────────────────────────────────────────


def encode_authentication_sasl(mechanisms: Iterable[str]) -> bytes:
    """AuthenticationSASL: the mechanisms on offer, the preferred one first."""
    return _frame(b"R", pack("!I", 10) + b"".join(_string(name) for name in mechanisms) + b"\0")


def encode_authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue: the server's challenge."""
    return _frame(b"R", pack("!I", 11) + data)


def encode_authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal: the server's proof."""
    return _frame(b"R", pack("!I", 12) + data)


def encode_negotiate_protocol_version(options: Iterable[str]) -> bytes:
    """NegotiateProtocolVersion: we speak 3.0, and none of these protocol options.

    The manual calls the number "newest minor protocol version"; Postgres sends, and libpq expects, the whole
    version with the major in the upper half.
    """
    unknown = list(options)
    return _frame(b"v", pack("!II", PROTOCOL_3_0, len(unknown)) + b"".join(_string(name) for name in unknown))


def encode_parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus: a setting's value, at start-up or after it changed."""
    return _frame(b"S", _string(name) + _string(value))


def encode_backend_key_data(process_id: int, secret: bytes) -> bytes:
    """BackendKeyData: what a CancelRequest has to show. In protocol 3.0 the secret has 4 bytes."""
    return _frame(b"K", pack("!I", process_id) + secret)


def encode_ready_for_query(status: bytes) -> bytes:
    """ReadyForQuery: `status` is IDLE, IN_TRANSACTION or FAILED."""
    return b"Z\0\0\0\x05" + status


# ── encode: answers ──────────────────────────────────────────────────────────────────────────────────────────────────


def encode_error_response(error: GatewayError, *, severity: str = "ERROR") -> bytes:
    """ErrorResponse. One of Postgres's own is passed on with all its fields; `severity` is for ours.

    "FATAL" tells the program that the connection ends with it; drivers look at that, not at the close.
    """
    if isinstance(error, PostgresError) and error.fields:
        return _frame(b"E", _fields(error.fields))
    fields = {"S": severity, "V": severity, "C": error.sqlstate, "M": error.message}
    if error.hint:
        fields["H"] = error.hint
    return _frame(b"E", _fields(fields))


def encode_notice_response(message: str, *, severity: str = "NOTICE", sqlstate: str = "00000") -> bytes:
    """NoticeResponse in the gateway's own words."""
    return _frame(b"N", _fields({"S": severity, "V": severity, "C": sqlstate, "M": message}))


def encode_row_description(fields: Sequence[Field]) -> bytes:
    """RowDescription of columns in text format."""
    columns = [
        _string(field.name)
        + pack("!IhIhih", field.table_id, field.column_id, field.type_id, field.type_size, field.type_modifier, 0)
        for field in fields
    ]
    return _frame(b"T", pack("!H", len(columns)) + b"".join(columns))


def encode_data_row(values: Sequence[bytes | None]) -> bytes:
    """DataRow; None is NULL."""
    columns = [b"\xff\xff\xff\xff" if value is None else pack("!I", len(value)) + value for value in values]
    return _frame(b"D", pack("!H", len(columns)) + b"".join(columns))


def encode_command_complete(tag: str) -> bytes:
    """CommandComplete with its command tag, such as "SELECT 3"."""
    return _frame(b"C", _string(tag))


def _frame(tag: bytes, body: bytes) -> bytes:
    return tag + pack("!I", len(body) + 4) + body


def _string(text: str) -> bytes:
    # A NUL ends a string on the wire; inside one it would tear the message apart.
    return text.replace("\0", "").encode(errors="replace") + b"\0"


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(code.encode("latin-1") + _string(text) for code, text in fields.items()) + b"\0"
