"""What a program sends, on its way to a backend: each message as it is, or rewritten where it must be.

Read are the names of prepared statements and the texts of statements; all else passes unseen. Where a message begins
and ends is found in `cutting`, what names become is decided in `naming`, and what a text does is decided by the `Texts`
that this is given. A message without the names that belong into it passes, too: Postgres looks for them before it does
anything, refuses it with 08P01, and goes on at the next Sync.
"""

from collections.abc import Callable
from struct import Struct
from typing import Protocol

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.alone import stands_alone
from sqlhttp_gateway.wire.backend import CloseComplete, ParseComplete
from sqlhttp_gateway.wire.cutting import (
    BIND,
    CLOSE,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    FUNCTION_CALL,
    PARSE,
    QUERY,
    SYNC,
    WAIT,
    Cutter,
    Edit,
    Wait,
)
from sqlhttp_gateway.wire.effects import NO_EFFECTS, Effects, effects_of
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Entry, Kind, Owed
from sqlhttp_gateway.wire.prepared import Undo
from sqlhttp_gateway.wire.runs import BEHIND_BIND, LONGEST

MAX_STATEMENTS = 10_000
"""Prepared statements one program may keep."""
MAX_STATEMENT_BYTES = 64 * 1024 * 1024
"""Bytes of their texts together, which stay in the gateway's memory for as long as the program is there."""
_SHORTEST = 12
"""Bytes of the shortest Bind with anything behind it."""

_INT32 = Struct("!I").pack
_INT32_AT = Struct("!I").unpack_from

_OF_NO_ACCOUNT = frozenset((FLUSH, COPY_DATA, COPY_DONE, COPY_FAIL))
"""Messages that a backend passes over when nothing is going on."""


class Texts(Protocol):
    """Who knows what texts do to the session."""

    def has_to_wait(self, effects: Effects) -> bool:
        """Whether a text with these effects cannot be sent yet."""

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        """A text with these effects is about to be sent: what goes first, and how to take back what was assumed."""

    def say_ready(self) -> None:
        """Answer a Sync that no backend has to see."""

    def missed(self) -> None:
        """What is passed over for want of a backend is something that what follows may count on."""


class Requests(Cutter):
    """One program's messages. `to_backend` and `to_frontend` are where the bytes go."""

    def __init__(
        self,
        *,
        waiting: Owed,
        names: Naming,
        texts: Texts,
        to_backend: list[bytes],
        to_frontend: list[bytes],
        max_message: int,
        is_plain: bool,
    ) -> None:
        """`max_message` bounds, in bytes, a message that has to be read whole; `is_plain` rewrites nothing."""
        super().__init__(waiting=waiting, to_backend=to_backend, max_message=max_message, streams_texts=is_plain)
        self._names = names
        self._texts = texts
        self._replies = to_frontend
        self._is_plain = is_plain
        self._parsed_bytes = 0  # of all texts that were parsed since they were last counted
        self._portals: dict[bytes, Effects] = {}  # those whose statements leave something behind
        self.has_backend = False
        self._handlers: dict[int, Callable[[bytes, int, int], Edit | Wait]] = {
            BIND: self._read_bind,
            CLOSE: self._read_close,
            COPY_DATA: self._pass,
            COPY_DONE: self._read_copy_end,
            COPY_FAIL: self._read_copy_end,
            DESCRIBE: self._read_describe,
            EXECUTE: self._read_execute,
            FLUSH: self._pass,
            FUNCTION_CALL: self._read_function_call,
            PARSE: self._read_parse,
            QUERY: self._read_query,
            SYNC: self._read_sync,
        }

    def attach(self) -> None:
        """There is a backend now."""
        self.has_backend, self.needs_backend, self._is_swept = True, False, False

    def detach(self) -> None:
        """There is none any more."""
        self.has_backend = self.is_open = False
        self.settle()

    def _pass_whole(self, data: bytes) -> bool:
        """Pass `data` on if it is one of `runs` and nothing is outstanding: what `_read` does, in one look."""
        waiting = self._owed
        if (
            data[0] != BIND
            or self.is_held
            or not self.has_backend
            or self._passing
            or self._portals
            or self._is_plain
            or waiting
            or waiting.is_skipping
            or len(data) < _SHORTEST
        ):
            return False
        following = 1 + _INT32_AT(data, 1)[0]
        if data[5] or len(data) - following > LONGEST:
            return False  # a portal that has a name, or more behind it
        run = BEHIND_BIND.get(data[following:])
        name_end = data.find(b"\0", 6, following)
        backend_name = self._names.ready(data[6:name_end]) if run is not None and name_end > 6 else None
        if run is None or backend_name is None:
            return False
        size = following - 1 + len(backend_name) - (name_end - 6)
        self._out.append(b"B%b\0%b%b" % (_INT32(size), backend_name, data[name_end:]))
        waiting.add_all(run.entries, run.answers)
        self._names.program.batch_sent()
        self.is_open = True
        return True

    def settle(self) -> None:
        """No transaction is open, and nothing is outstanding."""
        self._portals.clear()

    def refuse(self) -> bool:
        """As for every Cutter; False as well for a query that what follows may count on, which is `missed`."""
        data = b"".join(self._inbox)
        if data[:1] == b"Q" and self._counts(QUERY, data, 0, 1 + _INT32_AT(data, 1)[0]):
            self.needs_backend = False
            self._texts.missed()
            return False
        return super().refuse()

    def _sweep(self) -> bytes:
        """Closes statements that nobody needs, where no portal can depend on them: with the first message that a new
        backend gets, and whenever it is idle."""
        if not self.has_backend or self._owed.is_skipping:
            return b""
        self._is_swept = True
        return self._names.close_evicted()

    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        handler = self._handlers.get(tag)
        if handler is None:
            raise BadRequest(f"invalid frontend message type {tag}")
        if following < position + 5:
            raise BadRequest("invalid message length")
        if self._owed.is_skipping and tag != SYNC:
            if not self.has_backend and self._counts(tag, data, position, following):
                self._texts.missed()
                return WAIT
            return b"", following
        if not self.has_backend:
            if tag in _OF_NO_ACCOUNT:
                return b"", following
            if tag == SYNC:
                self._owed.is_skipping = False
                self._texts.say_ready()
                return b"", following
            if not self._needs_none(tag, data, position, following):
                self.needs_backend = True
                return WAIT
        return handler(data, position, following)

    def _counts(self, tag: int, data: bytes, position: int, following: int) -> bool:
        """Whether what follows may count on what this runs, or will run."""
        start, end = position + 5, following
        if tag == QUERY:
            return not stands_alone(data[start : end - 1])
        if tag not in (PARSE, BIND):
            return False
        try:
            second = string_end(data, start, end) + 1
            string = data[second : string_end(data, second, end)]
        except BadRequest:
            return False  # it runs nothing
        if tag == PARSE:
            return not stands_alone(string)
        prepared = self._names.program.get(string)
        return prepared is not None and not stands_alone(prepared.source.tail.partition(b"\0")[0])

    def _needs_none(self, tag: int, data: bytes, position: int, following: int) -> bool:
        """Whether we can answer this ourselves: Close, and a Parse of what some backend has taken before.

        So a driver that prepares many statements at once waits for no backend. Should the statement have become
        wrong since, its Bind says so.
        """
        if tag == CLOSE:
            return not self._is_plain and _statement_named(data, position, following) is not None
        if tag != PARSE or self._is_plain:
            return False
        name_end = data.find(b"\0", position + 5, following)
        return name_end >= 0 and self._names.is_known_elsewhere(
            data[position + 5 : name_end], data[name_end + 1 : following]
        )

    def _has_to_learn(self, name: bytes) -> bool:
        """Whether the backend has to be taught the statement `name`, and to answer, before it is used."""
        frames = self._names.learn(name)
        self._lesson = frames or b""
        return frames is not None

    # ── one message each ──

    def _pass(self, data: bytes, position: int, following: int) -> Edit:
        return None

    def _read_sync(self, data: bytes, position: int, following: int) -> Edit:
        if not self._owed.in_copy:  # a backend that reads COPY data passes over it
            self._owed.is_skipping = False
            self._owed.add(owed.SYNC)
            self._names.program.batch_sent()
        return None

    def _read_function_call(self, data: bytes, position: int, following: int) -> Edit:
        self._owed.add(owed.QUERY)
        self._names.program.batch_sent()
        self._names.has_parsed = True  # what the function does, nobody has seen
        return None

    def _read_copy_end(self, data: bytes, position: int, following: int) -> Edit:
        if self._owed.in_copy:
            self._owed.in_copy = False
        elif self._owed:
            self._owed.add(owed.COPY_END)
        return None

    def _read_query(self, data: bytes, position: int, following: int) -> Edit | Wait:
        if self._is_plain:
            self._owed.add(owed.QUERY)
            return None
        effects = effects_of(data[position + 5 : following - 1])
        if effects is NO_EFFECTS:
            first, undo = b"", None
        elif self._texts.has_to_wait(effects):
            return WAIT
        else:
            first, undo = self._texts.run(effects)
        undo = both(undo, self._names.query())
        self._owed.add(Entry(Kind.QUERY, undo=undo) if undo is not None else owed.QUERY)
        self._names.program.batch_sent()
        return (first, position) if first else None

    def _read_parse(self, data: bytes, position: int, following: int) -> Edit | Wait:
        name_end = data.find(b"\0", position + 5, following)
        if self._is_plain or name_end < 0 or data.find(b"\0", name_end + 1, following) < 0:
            self._owed.add(owed.PARSE)
            return None
        name, tail = data[position + 5 : name_end], data[name_end + 1 : following]
        if name and self._names.program.is_in_doubt(name):
            return WAIT
        if len(self._names.program) >= MAX_STATEMENTS:
            raise BadRequest(f"more than {MAX_STATEMENTS} prepared statements on one connection")
        self._parsed_bytes += len(tail)
        if self._parsed_bytes > MAX_STATEMENT_BYTES:
            self._parsed_bytes = self._names.program.count_bytes() + len(tail)  # but for those that are gone
            if self._parsed_bytes > MAX_STATEMENT_BYTES:
                raise BadRequest(f"prepared statements of more than {MAX_STATEMENT_BYTES} bytes on one connection")
        if not self.has_backend:
            self._names.define_elsewhere(name, tail)
            self._replies.append(ParseComplete)
            return b"", following
        first, backend_name, behind = self._names.define(name, tail)
        if backend_name == name and not behind:
            return (first, position) if first else None
        head = b"P%b%b\0" % (_INT32(following - name_end + 4 + len(backend_name)), backend_name)
        if not behind:
            return first + head, name_end + 1
        return first + head + tail + behind, following

    def _read_bind(self, data: bytes, position: int, following: int) -> Edit | Wait:
        portal_end = data.find(b"\0", position + 5, following)
        name_end = data.find(b"\0", portal_end + 1, following) if portal_end >= 0 else -1
        if name_end < 0 and following > len(data) and not self._is_plain:
            raise BadRequest("a Bind with names that do not end")  # they may in what comes, and mean something
        if self._is_plain or name_end < 0:
            self._owed.add(owed.BIND)
            return None
        name = data[portal_end + 1 : name_end]
        if self._names.is_in_doubt(name) or self._has_to_learn(name):
            return WAIT
        prepared = self._names.program.get(name)
        effects = prepared.source.effects if prepared is not None else NO_EFFECTS
        if effects is not NO_EFFECTS or self._portals:
            self._portals[data[position + 5 : portal_end]] = effects
        first, backend_name = self._names.use(name)
        self._owed.add(owed.BIND)
        if backend_name == name:
            return (first, position) if first else None
        size = following - position - 1 + len(backend_name) - len(name)
        head = b"B%b%b%b\0" % (_INT32(size), data[position + 5 : portal_end + 1], backend_name)
        return first + head, name_end + 1

    def _read_describe(self, data: bytes, position: int, following: int) -> Edit | Wait:
        name = _statement_named(data, position, following)
        if name is None or self._is_plain:
            self._owed.add(owed.DESCRIBE)
            return None
        if self._names.is_in_doubt(name) or self._has_to_learn(name):
            return WAIT
        first, backend_name = self._names.use(name)
        self._owed.add(owed.DESCRIBE)
        if backend_name == name:
            return (first, position) if first else None
        return first + b"D%bS%b\0" % (_INT32(6 + len(backend_name)), backend_name), following

    def _read_execute(self, data: bytes, position: int, following: int) -> Edit | Wait:
        effects = NO_EFFECTS
        if self._portals:
            portal = data[position + 5 : following].partition(b"\0")[0]
            effects = self._portals.get(portal, NO_EFFECTS)
        if effects is NO_EFFECTS:
            self._owed.add(owed.EXECUTE)
            return None
        if self._texts.has_to_wait(effects):
            return WAIT
        first, undo = self._texts.run(effects)
        self._owed.add(Entry(Kind.EXECUTE, undo=undo) if undo is not None else owed.EXECUTE)
        return (first, position) if first else None

    def _read_close(self, data: bytes, position: int, following: int) -> Edit | Wait:
        name = _statement_named(data, position, following)
        if name is None or self._is_plain:
            self._owed.add(owed.CLOSE)
            return None
        if self._names.is_in_doubt(name):
            return WAIT
        sent, undo = self._names.close(name)
        if sent is not None:
            self._owed.add(Entry(Kind.CLOSE, undo=undo))
            return sent, following
        if self._owed:
            self._owed.add(Entry(Kind.LOCAL, undo=undo, reply=CloseComplete))
        else:
            self._replies.append(CloseComplete)
        return b"", following


def both(one: Undo | None, other: Undo | None) -> Undo | None:
    """An Undo that does what two would do."""
    if one is None or other is None:
        return one or other

    def undo(was_tried: bool) -> None:
        one(was_tried)
        other(was_tried)

    return undo


def _statement_named(data: bytes, position: int, following: int) -> bytes | None:
    """The statement that a Describe or a Close is about; None if it is about a portal, or malformed."""
    if data[position + 5 : min(position + 6, following)] != b"S":
        return None
    name_end = data.find(b"\0", position + 6, following)
    return data[position + 6 : name_end] if name_end == following - 1 else None


def string_end(data: bytes, start: int, end: int) -> int:
    """Where the string that begins at `start` has its NUL.

    Raises:
        BadRequest: nowhere before `end`.
    """
    at = data.find(b"\0", start, end)
    if at < 0:
        raise BadRequest("invalid string in message")
    return at
