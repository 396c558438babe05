"""What a program sends, on its way to a backend: cut into messages, passed in whole runs, rewritten where it must be.

Read are the names of prepared statements and the texts of statements; all else passes unseen, of a long message not
even the whole is waited for. What names become is decided in `naming`; what a text does is decided by the `Texts`
that this is given.
"""

from collections.abc import Callable
from enum import Enum, auto
from struct import Struct
from typing import Protocol

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.backend import CloseComplete, ParseComplete
from sqlhttp_gateway.wire.effects import NO_EFFECTS, Effects, effects_of
from sqlhttp_gateway.wire.frontend import FLUSH
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Entry, Kind, Owed
from sqlhttp_gateway.wire.prepared import Undo
from sqlhttp_gateway.wire.runs import BEHIND_BIND, LONGEST

MAX_STATEMENTS = 10_000
"""Prepared statements one program may keep."""
_MAX_NAMES = 8192
"""Bytes within which the two names at the head of a Bind have to end."""

_SHORTEST = 12
"""Bytes of the shortest Bind with anything behind it."""

_INT32 = Struct("!I").pack
_INT32_AT = Struct("!I").unpack_from

_BIND, CLOSE, _COPY_DATA, _COPY_DONE, _COPY_FAIL, _DESCRIBE, _EXECUTE = b"BCdcfDE"
_FLUSH, _FUNCTION_CALL, _PARSE, _QUERY, _SYNC, _TERMINATE = b"HFPQSX"
_TAGS = frozenset(b"BCdcfDEHFPQSX")
_STREAMED = frozenset((_BIND, _COPY_DATA, _FUNCTION_CALL))
"""Messages that may be long, and whose end need not be seen."""
_OPENING = frozenset((_BIND, _DESCRIBE, _EXECUTE, _FUNCTION_CALL, _PARSE, _QUERY))
"""Messages that a batch may begin with, and that are always answered."""
_OF_NO_ACCOUNT = frozenset((_FLUSH, _COPY_DATA, _COPY_DONE, _COPY_FAIL))
"""Messages that a backend passes over when nothing is going on."""
_CLOSING = frozenset((_FUNCTION_CALL, _QUERY, _SYNC))
"""Messages that are answered up to a ReadyForQuery."""


class Texts(Protocol):
    """Who knows what texts do to the session."""

    def has_to_wait(self, effects: Effects) -> bool:
        """Whether a text with these effects cannot be sent yet."""

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        """A text with these effects is about to be sent: what goes first, and how to take back what was assumed."""

    def say_ready(self) -> None:
        """Answer a Sync that no backend has to see."""


class Wait(Enum):
    """The only answer beside an Edit."""

    WAIT = auto()


WAIT = Wait.WAIT
"""The message, and all after it, stay until `advance` is called again."""

Edit = tuple[bytes, int] | None
"""Bytes in place of those from a message's start up to this position; None passes the message as it is."""


class Requests:
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
        self._owed = waiting
        self._names = names
        self._texts = texts
        self._out = to_backend
        self._replies = to_frontend
        self._max_message = max_message
        self._is_plain = is_plain

        self._inbox: list[bytes] = []
        self._inbox_size = 0
        self._wanted = 0  # bytes that have to be there before another look makes sense
        self._passing = 0  # bytes still to come of a message whose head is gone
        self._drops_passing = False
        self._portals: dict[bytes, Effects] = {}  # those whose statements leave something behind

        self.is_held = True
        """Nothing may be sent now."""
        self._lesson = b""  # what has to be answered before the message that waits can be sent
        self._is_swept = False  # statements that nobody needs were closed since the backend came
        self._unproven = b""  # what was sent, and has to be sent again if the backend is not clean
        self.has_backend = False
        self.needs_backend = False
        """The next message has to go to a backend, and there is none."""
        self.is_open = False
        """Messages were sent that no ReadyForQuery has answered yet."""
        self.is_terminated = False
        """The program said goodbye; what comes after that is not looked at."""
        self._handlers: dict[int, Callable[[bytes, int, int], Edit | Wait]] = {
            _BIND: self._read_bind,
            CLOSE: self._read_close,
            _COPY_DATA: self._pass,
            _COPY_DONE: self._read_copy_end,
            _COPY_FAIL: self._read_copy_end,
            _DESCRIBE: self._read_describe,
            _EXECUTE: self._read_execute,
            _FLUSH: self._pass,
            _FUNCTION_CALL: self._read_function_call,
            _PARSE: self._read_parse,
            _QUERY: self._read_query,
            _SYNC: self._read_sync,
        }

    @property
    def is_amid_message(self) -> bool:
        """The head of a message is sent, and the rest is not."""
        return self._passing > 0

    def attach(self) -> None:
        """There is a backend now."""
        self.has_backend, self.needs_backend, self._is_swept = True, False, False

    def detach(self) -> None:
        """There is none any more."""
        self.has_backend = self.is_open = False
        self.settle()

    def receive(self, data: bytes) -> None:
        """Take what the program sent.

        Raises:
            BadRequest: it breaks the protocol.
        """
        if self.is_terminated or not data or (not self._inbox and self._pass_whole(data)):
            return
        self._inbox.append(data)
        self._inbox_size += len(data)
        if self._inbox_size >= self._wanted:
            self.advance()

    def advance(self) -> None:
        """Read on, as far as that is possible now."""
        if self.is_held or self.is_terminated or not self._inbox:
            return
        data = self._inbox[0] if len(self._inbox) == 1 else b"".join(self._inbox)
        position = self._read(data)
        self._keep(data[position:] if position else data)

    def send_first(self) -> bool:
        """Send what may follow something that makes the backend clean, or fails, and is to be put down as owed.

        Those are whole messages, up to the first that is answered by ReadyForQuery: what Postgres passes over after a
        failure ends there. Nothing else may be sent before it is known that the backend is `proven`. False if there
        is nothing, so that nobody has Postgres answer.
        """
        data = b"".join(self._inbox)
        end, is_closed = _first_batch(data)
        if data and end == len(data) and self._pass_whole(data):
            position = end
            self._owed.put_ahead()
        else:
            self._owed.add(owed.AHEAD)
            before = len(self._out)
            position = self._read(data[:end])
            if len(self._out) == before:
                return False
            if position < end or not is_closed:
                self._out.append(FLUSH)  # or Postgres would keep its answer until something does
        self._unproven = data[:position]
        self._keep(data[position:])
        return True

    def proven(self) -> None:
        """The backend was clean: what was sent counts."""
        self._unproven = b""

    def take_back(self) -> None:
        """It was not, and has passed over what was sent: that is to be read again."""
        self._keep(b"".join((self._unproven, *self._inbox)))
        self._unproven = b""

    def _keep(self, rest: bytes) -> None:
        self._inbox = [rest] if rest else []
        self._inbox_size = len(rest)

    def _pass_whole(self, data: bytes) -> bool:
        """Pass `data` on if it is one of `runs` and nothing is outstanding: what `_read` does, in one look."""
        waiting = self._owed
        if (
            data[0] != _BIND
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
        """There is no backend to be had: pass over what needs one, as if it had failed.

        True if that is a message with an answer of its own, False if it is a batch that goes on up to a Sync.
        """
        self.needs_backend = False
        data = b"".join(self._inbox)
        if data[:1] in (b"Q", b"F"):
            self._passing, self._drops_passing = 1 + _INT32_AT(data, 1)[0], True
            return True
        self._owed.is_skipping = True
        return False

    def _read(self, data: bytes) -> int:
        """Read messages from the start of `data`; answers how far that went."""
        end, position = len(data), min(self._passing, len(data))
        start = position if self._drops_passing else 0  # of the run that passes as it is
        self._passing -= position
        self._wanted = 0
        out = self._out
        before = len(out)
        try:
            while end > position:
                if end - position < 5:
                    self._wanted = 5
                    break
                tag, size = data[position], _INT32_AT(data, position + 1)[0] + 1
                following = position + size
                long = following > end or size > self._max_message
                if long and not self._can_begin(tag, data, position, size):
                    break
                if tag == _TERMINATE:
                    self.is_terminated = True
                    break
                if tag in _OPENING and not (self._is_swept and (self.is_open or self._owed)):
                    closing = self._sweep()
                    if closing:
                        out += (data[start:position], closing)
                        start = position
                edit = self._edit(tag, data, position, following)
                if edit is WAIT:
                    if self._lesson:
                        out += (data[start:position], self._lesson)
                        start, self._lesson = position, b""
                    break
                if edit is not None:
                    if start < position:
                        out.append(data[start:position])
                    if edit[0]:
                        out.append(edit[0])
                    start = edit[1]
                position = following
        finally:
            if position > end:  # the rest of a message is still to come
                self._passing, self._drops_passing = position - end, start >= position
                position = end
            if start < position:
                out.append(data if start == 0 and position == end else data[start:position])
            if len(out) > before:
                self.is_open = True
        return position

    def _sweep(self) -> bytes:
        """Closes statements that nobody needs, where no portal can depend on them: with the first message that a new
        backend gets, and whenever it is idle."""
        if not self.has_backend or self._owed.is_skipping:
            return b""
        self._is_swept = True
        return self._names.close_evicted()

    def _can_begin(self, tag: int, data: bytes, position: int, size: int) -> bool:
        """Whether a message that is long, or not all there, can be passed on as far as it is."""
        if size < 5 or tag not in _TAGS:
            return True  # to be refused
        if tag not in _STREAMED:
            if size > self._max_message:
                raise BadRequest(f"a message of {size} bytes is too large (max is {self._max_message} bytes)")
            self._wanted = size
            return False
        have = len(data) - position
        if tag != _BIND or data.count(b"\0", position + 5, position + _MAX_NAMES) >= 2 or have >= _MAX_NAMES:
            return True
        self._wanted = have + 1
        return False

    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        handler = self._handlers.get(tag)
        if handler is None:
            raise BadRequest(f"invalid frontend message type {tag}")
        if following < position + 5:
            raise BadRequest("invalid message length")
        if self._owed.is_skipping and tag != _SYNC:
            return b"", following
        if not self.has_backend:
            if tag in _OF_NO_ACCOUNT:
                return b"", following
            if tag == _SYNC:
                self._owed.is_skipping = False
                self._texts.say_ready()
                return b"", following
            if not self._needs_none(tag, data, position, following):
                self.needs_backend = True
                return WAIT
        return handler(data, position, following)

    def _needs_none(self, tag: int, data: bytes, position: int, following: int) -> bool:
        """Whether we can answer this ourselves: Close, and a Parse of what some backend has taken before.

        So a driver that prepares many statements at once waits for no backend. Should the statement have become
        wrong since, its Bind says so.
        """
        if tag == CLOSE:
            return data[position + 5 : position + 6] == b"S" and not self._is_plain
        if tag != _PARSE or self._is_plain:
            return False
        name_end = string_end(data, position + 5, following)
        return self._names.is_known_elsewhere(data[position + 5 : name_end], data[name_end + 1 : following])

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
        name_end = string_end(data, position + 5, following)
        if self._is_plain:
            self._owed.add(owed.PARSE)
            return None
        string_end(data, name_end + 1, following)
        name, tail = data[position + 5 : name_end], data[name_end + 1 : following]
        if name and self._names.program.is_in_doubt(name):
            return WAIT
        if len(self._names.program) >= MAX_STATEMENTS:
            raise BadRequest(f"more than {MAX_STATEMENTS} prepared statements on one connection")
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
        portal_end = string_end(data, position + 5, following)
        name_end = string_end(data, portal_end + 1, following)
        if self._is_plain:
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
        if data[position + 5 : position + 6] != b"S" or self._is_plain:
            self._owed.add(owed.DESCRIBE)
            return None
        name = data[position + 6 : string_end(data, position + 6, following)]
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
            portal = data[position + 5 : string_end(data, position + 5, following)]
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
        if data[position + 5 : position + 6] != b"S" or self._is_plain:
            self._owed.add(owed.CLOSE)
            return None
        name = data[position + 6 : string_end(data, position + 6, following)]
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


def _first_batch(data: bytes) -> tuple[int, bool]:
    """Where the first message ends that is answered by ReadyForQuery, else the last whole one; and which it is."""
    position, end = 0, len(data)
    while end - position >= 5:
        tag, following = data[position], position + 1 + _INT32_AT(data, position + 1)[0]
        if not position + 5 <= following <= end:
            break
        position = following
        if tag in _CLOSING:
            return position, True
    return position, False


def both(one: Undo | None, other: Undo | None) -> Undo | None:
    """An Undo that does what two would do."""
    if one is None or other is None:
        return one or other

    def undo(was_tried: bool) -> None:
        one(was_tried)
        other(was_tried)

    return undo


def string_end(data: bytes, start: int, end: int) -> int:
    """Where the string that begins at `start` has its NUL.

    Raises:
        BadRequest: nowhere before `end`.
    """
    at = data.find(b"\0", start, end)
    if at < 0:
        raise BadRequest("invalid string in message")
    return at
