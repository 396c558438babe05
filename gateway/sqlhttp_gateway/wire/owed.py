"""What a backend still owes: one entry for every message sent to it that is answered, in order.

Each answer belongs to the first entry. An entry may be ours alone (its answers are swallowed), or be answered by us
(`LOCAL`, in its turn). After an error Postgres passes over everything up to the next Sync, and so does `fail`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from re import Pattern

from sqlhttp_gateway.wire.prepared import Source, Undo


class Kind(IntEnum):
    """How the answer to a message ends."""

    AHEAD = auto()  # what makes the backend clean, in front of all else
    PARSE = auto()
    BIND = auto()
    CLOSE = auto()
    DESCRIBE = auto()
    EXECUTE = auto()
    SYNC = auto()
    QUERY = auto()  # also FunctionCall: both are answered up to a ReadyForQuery of their own
    LOCAL = auto()  # not sent: answered by us
    COPY_END = auto()  # CopyDone or CopyFail: not answered, but ends what a Sync before it cannot


@dataclass(slots=True)
class Batch:
    """A question of ours, up to its own Sync: `done` gets the values of its one row, or None when it failed."""

    done: Callable[[Sequence[bytes | None] | None], None]
    values: list[bytes | None] = field(default_factory=list)
    error: bytes | None = None
    """The ErrorResponse, where that was the answer."""

    def finish(self) -> None:
        """The answer is complete."""
        self.done(self.values if self.error is None else None)


@dataclass(slots=True)
class Look:
    """What a statement looks like: `done` gets the bodies of ParameterDescription and, if any, RowDescription."""

    done: Callable[[bytes, bytes | None], None]
    parameters: bytes = b""


@dataclass(slots=True)  # made for many a message, and frozen ones take three times as long to make
class Entry:
    """One message on its way. `undo` takes back what was assumed when it was sent, if it had no effect; it is told
    whether the backend has tried (and failed) or passed it over."""

    kind: Kind
    is_ours: bool = False
    undo: Undo | None = None
    batch: Batch | None = None
    look: Look | None = None
    """Who gets the answer to a Describe of ours."""
    source: Source | None = None
    """What a Parse of the program's is about."""
    reply: bytes = b""
    instead: bytes = b""
    """What the program is told in place of the ErrorResponse that this one is sure to get."""


PARSE, BIND, CLOSE, DESCRIBE, EXECUTE, SYNC, QUERY, COPY_END = (
    Entry(kind)
    for kind in (
        Kind.PARSE,
        Kind.BIND,
        Kind.CLOSE,
        Kind.DESCRIBE,
        Kind.EXECUTE,
        Kind.SYNC,
        Kind.QUERY,
        Kind.COPY_END,
    )
)
OUR_PARSE, OUR_CLOSE = Entry(Kind.PARSE, is_ours=True), Entry(Kind.CLOSE, is_ours=True)
AHEAD = Entry(Kind.AHEAD, is_ours=True)


class Owed:
    """The queue of entries, and the two states of the protocol that decide what becomes of it."""

    __slots__ = ("_queue", "_taken_by_copy", "answers", "doubtful", "in_copy", "is_skipping")

    def __init__(self) -> None:
        self._queue: deque[Entry] = deque()
        self.answers: Pattern[bytes] | None = None
        """The orders of tags in which all that is owed may be given, where `add_all` has said so."""
        self.is_skipping = False
        """After an error: what is sent before the next Sync, the backend passes over."""
        self.in_copy = False
        """The backend reads COPY data and passes over Sync."""
        self.doubtful = 0
        """ReadyForQuery that may still come: of Syncs that a COPY was to pass over, and which it may have left as it
        failed."""
        self._taken_by_copy = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Entry | None:
        """Whose answer comes next."""
        return self._queue[0] if self._queue else None

    def clear(self) -> None:
        """Forget everything: all is answered, or another backend comes."""
        self._queue.clear()
        self.answers = None
        self.is_skipping = self.in_copy = False
        self.doubtful = self._taken_by_copy = 0

    def add(self, entry: Entry) -> None:
        """One more message is on its way."""
        self._queue.append(entry)
        self.answers = None

    def add_all(self, entries: tuple[Entry, ...], answers: Pattern[bytes]) -> None:
        """Several messages are on their way, and nothing else is; `answers` are tags as these are answered."""
        self._queue.extend(entries)
        self.answers = answers

    def put_ahead(self) -> None:
        """What makes the backend clean goes in front of all this, which keeps its `answers`."""
        self._queue.appendleft(AHEAD)

    def pop_ahead(self) -> bytes:
        """It has. As `pop`, but what `answers` says of the rest holds."""
        self._queue.popleft()
        return self._take_local()

    @property
    def ends_in_sync(self) -> bool:
        """Whether what was sent last is a Sync."""
        return bool(self._queue) and self._queue[-1].kind is Kind.SYNC

    def take_back(self) -> None:
        """The backend was not clean, and has done nothing of all this."""
        for entry in reversed(self._queue):
            if entry.undo is not None:
                entry.undo(False)
        self.clear()

    def pop(self) -> bytes:
        """The first is answered. What we have to say ourselves before the next answer comes back."""
        queue = self._queue
        queue.popleft()
        self.answers = None
        if queue and queue[0].kind >= Kind.LOCAL:
            return self._take_local()
        return b""

    def _take_local(self) -> bytes:
        replies = []
        while self._queue and self._queue[0].kind >= Kind.LOCAL:
            replies.append(self._queue.popleft().reply)
        return b"".join(replies)

    def fail(self) -> int:
        """The first was answered with an error that ends its batch: nothing counts up to the next Sync.

        Answers how many ReadyForQuery will not come because of that.
        """
        dropped = []
        self.answers = None
        while self._queue and self._queue[0].kind is not Kind.SYNC:
            dropped.append(self._queue.popleft())
        self.in_copy = False
        self.is_skipping = not self._queue
        for entry in reversed(dropped):
            if entry.undo is not None:
                entry.undo(entry is dropped[0])
        return sum(entry.kind is Kind.QUERY for entry in dropped)

    def enter_copy(self) -> int:
        """The backend asks for COPY data: a Sync sent ahead of the data's end is not going to be answered.

        libpq sends Sync right behind every Execute, COPY or not; Postgres skips it, and wants another after the data.
        Answers how many there are.
        """
        following = list(self._queue)[1:]
        ends = [at for at, entry in enumerate(following) if entry.kind is Kind.COPY_END]
        cut = ends[0] if ends else len(following)
        first = self._queue[0]
        self.answers = None
        self._queue.clear()
        self._queue.append(first)
        self._queue.extend(entry for entry in following[:cut] if entry.kind is not Kind.SYNC)
        self._queue.extend(following[cut + 1 :])
        self.in_copy = not ends
        taken = sum(entry.kind is Kind.SYNC for entry in following[:cut])
        self._taken_by_copy += taken
        return taken

    def leave_copy(self) -> None:
        """What runs has failed, and with it a COPY if there was one: how much of its data it has read, nobody tells."""
        self.doubtful += self._taken_by_copy
        self._taken_by_copy = 0
