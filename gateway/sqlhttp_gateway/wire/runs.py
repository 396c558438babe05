"""The commonest exchange, recognised whole: a Bind of a prepared statement with what drivers send behind it.

Taken apart message by message, a short query costs more in Python than in system calls. What a driver sends behind its
Bind is nearly always one of a few runs of constant bytes, and what Postgres answers to it has one of a few orders of
tags. Whatever is not exactly that, goes the long way through `requests` and `replies`, and means the same there.
"""

import re
from struct import Struct
from typing import NamedTuple

from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC

_SIZE_AT = Struct("!I").unpack_from
_HEADER_BYTES = 5
_COMMAND_COMPLETE = ord("C")
_TOLD = (b"C", b"D", b"R")
"""First letters of the command tags that somebody has to be told of: COMMIT, DEALLOCATE, DISCARD, ROLLBACK."""
_DESCRIBE_PORTAL = b"D\0\0\0\x06P\0"


class Run(NamedTuple):
    """What is owed for such messages, and in which orders of tags it is given if nothing goes wrong."""

    entries: tuple[owed.Entry, ...]
    answers: re.Pattern[bytes]


BEHIND_BIND = {
    _DESCRIBE_PORTAL + EXECUTE + SYNC: Run(
        (owed.BIND, owed.DESCRIBE, owed.EXECUTE, owed.SYNC), re.compile(rb"2[Tn]D*[CIs]Z")
    ),
    EXECUTE + SYNC: Run((owed.BIND, owed.EXECUTE, owed.SYNC), re.compile(rb"2D*[CIs]Z")),
}
"""By the bytes behind a Bind to the unnamed portal, up to the end of what has come."""
LONGEST = max(map(len, BEHIND_BIND))


def tags_of(data: bytes) -> bytearray | None:
    """The tags of the messages in `data`; None if the last one is not whole, or one has to be told of."""
    tags = bytearray()
    position, end = 0, len(data)
    while end - position >= _HEADER_BYTES:
        tag = data[position]
        size = _SIZE_AT(data, position + 1)[0]
        if size < 4 or (tag == _COMMAND_COMPLETE and data.startswith(_TOLD, position + 5)):
            return None
        tags.append(tag)
        position += 1 + size
    return tags if position == end else None
