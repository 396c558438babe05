"""Messages a program sends, encoded: what the gateway says to Postgres.

Formats are those of "Message Formats" in the Postgres manual. Parameters and results are always in text format, which
a zero count of format codes means. Decoding what a program sends to us is not here: see `messages`.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

_INT16: Final = Struct("!H").pack
_INT32: Final = Struct("!I").pack

SYNC: Final = b"S\0\0\0\x04"
FLUSH: Final = b"H\0\0\0\x04"
TERMINATE: Final = b"X\0\0\0\x04"
DESCRIBE_PORTAL: Final = b"D\0\0\0\x06P\0"
"""Describe of the unnamed portal: the answer is its RowDescription, or NoData."""
EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"
"""Execute of the unnamed portal, without a limit of rows."""

DESCRIBE_AND_EXECUTE: Final = DESCRIBE_PORTAL + EXECUTE

NULL: Final = b"\xff\xff\xff\xff"
_NO_FORMATS: Final = b"\0\0"


def encode_parse(name: bytes, text: bytes) -> bytes:
    """Parse `text` as the prepared statement `name`, all parameter types left to the server."""
    return b"P%b%b\0%b\0\0\0" % (_INT32(8 + len(name) + len(text)), name, text)


def encode_bind(name: bytes, params: Sequence[bytes | None]) -> bytes:
    """Bind the statement `name` to the unnamed portal."""
    return encode_bind_by(bind_head(name), params)


def bind_head(name: bytes) -> bytes:
    """What is the same in each Bind of the statement `name`: to be kept by whoever binds it often."""
    return b"\0%b\0%b" % (name, _NO_FORMATS)


def encode_bind_by(head: bytes, params: Sequence[bytes | None], behind: bytes = b"") -> bytes:
    """Bind the statement whose `bind_head` this is; the messages `behind` follow in the same bytes."""
    if len(params) == 1:
        [param] = params
        if param is not None:  # a lookup by key, in one piece
            size = len(param)
            return b"B%b%b\0\1%b%b\0\0%b" % (_INT32(len(head) + size + 12), head, _INT32(size), param, behind)
    elif not params:
        return b"B%b%b\0\0\0\0%b" % (_INT32(len(head) + 8), head, behind)
    parts = [head, _INT16(len(params))]
    for param in params:
        if param is None:
            parts.append(NULL)
        else:
            parts.append(_INT32(len(param)))
            parts.append(param)
    parts.append(_NO_FORMATS)
    body = b"".join(parts)
    return b"B%b%b%b" % (_INT32(4 + len(body)), body, behind)


def encode_close_statement(name: bytes) -> bytes:
    """Close the prepared statement `name`; closing one that does not exist is no error."""
    return b"C%bS%b\0" % (_INT32(6 + len(name)), name)


def encode_query(text: bytes) -> bytes:
    """A simple query, which may hold several statements."""
    return b"Q%b%b\0" % (_INT32(5 + len(text)), text)


def encode_copy_fail(reason: bytes) -> bytes:
    """End a COPY FROM STDIN that nobody will feed."""
    return b"f%b%b\0" % (_INT32(5 + len(reason)), reason)
