"""What makes a connection clean again, so that nothing of one request is there for the next.

The light scrub is a handful of prepared statements in one write, cheap enough to follow every request: it undoes the
role (RESET ALL leaves it standing), every setting, advisory locks, LISTEN, cursors, temporary tables and sequence
state, whoever made them, a function called from a SELECT included. The deep scrub is DISCARD ALL, for what the light
one cannot undo without losing our own prepared statements: PREPARE and DEALLOCATE in SQL.

A command tag tells of these beforehand. A PREPARE inside a function is told by nobody: the light scrub can look for it,
but that takes Postgres longer the more statements are prepared, so it looks only after a text that the connection has
not seen before, and now and then. The deep scrub makes every text unseen.

DISCARD ALL is a statement of its own since it may not run inside a transaction block.
"""

from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from sqlhttp_gateway.wire.foreseen import READY_IDLE
from sqlhttp_gateway.wire.frontend import (
    DESCRIBE_AND_EXECUTE,
    EXECUTE,
    SYNC,
    encode_bind,
    encode_parse,
    encode_query,
)

_UNLOCK = b"SELECT pg_catalog.pg_advisory_unlock_all()"
_LOOK = _UNLOCK + b", EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() AS s WHERE s.from_sql)"
LIGHT = (
    # The order is that of DISCARD ALL: closing a cursor may run code of whoever opened it, in that one's role.
    b"CLOSE ALL",
    b"RESET SESSION AUTHORIZATION",
    b"RESET ALL",
    b"UNLISTEN *",
    _UNLOCK,
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
_NAMES = tuple(b"sqlhttp_scrub_%d" % number for number in range(len(LIGHT)))
_LOOK_NAME = b"sqlhttp_scrub_look"

PREPARE = b"".join(encode_parse(name, text) for name, text in zip((*_NAMES, _LOOK_NAME), (*LIGHT, _LOOK), strict=True))
"""To be sent in front of a run on a connection that has not got the statements yet."""
RUN_LIGHT = b"".join(encode_bind(name, ()) + EXECUTE for name in _NAMES) + SYNC
RUN_LOOKING = RUN_LIGHT.replace(encode_bind(_NAMES[LIGHT.index(_UNLOCK)], ()), encode_bind(_LOOK_NAME, ()))
"""The same with a look for statements that were prepared in SQL."""
LOOK_EVERY = 64
"""Scrubs of a connection of which one looks, whatever was run."""
SIMPLE_LIGHT = encode_query(b"; ".join(LIGHT))
"""The same without prepared statements, for an upstream that is itself a transaction pooler."""
INSIDE = b"".join(encode_parse(b"", text) + encode_bind(b"", ()) + EXECUTE for text in LIGHT)
"""The same again, to stand before the Sync or COMMIT of an exchange: behind a transaction pooler only what is in the
caller's transaction is sure to reach the caller's backend."""
ROLLBACK = encode_query(b"ROLLBACK")
DEEP = encode_query(b"DISCARD ALL")

_REPLY = (
    b"2\0\0\0\x04C\0\0\0\x15CLOSE CURSOR ALL\0"
    b"2\0\0\0\x04C\0\0\0\x0aRESET\0"
    b"2\0\0\0\x04C\0\0\0\x0aRESET\0"
    b"2\0\0\0\x04C\0\0\0\x0dUNLISTEN\0"
    b"2\0\0\0\x04%bC\0\0\0\x0dSELECT 1\0"
    b"2\0\0\0\x04C\0\0\0\x11DISCARD TEMP\0"
    b"2\0\0\0\x04C\0\0\0\x16DISCARD SEQUENCES\0"
    b"Z\0\0\0\x05I"
)
CLEAN_REPLIES = (
    _REPLY % b"D\0\0\0\x0a\0\x01\0\0\0\0",
    _REPLY % b"D\0\0\0\x0f\0\x02\0\0\0\0\0\0\0\x01f",
)
"""What RUN_LIGHT and RUN_LOOKING get when there was nothing to undo that Postgres reports; anything else is read whole.
"""
BEHIND_ONE = DESCRIBE_AND_EXECUTE + SYNC + RUN_LIGHT, READY_IDLE + CLEAN_REPLIES[0]
BEHIND_ONE_LOOKING = DESCRIBE_AND_EXECUTE + SYNC + RUN_LOOKING, READY_IDLE + CLEAN_REPLIES[1]
"""What follows the Bind of a single statement, the scrub included, and what then follows its CommandComplete."""

_DEEP_TAGS = (b"PREPARE", b"DEALLOCATE", b"DISCARD", b"DO", b"CALL", b"LOAD")


class Scrub:
    """Reads the answer to a scrub. `is_clean` tells, after its end, whether the connection may be used again."""

    __slots__ = ("_exchange",)

    def __init__(self) -> None:
        self._exchange: Exchange | None = None

    @property
    def is_clean(self) -> bool:
        """No statement failed, no transaction is open, and nobody's PREPARE is left."""
        exchange = self._exchange
        if exchange is None:
            return True
        # The only row with a value is the one that says whether something is prepared.
        return (
            exchange.error is None
            and exchange.status == IDLE
            and not any(result.rows.endswith(b"t") for result in exchange.results)
        )

    def receive(self, data: bytes) -> bytes | None:
        """As every reader: None while more is needed, else the bytes after the end."""
        if self._exchange is None:
            if data in CLEAN_REPLIES:  # a comparison instead of a walk over fifteen messages
                return b""
            self._exchange = Exchange()
        return self._exchange.receive(data)


def needs_deep_scrub(tag: bytes | None) -> bool:
    """Whether a command with this tag may have made or dropped prepared statements, or run code that did."""
    return tag is not None and tag.startswith(_DEEP_TAGS)
