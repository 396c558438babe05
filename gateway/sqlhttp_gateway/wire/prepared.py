"""Prepared statements whose names hold across backends.

A program's name stands for a Source, the text and types it gave to Parse. A backend knows sources under names of ours
(`BackendStatements`), and whichever backend comes next is taught what it has not seen. Which message needs what is
the work of `pipeline`.

A table may change between two uses of a statement, and with it what the statement returns. Postgres refuses to go on
with one it has parsed before the change; a program's statement is held to the same, wherever it runs. So what each
looks like is remembered (`describe_shape`), of the program's as of the backend's, and a backend is taught anew where
it has only an older one.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from struct import pack
from weakref import WeakValueDictionary

from sqlhttp_gateway.wire.control import Control, control_of
from sqlhttp_gateway.wire.effects import Effects, effects_of
from sqlhttp_gateway.wire.meaning import is_of_its_moment

PREFIX = b"sqlhttp_"
"""How every name begins that the gateway gives to a statement; no program's own name reaches a backend so."""
_NAME = PREFIX + b"t%d"


class Source:
    """What a Parse says after the name: the text with its NUL, and the types. Equal ones are one object."""

    __slots__ = ("__weakref__", "chains", "effects", "is_of_its_moment", "is_proven", "tail")

    def __init__(self, tail: bytes) -> None:
        self.tail = tail
        self.is_proven = False
        """A backend has taken it, the last time it was asked to."""
        text = tail[: tail.index(b"\0")]
        self.effects: Effects = effects_of(text)
        self.is_of_its_moment = is_of_its_moment(text.decode("latin-1"))
        """What a backend has parsed before a program did is not what the program means."""
        self.chains = control_of(text) is Control.CHAIN
        """It ends a transaction and begins another. A backend never has it under a name: SQL's EXECUTE could run it
        behind the back of whoever fences a program's transactions."""

    def parse(self, name: bytes) -> bytes:
        """The Parse that makes this source the statement `name`."""
        return b"P%b%b\0%b" % (pack("!I", 5 + len(name) + len(self.tail)), name, self.tail)


class Sources:
    """The sources of all tunnels, so that a thousand programs with the same hundred texts keep each text once."""

    def __init__(self) -> None:
        self._sources: WeakValueDictionary[bytes, Source] = WeakValueDictionary()
        self._generations = count(1)

    def __len__(self) -> int:
        return len(self._sources)

    def find(self, tail: bytes) -> Source | None:
        """The source of this text and these types, if there is one."""
        return self._sources.get(tail)

    def get(self, tail: bytes) -> Source:
        """The one source of this text and these types. `tail` has the text's NUL."""
        source = self._sources.get(tail)
        if source is None:
            self._sources[tail] = source = Source(tail)
        return source

    def next_generation(self) -> int:
        """A number above all before it."""
        return next(self._generations)


@dataclass(slots=True, eq=False)
class Prepared:
    """A source as a program's statement, and since when. `shape` is None until a backend has described it."""

    source: Source
    generation: int
    shape: bytes | None = None


Undo = Callable[[bool], None]
"""Takes back what was assumed when a message was sent. Told whether the backend tried it, or passed it over."""


@dataclass(slots=True, eq=False)
class _Change:
    name: bytes
    prepared: Prepared | None  # None where the name is dropped
    batch: int


class ProgramStatements:
    """What a program's names stand for, as if everything that was sent had worked.

    What did not work is taken back, by the Undo that each change gives. Within a batch nothing can rest on a change
    that fails, since after a failure the rest is passed over. A later batch that is sent before the earlier one is
    answered can; `is_in_doubt` says when it has to wait.
    """

    def __init__(self) -> None:
        self._current: dict[bytes, Prepared] = {}
        self._settled: dict[bytes, Prepared] = {}
        self._changes: dict[bytes, list[_Change]] = {}  # by name, those whose batch is not answered
        self._order: deque[_Change] = deque()
        self._sent = 0
        self._answered = 0

    def __len__(self) -> int:
        return len(self._current)

    def __contains__(self, name: bytes) -> bool:
        return name in self._current

    def get(self, name: bytes) -> Prepared | None:
        """What `name` stands for; empty is the unnamed statement."""
        return self._current.get(name)

    def named(self) -> list[bytes]:
        """Every name that stands for something, or may come to, but that of the unnamed statement."""
        return [name for name in {**self._current, **self._changes} if name]

    def count_bytes(self) -> int:
        """Those of all texts that names stand for."""
        return sum(len(prepared.source.tail) for prepared in self._current.values())

    # ── batches ──

    @property
    def batch(self) -> int:
        """The number of the batch that is being sent."""
        return self._sent

    def is_pending(self, batch: int) -> bool:
        """Whether `batch` is an earlier one that has not been answered."""
        return self._answered <= batch < self._sent

    def is_in_doubt(self, name: bytes) -> bool:
        """Whether what `name` stands for hangs on the outcome of an earlier batch."""
        changes = self._changes.get(name)
        return changes is not None and any(self.is_pending(change.batch) for change in changes)

    def is_fresh(self, name: bytes) -> bool:
        """Whether nothing but one definition is in doubt: if it came to nothing, the backend says so itself."""
        return bool(name) and len(self._changes.get(name, ())) == 1 and name not in self._settled

    def batch_sent(self) -> None:
        """A message was sent that is answered by ReadyForQuery."""
        self._sent += 1

    def batch_answered(self) -> None:
        """One ReadyForQuery came, or will never come."""
        self._answered += 1
        while self._order and self._order[0].batch < self._answered:
            self._settle(self._order.popleft())

    def settle(self) -> None:
        """Nothing is outstanding any more."""
        self._answered = self._sent
        while self._order:
            self._settle(self._order.popleft())

    def _settle(self, change: _Change) -> None:
        changes = self._changes.get(change.name, [])
        if change not in changes:
            return  # it was taken back
        changes.remove(change)
        if not changes:
            del self._changes[change.name]
        if change.prepared is None:
            self._settled.pop(change.name, None)
        else:
            self._settled[change.name] = change.prepared

    # ── changes ──

    def put(self, name: bytes, prepared: Prepared) -> None:
        """`name` stands for `prepared`, without any doubt."""
        self._current[name] = self._settled[name] = prepared

    def define(self, name: bytes, prepared: Prepared) -> Undo:
        """A Parse is about to be sent. If it is tried and fails, the name stands for nothing at all."""
        change = self._change(name, prepared)

        def undo(was_tried: bool) -> None:
            if was_tried:
                change.prepared = None
                self._refresh(name)
            else:
                self._take_back(change)

        return undo

    def drop(self, names: Iterable[bytes]) -> tuple[list[bytes], Undo | None]:
        """These names are about to be dropped. Those that stand for something."""
        names = [name for name in names if name in self._current or name in self._changes]
        if not names:
            return [], None
        dropped = [name for name in names if name in self._current]
        changes = [self._change(name, None) for name in names]

        def undo(was_tried: bool) -> None:
            for change in changes:
                self._take_back(change)

        return dropped, undo

    def _change(self, name: bytes, prepared: Prepared | None) -> _Change:
        change = _Change(name, prepared, self._sent)
        self._changes.setdefault(name, []).append(change)
        self._order.append(change)
        self._refresh(name)
        return change

    def _take_back(self, change: _Change) -> None:
        changes = self._changes.get(change.name, [])
        if change in changes:
            changes.remove(change)
            self._refresh(change.name)

    def _refresh(self, name: bytes) -> None:
        changes = self._changes.get(name)
        prepared = changes[-1].prepared if changes else self._settled.get(name)
        if prepared is None:
            self._current.pop(name, None)
        else:
            self._current[name] = prepared


@dataclass(slots=True)
class Entry:
    """A source as a backend's statement."""

    name: bytes
    generation: int
    shape: bytes | None = None


def describe_shape(parameters: bytes, columns: bytes | None) -> bytes:
    """What must not change of a statement: a digest of its parameters' types and its columns.

    From the bodies of ParameterDescription and RowDescription, the latter None where there are no rows. Of a column
    count name, type and modifier; that it is another table's now does not matter, nor does it to Postgres.
    """
    digest = blake2b(parameters, digest_size=16)
    if columns is not None:
        position = 2
        while position < len(columns):
            name_end = columns.index(b"\0", position)
            digest.update(columns[position : name_end + 1])
            digest.update(columns[name_end + 7 : name_end + 11])
            digest.update(columns[name_end + 13 : name_end + 17])
            position = name_end + 19
    return digest.digest()


class BackendStatements:
    """The statements that tunnels have made on one backend: at most `size`, the least recently used goes first.

    A key is a source together with whatever else decides what its text means, such as settings. One that is pushed
    out is closed later, at `take_closing`: a portal of the running transaction may still depend on it.
    """

    __slots__ = ("_closing", "_entries", "_number", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: dict[Hashable, Entry] = {}
        self._closing: list[bytes] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable) -> Entry | None:
        """The statement that `key` is known as."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry  # now the most recently used
        return entry

    def add(self, key: Hashable, *, generation: int) -> Entry:
        """A new statement, to parse `key` under its name right now."""
        self.discard(key)
        self._number += 1
        self._entries[key] = entry = Entry(_NAME % self._number, generation)
        while len(self._entries) > self.size:
            self.discard(next(iter(self._entries)))
        return entry

    def key_of(self, name: bytes) -> Hashable | None:
        """Which key is known as `name`."""
        return next((key for key, entry in self._entries.items() if entry.name == name), None)

    def discard(self, key: Hashable) -> None:
        """Forget `key` if it is known, and close its statement in time."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._closing.append(entry.name)

    def discard_name(self, name: bytes) -> None:
        """The statement `name` was not made, or is of no use any more."""
        key = self.key_of(name)
        if key is not None:
            self.discard(key)

    def close_later(self, name: bytes) -> None:
        """The server may have, or keep, a statement `name` that nobody is going to use."""
        self._closing.append(name)

    def keep(self, names: Iterable[bytes]) -> None:
        """These are used after all."""
        kept = frozenset(names)
        self._closing = [name for name in self._closing if name not in kept]

    @property
    def has_closing(self) -> bool:
        """Whether `take_closing` has anything to say."""
        return bool(self._closing)

    def take_closing(self) -> list[bytes]:
        """Names to close, now that no portal can depend on them."""
        closing, self._closing = self._closing, []
        return closing

    def discard_all(self) -> None:
        """Forget everything, but close it in time: the server may still have it."""
        for key in list(self._entries):
            self.discard(key)

    def forget(self) -> None:
        """The server has dropped all of them."""
        self._entries.clear()
        self._closing.clear()
