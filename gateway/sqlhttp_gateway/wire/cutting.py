"""What a program sends, cut into messages: passed in whole runs, and as they come where they are long.

What is in a message, and what goes in its place, is the work of `requests`: nothing is changed here.
"""

from abc import ABC, abstractmethod
from enum import Enum, auto
from struct import Struct

from sqlhttp_gateway.errors import MessageTooLarge
from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.frontend import FLUSH as FLUSH_FRAME
from sqlhttp_gateway.wire.owed import Owed

_MAX_NAMES = 8192
"""Bytes within which the names at the head of a message have to end."""

_INT32_AT = Struct("!I").unpack_from

BIND, CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL, DESCRIBE, EXECUTE = b"BCdcfDE"
FLUSH, FUNCTION_CALL, PARSE, QUERY, SYNC, _TERMINATE = b"HFPQSX"
_TAGS = frozenset(b"BCdcfDEHFPQSX")
_STREAMED = frozenset((BIND, COPY_DATA, FUNCTION_CALL))
"""Messages that may be long, and whose end need not be seen."""
_TEXTS = frozenset((QUERY, PARSE))
"""Messages of which that holds, too, where nobody reads the texts."""
_NAMES = {BIND: 2, PARSE: 1}
"""How many names stand at the head of a message, and have to be there."""
_OPENING = frozenset((BIND, DESCRIBE, EXECUTE, FUNCTION_CALL, PARSE, QUERY))
"""Messages that a batch may begin with, and that are always answered."""
_CLOSING = frozenset((FUNCTION_CALL, QUERY, SYNC))
"""Messages that are answered up to a ReadyForQuery."""


class Wait(Enum):
    """The only answer beside an Edit."""

    WAIT = auto()


WAIT = Wait.WAIT
"""The message, and all after it, stay until `advance` is called again."""

Edit = tuple[bytes, int] | None
"""Bytes in place of those from a message's start up to this position; None passes the message as it is."""


class Cutter(ABC):
    """One program's bytes. `to_backend` is where they go."""

    def __init__(
        self, *, waiting: Owed, to_backend: list[bytes], max_message: int, streams_texts: bool = False
    ) -> None:
        """`max_message` bounds, in bytes, a message that has to be read whole; with `streams_texts` statements longer
        than that are passed as they come.
        """
        self._owed = waiting
        self._out = to_backend
        self._max_message = max_message
        self._streams_texts = streams_texts

        self._inbox: list[bytes] = []
        self._inbox_size = 0
        self._wanted = 0  # bytes that have to be there before another look makes sense
        self._passing = 0  # bytes still to come of a message whose head is gone
        self._drops_passing = False
        self._lesson = b""  # what has to be answered before the message that waits can be sent
        self._is_swept = False  # `_sweep` was done since the backend came
        self._unproven = b""  # what was sent, and has to be sent again if the backend is not clean

        self.is_held = True
        """Nothing may be sent now."""
        self.needs_backend = False
        """The next message has to go to a backend, and there is none."""
        self.is_open = False
        """Messages were sent that no ReadyForQuery has answered yet."""
        self.is_terminated = False
        """The program said goodbye; what comes after that is not looked at."""

    @property
    def is_amid_message(self) -> bool:
        """The head of a message is sent, and the rest is not."""
        return self._passing > 0

    def pass_whole(self, data: bytes) -> bool:
        """Take what the program sent, if it can be passed on whole, at sight; else nothing has happened."""
        return not self.is_terminated and not self._inbox and self._pass_whole(data)

    def receive(self, data: bytes) -> None:
        """Take what the program sent.

        Raises:
            BadRequest: it breaks the protocol, or (MessageTooLarge) the bound.
        """
        if not data or self.is_terminated or self.pass_whole(data):
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
                self._out.append(FLUSH_FRAME)  # or Postgres would keep its answer until something does
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

    def _keep(self, rest: bytes) -> None:
        self._inbox = [rest] if rest else []
        self._inbox_size = len(rest)

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
            if len(out) > before and (self._owed or self._passing):  # and not what Postgres passes over, like Flush
                self.is_open = True
        return position

    def _can_begin(self, tag: int, data: bytes, position: int, size: int) -> bool:
        """Whether a message that is long, or not all there, can be passed on as far as it is."""
        if size < 5 or tag not in _TAGS:
            return True  # to be refused
        if tag not in _STREAMED:
            if size <= self._max_message:
                self._wanted = size
                return False
            if tag not in _TEXTS or not self._streams_texts:
                raise MessageTooLarge(
                    f"a message of {size} bytes is too large (max is {self._max_message} bytes)",
                    hint="Pass long values as parameters or by COPY, or ask for pool_mode session.",
                )
        have = len(data) - position
        names = _NAMES.get(tag, 0)
        if data.count(b"\0", position + 5, position + _MAX_NAMES) >= names or have >= _MAX_NAMES:
            return True
        self._wanted = have + 1
        return False

    @abstractmethod
    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        """What becomes of the message from `position` up to `following`, which may not be all there."""

    @abstractmethod
    def _pass_whole(self, data: bytes) -> bool:
        """Pass all of `data` on, if it is known at sight and nothing is outstanding: what `_read` does, in one look."""

    @abstractmethod
    def _sweep(self) -> bytes:
        """What goes in front of the first message that a backend gets, and of those that find it idle."""


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
