"""Messages that a client sends, as bytes. Named as in "Message Formats" of the Postgres manual."""

from collections.abc import Iterable, Mapping

from sqlhttp._errors import InterfaceError
from sqlhttp._request import Statement

PROTOCOL = 196608
"""3.0, which every server and every proxy takes."""
MAX_PARAMETERS = 65_535
"""Bind counts them in 16 bits."""

SYNC = b"S\0\0\0\x04"
TERMINATE = b"X\0\0\0\x04"

# Describe and Execute of the unnamed portal, all rows.
_DESCRIBE_EXECUTE = b"D\0\0\0\x06P\0" + b"E\0\0\0\x09\0\0\0\0\0"
_NULL = b"\xff\xff\xff\xff"


def encode_startup(parameters: Mapping[str, str]) -> bytes:
    """StartupMessage. `user` is among the parameters.

    Raises:
        InterfaceError: a value has a NUL character.
    """
    strings = b"".join(_string(text) for pair in parameters.items() for text in pair)
    body = PROTOCOL.to_bytes(4, "big") + strings + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def encode_password(password: bytes) -> bytes:
    """PasswordMessage, in clear text.

    Raises:
        InterfaceError: it has a NUL.
    """
    if b"\0" in password:
        raise InterfaceError("a password cannot have a NUL character")
    return _frame(b"p", password + b"\0")


def encode_statements(statements: Iterable[Statement]) -> bytes:
    """Each statement by the extended protocol, parameters and results as text; one Sync at the end.

    Raises:
        InterfaceError: a text has a NUL, is no UTF-8, or there are too many parameters.
    """
    try:
        return b"".join([_extended(statement) for statement in statements]) + SYNC
    except UnicodeEncodeError:
        raise InterfaceError("the query or a parameter has half of a surrogate pair, which is no text") from None


def encode_copy_fail(reason: str) -> bytes:
    """CopyFail, and a Sync of its own: while rows are awaited the server takes no notice of one."""
    return _frame(b"f", _string(reason)) + SYNC


def _extended(statement: Statement) -> bytes:
    count = len(statement.params)
    if count > MAX_PARAMETERS:
        raise InterfaceError(f"a statement takes at most {MAX_PARAMETERS} parameters, not {count}")
    parse = _frame(b"P", b"\0" + _string(statement.text) + b"\0\0")  # unnamed; types are left to the server
    bind = [b"\0\0\0\0", count.to_bytes(2, "big")]  # unnamed both; all parameters as text
    for value in statement.params:
        if value is None:
            bind.append(_NULL)
        else:
            data = value.encode()
            bind += (len(data).to_bytes(4, "big"), data)
    bind.append(b"\0\0")  # all results as text
    return parse + _frame(b"B", b"".join(bind)) + _DESCRIBE_EXECUTE


def _string(text: str) -> bytes:
    data = text.encode()
    if b"\0" in data:
        raise InterfaceError("a text in Postgres cannot have a NUL character")
    return data + b"\0"


def _frame(tag: bytes, body: bytes) -> bytes:
    return tag + (len(body) + 4).to_bytes(4, "big") + body
