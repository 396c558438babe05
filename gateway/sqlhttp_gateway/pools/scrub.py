"""What makes a connection clean again, so that nothing of one request is there for the next.

The light scrub is a handful of prepared statements in one write, cheap enough to follow every request: it undoes the
role (RESET ALL leaves it standing), every setting, advisory locks, LISTEN, cursors, temporary tables and sequence
state, whoever made them, a function called from a SELECT included. The deep scrub is DISCARD ALL, for what the light
one cannot undo without losing our own prepared statements: PREPARE and DEALLOCATE in SQL.

A command tag tells of these beforehand. A PREPARE inside a function is told by nobody: the light scrub can look for it,
but that takes Postgres longer the more statements are prepared, so it looks only after a text that the connection has
not seen before, behind whoever is kept to claims or bounds, and now and then. The deep scrub makes every text unseen.
What looks has no name: under any name it could be another's, put there by DEALLOCATE and PREPARE for it to see nothing.

DISCARD ALL is a statement of its own since it may not run inside a transaction block.

Behind a single statement BEGIN and COMMIT stand in place of a Sync, behind a batch its COMMIT. An executed COMMIT ends
the transaction there and then, deferred constraints and all, and what follows begins another; BEGIN before it, which
makes a block of the transaction that the pipeline has open, keeps Postgres from warning that there is none. So a
request and its scrub share one Sync, and Postgres answers both in one send: each ReadyForQuery is a send of its own,
which costs Postgres 5 to 10 us of 20 to 30 and us a read. A statement that fails takes the scrub with it: Postgres
skips everything up to the Sync.
"""

from collections.abc import Sequence

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.exchange import COMMAND_COMPLETE, ERROR_RESPONSE, IDLE, PARAMETER_STATUS, Exchange
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

_DEMAND = (
    _UNLOCK + b", 1 OPERATOR(pg_catalog./) (NOT EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() AS s"
    b" WHERE s.from_sql))::pg_catalog.int4 AS a_statement_prepared_in_sql_is_left"
)
"""The look as a statement that fails when it finds something, so that nothing behind it is run."""

PREPARE = b"".join(encode_parse(name, text) for name, text in zip(_NAMES, LIGHT, strict=True))
"""To be sent in front of a run on a connection that has not got the statements yet."""
RUN_LIGHT = b"".join(encode_bind(name, ()) + EXECUTE for name in _NAMES) + SYNC
_RUN_UNLOCK = encode_bind(_NAMES[LIGHT.index(_UNLOCK)], ())
RUN_LOOKING = RUN_LIGHT.replace(_RUN_UNLOCK, encode_parse(b"", _LOOK) + encode_bind(b"", ()))
"""The same with a look for statements that were prepared in SQL."""
LOOK_EVERY = 64
"""Scrubs of a connection of which one looks, whatever was run."""
SIMPLE_LIGHT = encode_query(b"; ".join(LIGHT))
"""The same without prepared statements, for an upstream that is itself a transaction pooler."""
INSIDE = b"".join(encode_parse(b"", text) + encode_bind(b"", ()) + EXECUTE for text in LIGHT)
"""The same again, to stand before the Sync or COMMIT of an exchange: behind a transaction pooler only what is in the
caller's transaction is sure to reach the caller's backend."""
SIMPLE_UNLOCK = encode_query(_UNLOCK)
"""What follows that one in the same write: a statement that fails takes INSIDE with it, and its advisory locks stay."""
ROLLBACK = encode_query(b"ROLLBACK")
DEEP = encode_query(b"DISCARD ALL")

_REPLY = (
    b"2\0\0\0\x04C\0\0\0\x15CLOSE CURSOR ALL\0"
    b"2\0\0\0\x04C\0\0\0\x0aRESET\0"
    b"2\0\0\0\x04C\0\0\0\x0aRESET\0"
    b"2\0\0\0\x04C\0\0\0\x0dUNLISTEN\0"
    b"%bC\0\0\0\x0dSELECT 1\0"
    b"2\0\0\0\x04C\0\0\0\x11DISCARD TEMP\0"
    b"2\0\0\0\x04C\0\0\0\x16DISCARD SEQUENCES\0"
    b"Z\0\0\0\x05I"
)
CLEAN_REPLIES = (
    _REPLY % b"2\0\0\0\x04D\0\0\0\x0a\0\x01\0\0\0\0",
    _REPLY % b"1\0\0\0\x042\0\0\0\x04D\0\0\0\x0f\0\x02\0\0\0\0\0\0\0\x01f",
)
"""What RUN_LIGHT and RUN_LOOKING get when there was nothing to undo that Postgres reports; anything else is read whole.
"""


def _unnamed(text: bytes, tag: bytes) -> tuple[bytes, bytes]:
    """What executes a text as the unnamed statement, and what answers it.

    Unnamed, as a function that runs DEALLOCATE ALL must not fail of it: parsing it takes Postgres half a microsecond.
    """
    answer = b"1\0\0\0\x042\0\0\0\x04C\0\0\0%c%b\0" % (len(tag) + 5, tag)
    return encode_parse(b"", text) + encode_bind(b"", ()) + EXECUTE, answer


_BEGIN, _BEGUN = _unnamed(b"BEGIN", b"BEGIN")
COMMIT, _COMMITTED = _unnamed(b"COMMIT", b"COMMIT")
BEHIND_ONE = DESCRIBE_AND_EXECUTE + _BEGIN + COMMIT + RUN_LIGHT, _BEGUN + _COMMITTED + CLEAN_REPLIES[0]
BEHIND_ONE_LOOKING = DESCRIBE_AND_EXECUTE + _BEGIN + COMMIT + RUN_LOOKING, _BEGUN + _COMMITTED + CLEAN_REPLIES[1]
"""What follows the Bind of a single statement, the scrub included, and what then follows its CommandComplete."""
START, STARTED = _unnamed(b"START TRANSACTION", b"START TRANSACTION")
"""What begins a batch, and its answer."""
BEHIND_SEVERAL = COMMIT + RUN_LIGHT, _COMMITTED + CLEAN_REPLIES[0]
BEHIND_SEVERAL_LOOKING = COMMIT + RUN_LOOKING, _COMMITTED + CLEAN_REPLIES[1]
"""What follows the last statement of a batch, and then its CommandComplete."""

_AHEAD_REPLY = _REPLY.removesuffix(b"Z\0\0\0\x05I")
AHEAD = Ahead(
    scrub=RUN_LIGHT.removesuffix(SYNC),
    scrubbed=_AHEAD_REPLY % b"2\0\0\0\x04D\0\0\0\x0a\0\x01\0\0\0\0",
    commit=_BEGIN + COMMIT,
    committed=_BEGUN + _COMMITTED,
    statements=len(LIGHT) + 2,
    rows=1,
)
"""The light scrub in front of whatever the next program sends."""
AHEAD_LOOKING = AHEAD._replace(
    scrub=AHEAD.scrub.replace(_RUN_UNLOCK, encode_parse(b"", _DEMAND) + encode_bind(b"", ())),
    scrubbed=_AHEAD_REPLY % b"1\0\0\0\x042\0\0\0\x04D\0\0\0\x0f\0\x02\0\0\0\0\0\0\0\x011",
)
"""The same with the look."""

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

    @property
    def parameters(self) -> Sequence[bytes]:
        """The bodies of ParameterStatus messages that came with it."""
        return () if self._exchange is None else self._exchange.parameters

    def receive(self, data: bytes) -> bytes | None:
        """As every reader: None while more is needed, else the bytes after the end."""
        if self._exchange is None:
            if data in CLEAN_REPLIES:  # a comparison instead of a walk over fifteen messages
                return b""
            self._exchange = Exchange()
        return self._exchange.receive(data)


class ScrubbedExchange(Exchange):
    """Reads what statements with their COMMIT and their scrub are answered: results or an error, and what became of the
    scrub."""

    is_committed = False
    """The statement has succeeded for good; nothing that comes later is an error of its holder's."""
    is_scrub_lost = False
    """A statement of the scrub failed, or somebody's PREPARE is left."""
    _scrubbed = 0
    """Statements of the scrub that are done."""

    def __init__(self, *, max_bytes: int = 0, count_names: bool = False, results: int = 1) -> None:
        """`results` are those in front of BEHIND_ONE or BEHIND_SEVERAL, a START included."""
        super().__init__(max_bytes=max_bytes, count_names=count_names)
        self._awaited = results
        self._is_alone = results == 1

    @property
    def is_clean(self) -> bool:
        """The whole scrub has run, and the connection is as any."""
        return self._scrubbed == len(LIGHT) and not self.is_scrub_lost and self.status == IDLE

    def refuse(self, error: GatewayError) -> None:
        if not self.is_committed:
            super().refuse(error)

    def _take(self, tag: int, data: bytes, start: int, end: int) -> None:
        if len(self.results) < self._awaited or tag == PARAMETER_STATUS:
            super()._take(tag, data, start, end)
            if len(self.results) == self._awaited:
                self._max_bytes = 0  # what is ours has no limit
        elif tag == COMMAND_COMPLETE:
            if self.is_committed:
                self._scrubbed += 1
            elif data[start : end - 1] == b"COMMIT":
                self.is_committed = True
            # The only row with a value is the one that says whether something is prepared.
            if b"".join(self._rows).endswith(b"t"):
                self.is_scrub_lost = True
            self._rows.clear()
        elif tag == ERROR_RESPONSE:
            if self.is_committed:
                self.is_scrub_lost = True
            else:
                super()._take(tag, data, start, end)  # of a deferred constraint, say


def needs_deep_scrub(tag: bytes | None) -> bool:
    """Whether a command with this tag may have made or dropped prepared statements, or run code that did."""
    return tag is not None and tag.startswith(_DEEP_TAGS)


def changes_schema(tag: bytes | None) -> bool:
    """Whether a command with this tag may have changed what the names in a kept statement stand for."""
    return tag is not None and tag.startswith((b"ALTER ", b"DROP "))
