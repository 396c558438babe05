"""Where Postgres's log stands, asked in the same write as a request, so that knowing it costs no round trip.

In front of a read that brings a bookmark, a standby says how far it has replayed. The answer comes from the very server
that then runs the read, and was true before it: what has been replayed stays so. Behind every request the server says
where its log stands now, beyond all that the request can have written or seen.

In front of a read whose answer is kept, the primary says where its log stands: who brings a bookmark from before that
may be given the answer later.
"""

import contextlib

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.model import Bookmark, Result
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.statements import Statements
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.lsn import end_of_last_record, lsn_from_text, timeline_from_file
from sqlhttp_gateway.wire.rows import rows_of
from sqlhttp_gateway.wire.surrounded import SurroundedExchange

REPLAYED = "SELECT pg_catalog.pg_is_in_recovery()::int::text, pg_catalog.pg_last_wal_replay_lsn()::text"
WRITTEN = (
    "SELECT position::text, file_name, file_offset::text"
    # Not where it is flushed: with synchronous_commit off a commit is acknowledged before that.
    " FROM pg_catalog.pg_current_wal_insert_lsn() AS position, pg_catalog.pg_walfile_name_offset(position)"
)


QUIET = (
    "SELECT (CASE WHEN pg_catalog.pg_snapshot_xmin(s) < pg_catalog.pg_snapshot_xmax(s) THEN false"
    # One that runs alone is beyond xmax and not in the snapshot; its lock it has until its commit is visible.
    " ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'transactionid') END)::int::text"
    " FROM pg_catalog.pg_current_snapshot() AS s"
)
"""Whether no transaction that writes is under way."""


class Positions:
    """The questions around one request, and their answers."""

    __slots__ = ("_after", "_behind", "_marks", "_new", "_system", "_timeline", "bookmark", "is_reached", "since")

    def __init__(
        self, *, system: int, standby: int | None = None, after: int | None = None, marks: bool = False
    ) -> None:
        """`system` is the target's; `standby` the timeline that the server follows, if it is one; `after` the position
        that it must have replayed then. `marks`: `since` is wanted of a primary."""
        self._system = system
        self._timeline = standby
        self._behind = WRITTEN if standby is None else REPLAYED
        self._after = after
        self._marks = marks and standby is None
        self._new: dict[str, bytes] = {}
        self.bookmark: Bookmark | None = None
        """The position behind the request, once it was told."""
        self.is_reached = after is None
        """Whether the standby had replayed as much before it ran the request."""
        self.since: Bookmark | None = None
        """Whoever has a bookmark up to this one got it before the request was run, and so has seen nothing newer."""

    @property
    def asks_before(self) -> bool:
        """Whether there is a question in front."""
        return self._after is not None or self._marks

    @property
    def asks_behind(self) -> bool:
        """Whether the question behind has not been answered yet."""
        return self.bookmark is None

    def surround(
        self,
        exchange: SurroundedExchange,
        head: list[bytes],
        parts: list[bytes],
        statements: Statements,
        *,
        in_transaction: bool,
    ) -> None:
        """End the frames of a request, add the questions to them, and note what has to be parsed for that.

        `head` begins what is sent; `parts`, often the same, ends it. A transaction of ours has the question behind its
        COMMIT, so that no second ReadyForQuery is owed should the COMMIT never be sent.
        """
        self._new.clear()
        self.is_reached = self._after is None
        if exchange.before is not None:
            # QUIET is second: a commit before the position that nobody sees yet is under way then.
            questions = (WRITTEN, QUIET) if self._marks else (REPLAYED,)
            head.insert(0, b"".join(self._question(text, statements) for text in questions) + SYNC)
        if self.asks_behind and in_transaction:
            parts.append(self._question(self._behind, statements))
        parts.append(SYNC)
        if exchange.behind is not None:
            parts.append(self._question(self._behind, statements) + SYNC)

    def settle(self, exchange: SurroundedExchange, statements: Statements, *, statements_sent: int) -> None:
        """Take the answers out of the exchange, once it is over; the request took `statements_sent` of its results."""
        if exchange.before is not None:
            answered = exchange.before.results
            if self._marks:
                self._take_mark(answered, statements)
            else:
                self._take_before(answered[0] if answered else None, statements)
        if exchange.behind is not None:
            answered = exchange.behind.results
            self._take_behind(answered[0] if answered else None, statements)
        elif len(exchange.results) > statements_sent:
            self._take_behind(exchange.results.pop(), statements)
        elif statements_sent > 1 and len(exchange.results) == statements_sent and self.asks_behind:
            self._take_behind(None, statements)
            exchange.error = None  # the request was over, COMMIT included: the error is the question's

    def _question(self, text: str, statements: Statements) -> bytes:
        """Frames that ask `text`, without a Sync."""
        name = statements.find(text) or self._new.get(text)
        if name:
            return encode_bind(name, ()) + EXECUTE
        name = self._new[text] = statements.new_name(text)
        return encode_parse(name, text.encode()) + encode_bind(name, ()) + EXECUTE

    async def ask(self, lease: Lease) -> None:
        """Ask the question behind by itself, where it could not travel with the request."""
        with contextlib.suppress(GatewayError):
            for row in await ask(lease, self._behind):
                self._note([value.decode() for value in row if value is not None])

    def _take_before(self, result: Result | None, statements: Statements) -> None:
        row = self._row(REPLAYED, result, statements)
        self.is_reached = len(row) == 2 and row[0] == "1" and lsn_from_text(row[1]) >= (self._after or 0)

    def _take_mark(self, answered: list[Result], statements: Statements) -> None:
        written, quiet = (*answered, None, None)[:2]
        row = self._row(WRITTEN, written, statements)
        is_quiet = self._row(QUIET, quiet, statements) == ["1"]
        if len(row) == 3:
            mark = self._written(row)
            # Bookmarks only grow: one that is smaller was given before. The very same may also be given later, for a
            # commit that was in the log already and visible to nobody, if any was under way.
            self.since = mark if is_quiet else mark._replace(position=mark.position - 1)

    def _take_behind(self, result: Result | None, statements: Statements) -> None:
        self._note(self._row(self._behind, result, statements))

    def _row(self, text: str, result: Result | None, statements: Statements) -> list[str]:
        """The values of the one row, without NULLs; and what is known of the statement now."""
        name = self._new.pop(text, None)
        if result is None:
            if name is None:
                statements.drop(text)  # it may have gone missing: parse it the next time
            return []
        if name is not None:
            statements.add(text, name)
        return [value.decode() for row in rows_of(result.rows) for value in row if value is not None]

    def _note(self, row: list[str]) -> None:
        if self._timeline is None and len(row) == 3:
            self.bookmark = self._written(row)
        elif self._timeline is not None and len(row) == 2 and row[0] == "1":
            self.bookmark = Bookmark(self._system, self._timeline, lsn_from_text(row[1]))

    def _written(self, row: list[str]) -> Bookmark:
        position, file, offset = row
        end = end_of_last_record(lsn_from_text(position), int(offset))
        return Bookmark(self._system, timeline_from_file(file), end)
