"""Names of prepared statements between one program and whichever backend it has: which to use, what to send first.

The program's names are its own (`ProgramStatements`), the backend's are shared (`BackendStatements`). Everything that
is sent besides the program's own messages is put down in `owed`, so that nobody is told of the answers. What is known
of the backend is what is true once all that was sent has worked. Where it may not have, because the batch that it was
sent in is not answered, the backend is taught again, or the program has to wait (`is_in_doubt`).
"""

import re

from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.effects import ALL, NO_EFFECTS, Effects, Pin
from sqlhttp_gateway.wire.frontend import FLUSH, encode_close_statement, encode_parse
from sqlhttp_gateway.wire.owed import Kind, Look, Owed
from sqlhttp_gateway.wire.prepared import (
    PREFIX,
    Entry,
    Prepared,
    ProgramStatements,
    Source,
    Sources,
    Undo,
    describe_shape,
)
from sqlhttp_gateway.wire.session import BackendSession, Session

_OUTSIDE = PREFIX + b"_"
_STALE = PREFIX + b"_stale"
"""No statement: what a program's statement is called that is not what it was."""
_STALE_FIELDS = (
    b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0Fplancache.c\0RRevalidateCachedQuery\0\0"
)
"""What Postgres says when it finds that out itself. Drivers know it by its code and routine, and prepare anew."""
_IS_GONE = b"\0CXX000\0Mcache lookup failed for "
"""What Postgres, in no other language, says of a statement whose type was dropped since, say, and perhaps made anew."""
_OUR_NAME = re.compile(rb"\b%bt[0-9]+\b" % PREFIX)  # in quotes of whatever language the server speaks
_UNKNOWN = Source(b"\0")
"""Stands for an unnamed statement of which nothing is known."""


class Naming:
    """The statements of one program on the backend that it has."""

    def __init__(self, sources: Sources, session: Session, waiting: Owed) -> None:
        self.program = ProgramStatements()
        self._sources = sources
        self._session = session
        self._owed = waiting
        self._backend: BackendSession | None = None
        self._unnamed: Source | None = _UNKNOWN  # what the backend has as its unnamed statement,
        self._unnamed_since = 0  # and since which batch
        self._taught: dict[bytes, int] = {}  # names on the backend, and in which batch it was taught them
        self._lent: set[bytes] = set()  # the program's own names that the backend may know
        self._called: dict[bytes, bytes] = {}  # a name on the backend → by which of its own the program used it last
        self._is_learning = False  # a statement is being taught whose shape has to be seen before it is used
        self.has_parsed = False
        """The backend was given a text to run since it came, be it one that it had from others before."""
        self._dropping_all = 0  # how many times DEALLOCATE ALL was sent and not answered

    def attach(self, backend: BackendSession) -> None:
        """This is the backend now. Nothing is known of its unnamed statement."""
        self._backend = backend
        self._unnamed = _UNKNOWN
        self._lent.clear()
        self._is_learning = self.has_parsed = False

    def detach(self) -> None:
        """There is no backend, and nothing is outstanding."""
        self.settle()
        self._backend = None

    def settle(self) -> None:
        """Everything that was sent is answered."""
        self.program.settle()
        self._taught.clear()
        self._called.clear()
        self._dropping_all = 0

    def batch_failed(self, count: int) -> None:
        """A batch was ended by an error, and with it `count` simple queries that were never run."""
        self._unnamed = _UNKNOWN
        for _ in range(count):
            self.program.batch_answered()

    # ── Parse ──

    def is_known_elsewhere(self, name: bytes, tail: bytes) -> bool:
        """Whether this Parse can be believed without asking a backend: its text is one that some backend has taken."""
        if not name or name in self.program:
            return False
        source = self._sources.find(tail)
        if source is None or not source.is_proven:
            return False
        return not source.effects.executes and not source.is_of_its_moment

    def define_elsewhere(self, name: bytes, tail: bytes) -> None:
        """Take a Parse that `is_known_elsewhere`. A backend is taught when the statement is used."""
        self.program.put(name, Prepared(self._sources.get(tail), self._sources.next_generation()))

    def define(self, name: bytes, tail: bytes) -> tuple[bytes, bytes, bytes]:
        """A Parse is about to be sent: what goes first, the name that it has to be sent under, and what goes behind."""
        source = self._sources.get(tail)
        # What EXECUTE in SQL returns is known only where the statement that it names is.
        first = b"".join(self._lend_statement(executed) for executed in source.effects.executes)
        if not name:
            self._set_unnamed(source)
            self._add_parse(name, Prepared(source, 0), name)
            return first, name, b""
        if name in self.program:
            # Put something there under this very name, so that it is the backend that says so.
            own_name = _outside(name)
            first += self._lend(own_name, encode_parse(own_name, b""))
            self._owed.add(owed.PARSE)
            return first, own_name, b""
        if Pin.PREPARE in self._session.pins and not name.startswith(PREFIX):
            # SQL's PREPARE may have taken the name; if so, it is the backend that says so.
            first += self._take_back(name) + encode_parse(name, b"") + encode_close_statement(name)
            self._owed.add(owed.OUR_PARSE)
            self._owed.add(owed.OUR_CLOSE)
        prepared = Prepared(source, self._sources.next_generation())
        entry = self._new_entry(prepared.source, prepared.generation)
        self._add_parse(name, prepared, entry.name if entry else b"")
        if entry is None:
            return first, b"", b""
        return first, entry.name, self._look_at(entry, prepared)

    def _add_parse(self, name: bytes, prepared: Prepared, backend_name: bytes) -> None:
        backend = self._here()
        undo_name = self.program.define(name, prepared)
        self._called[backend_name] = name

        def undo(was_tried: bool) -> None:
            undo_name(was_tried)
            backend.statements.discard_name(backend_name)
            prepared.source.is_proven = False

        self._owed.add(owed.Entry(Kind.PARSE, undo=undo, source=prepared.source))

    # ── Bind, Describe, Close ──

    def is_in_doubt(self, name: bytes) -> bool:
        """Whether an earlier batch has to be answered before a message that uses `name` can be sent."""
        if not self.program.is_in_doubt(name):
            return False
        # A fresh one may be used under the very name of its own Parse: had that failed, the backend says so.
        prepared = self.program.get(name)
        return prepared is None or not self.program.is_fresh(name) or not self._has_own(prepared)

    def learn(self, name: bytes) -> bytes | None:
        """What has to be sent, and answered, before the statement `name` can be used at all; None if nothing has to.

        A backend that does not know the statement is taught it, and what it looks like there has to be what the
        program knows. Nothing more is to be sent while this answers with empty bytes.
        """
        if self._is_learning:
            return b""
        prepared = self.program.get(name)
        if prepared is None or prepared.shape is None or not name or not self._here().statements.size:
            return None
        if self._find(prepared) is not None:
            return None
        self._is_learning = True
        frames, entry = self._teach_named(prepared)
        return frames + self._look_at(entry, prepared) + FLUSH

    def ready(self, name: bytes) -> bytes | None:
        """How the backend calls the statement `name`, if a message may use it as it is: nothing has to be asked, sent
        first, or looked at in its text. To be asked only where nothing is outstanding."""
        program = self.program
        prepared = program.get(name)
        if prepared is None or prepared.source.effects is not NO_EFFECTS or program.is_in_doubt(name):
            return None
        statements = self._here().statements
        if self._is_learning or not statements.size or statements.has_closing:
            return None
        entry = statements.find(self._key(prepared.source))
        if entry is None or entry.shape != prepared.shape:
            return None
        if entry.generation != prepared.generation and (entry.shape is None or prepared.source.is_of_its_moment):
            return None
        self._called[entry.name] = name
        return entry.name

    def use(self, name: bytes) -> tuple[bytes, bytes]:
        """A message names the statement `name`: what goes first, and how the backend calls it."""
        prepared = self.program.get(name)
        if prepared is not None:
            first, backend_name = self._teach(prepared, is_unnamed=not name)
            self._called[backend_name] = name
            return first, backend_name
        if name:
            own_name = _outside(name)
            return self._take_back(own_name), own_name
        if self._unnamed is None and not self.program.is_pending(self._unnamed_since):
            return b"", name
        self._set_unnamed(None)  # the backend may have one of somebody else's
        self._owed.add(owed.OUR_CLOSE)
        return encode_close_statement(b""), name

    def close(self, name: bytes) -> tuple[bytes | None, Undo | None]:
        """A Close of `name`: what is sent, None if nothing, since the backend keeps it for others or for later."""
        known, undo = self.program.drop((name,))
        if known or not name or self._backend is None:
            return None, undo
        return encode_close_statement(_outside(name)), undo  # SQL's PREPARE may have made it

    def close_evicted(self) -> bytes:
        """Closes what was pushed out. To be sent where no portal can depend on it."""
        if self._backend is None:
            return b""
        names = self._backend.statements.take_closing()
        for _ in names:
            self._owed.add(owed.OUR_CLOSE)
        return b"".join(map(encode_close_statement, names))

    def _has_own(self, prepared: Prepared) -> bool:
        """Whether the backend knows this one from the program's own Parse."""
        entry = self._here().statements.find(self._key(prepared.source))
        return entry is not None and entry.generation == prepared.generation

    def _find(self, prepared: Prepared) -> Entry | None:
        """The backend's statement that can be used for the program's, or tells that it has become another."""
        entry = self._here().statements.find(self._key(prepared.source))
        if entry is None or entry.generation == prepared.generation:
            return entry
        if self.program.is_pending(self._taught.get(entry.name, -1)):
            return None
        if entry.generation < prepared.generation and (
            entry.shape is None or entry.shape != prepared.shape or prepared.source.is_of_its_moment
        ):
            return None
        return entry

    def _teach(self, prepared: Prepared, *, is_unnamed: bool) -> tuple[bytes, bytes]:
        """The Parse that the backend lacks, if any, and the name that the statement then has there."""
        source = prepared.source
        if is_unnamed or source.chains or not self._here().statements.size:
            if self._unnamed is source and not self.program.is_pending(self._unnamed_since):
                return b"", b""
            self._set_unnamed(source)
            self._owed.add(owed.OUR_PARSE)
            return source.parse(b""), b""
        entry = self._find(prepared)
        if entry is not None:
            is_stale = entry.shape != prepared.shape and entry.shape is not None and prepared.shape is not None
            return b"", _STALE if is_stale else entry.name
        frames, entry = self._teach_named(prepared)
        return frames + self._look_at(entry, prepared), entry.name

    def _teach_named(self, prepared: Prepared) -> tuple[bytes, Entry]:
        source, statements = prepared.source, self._here().statements
        entry = self._new_entry(source, self._sources.next_generation())
        assert entry is not None

        def undo(was_tried: bool) -> None:
            statements.discard_name(entry.name)
            self._is_learning = False

        self._owed.add(owed.Entry(Kind.PARSE, is_ours=True, undo=undo))
        return source.parse(entry.name), entry

    def _look_at(self, entry: Entry, prepared: Prepared) -> bytes:
        """Describe of a statement that was just made."""

        def done(parameters: bytes, columns: bytes | None) -> None:
            entry.shape = describe_shape(parameters, columns)
            if prepared.shape is None:
                prepared.shape = entry.shape
            self._is_learning = False

        def undo(was_tried: bool) -> None:
            self._is_learning = False

        self._owed.add(owed.Entry(Kind.DESCRIBE, is_ours=True, look=Look(done), undo=undo))
        return _frame(b"D", b"S%b\0" % entry.name)

    def _new_entry(self, source: Source, generation: int) -> Entry | None:
        """A statement of the backend to parse `source` as, now; None for the unnamed one, where it keeps none."""
        statements = self._here().statements
        if not statements.size or source.chains:
            self._set_unnamed(source)
            return None
        self.has_parsed = True
        entry = statements.add(self._key(source), generation=generation)
        self._taught[entry.name] = self.program.batch
        return entry

    def _key(self, source: Source) -> tuple[Source, object]:
        return source, self._session.fingerprint(self._here().defaults)

    def _set_unnamed(self, source: Source | None) -> None:
        self.has_parsed |= source is not None
        self._unnamed, self._unnamed_since = source, self.program.batch

    def teach_ours(self, source: Source) -> tuple[bytes, bytes, Undo | None]:
        """A statement of the gateway's own: its Parse if one is needed, its name, and what to do if that fails."""
        statements = self._here().statements
        if not statements.size:
            self.unnamed_is_ours()
            return source.parse(b""), b"", None
        entry = statements.find((source, None))
        if entry is not None:
            return b"", entry.name, None
        made = statements.add((source, None), generation=self._sources.next_generation()).name
        return source.parse(made), made, lambda was_tried: statements.discard_name(made)

    def ours(self, source: Source) -> bytes | None:
        """How the backend calls a statement of the gateway's own that it has been taught; None if it has not."""
        entry = self._here().statements.find((source, None))
        return entry.name if entry is not None else None

    def unnamed_is_ours(self) -> None:
        """A statement of the gateway's own takes the place of the unnamed one."""
        self._unnamed = _UNKNOWN

    def _here(self) -> BackendSession:
        assert self._backend is not None
        return self._backend

    # ── simple queries, and what SQL does to names ──

    def query(self) -> Undo | None:
        """A simple query drops the unnamed statement."""
        self.has_parsed = True
        self._set_unnamed(None)
        _, undo = self.program.drop((b"",))
        if undo is None:
            return None
        return lambda was_tried: None if was_tried else undo(was_tried)

    def needs_certainty(self, effects: Effects) -> bool:
        """Whether a text that names statements has to wait for an earlier batch."""
        return any(map(self.program.is_in_doubt, effects.deallocates + effects.executes + effects.prepares))

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        """A text with these effects is about to be sent: what goes first, and how to take back what it drops."""
        named = effects.deallocates + effects.executes + effects.prepares
        if not named:
            return b"", None
        first = b"".join(map(self._take_back, named))
        executed = {name: self._lend_statement(name) for name in dict.fromkeys(effects.executes)}
        first += b"".join(executed.values())
        undo: Undo | None = None
        if not effects.deallocates:
            # Put something there under this very name, so that it is the backend that refuses another.
            taken = (name for name in effects.prepares if name in self.program and name not in effects.executes)
            first += b"".join(self._lend(name, encode_parse(name, b"")) for name in taken)
        elif ALL in effects.deallocates:
            self._dropping_all += 1
            self._here().statements.discard_all()
            _, undo = self.program.drop(self.program.named())
        else:
            dropped, undo = self.program.drop(name for name in effects.deallocates if name)
            # The backend has them under other names, or not at all, and must be given something to drop.
            first += b"".join(self._lend(name, encode_parse(name, b"")) for name in dropped if not executed.get(name))
        return first, self._keep([name for name in effects.prepares if name not in self.program], undo)

    def _keep(self, names: list[bytes], undo: Undo | None) -> Undo | None:
        """What SQL prepares under these names stays there, also where one was lent before; what to do if it fails."""
        if not names:
            return undo
        statements = self._here().statements
        self._lent.difference_update(names)
        statements.keep(names)
        if undo is None:
            return None

        def undo_all(was_tried: bool) -> None:
            undo(was_tried)
            self._lent.update(names)
            for name in names:
                statements.close_later(name)

        return undo_all

    def forget_all(self) -> None:
        """The backend has lost all statements."""
        if self._backend is not None:
            self._backend.statements.discard_all()

    def dropped_all(self) -> None:
        """The server says that DEALLOCATE ALL, or DISCARD ALL, was run."""
        if self._dropping_all:
            self._dropping_all -= 1
        elif self._backend is not None:  # it came in a way that no text has told
            self._backend.statements.discard_all()
            self.program.drop(self.program.named())

    def _lend_statement(self, name: bytes) -> bytes:
        """SQL's EXECUTE of what was made by Parse: the backend has to know it under the program's own name."""
        prepared = self.program.get(name)
        if prepared is None or not name or prepared.source.chains:
            return b""
        self._session.pin(Pin.PREPARE)
        return self._lend(name, prepared.source.parse(name))

    def _lend(self, name: bytes, parse: bytes) -> bytes:
        """Makes the backend know `name` itself, for a moment."""
        if name.startswith(PREFIX) and not name.startswith(_OUTSIDE):
            return b""  # it may be another program's under this name, which must not be touched
        self._lent.add(name)
        self._here().statements.close_later(name)
        self._owed.add(owed.OUR_CLOSE)
        self._owed.add(owed.OUR_PARSE)
        return encode_close_statement(name) + parse

    def _take_back(self, name: bytes) -> bytes:
        """Makes the backend forget `name` where it was lent and the program does not have it."""
        if name not in self._lent or name in self.program:
            return b""
        self._owed.add(owed.OUR_CLOSE)
        return encode_close_statement(name)

    # ── errors ──

    def with_own_names(self, error: bytes) -> bytes:
        """An ErrorResponse with the program's names for its statements. It also tells what the backend has lost."""
        backend = self._backend
        if backend is None:
            return error
        if b"RRevalidateCachedQuery\0" in error or _IS_GONE in error:
            backend.statements.discard_all()  # a table or a type has changed: let every statement be made anew
        body = error[5:]
        if _STALE in body and b"\0C26000\0" in error:
            return _frame(b"E", _STALE_FIELDS)
        match = _OUR_NAME.search(body)
        if match is not None:
            if b"\0C26000\0" in error:
                backend.statements.discard_all()  # the server has dropped what we thought it had
            name = self._called.get(match[0])  # which may stand for nothing any more, by what was sent behind that
            if name is not None:
                body = body.replace(match[0], name)
        body = body.replace(_OUTSIDE, b"")
        return _frame(b"E", body)


def _frame(tag: bytes, body: bytes) -> bytes:
    return b"%b%b%b" % (tag, (len(body) + 4).to_bytes(4), body)


def _outside(name: bytes) -> bytes:
    """A program's own name for a statement that we did not make, which must not be one of those that we did."""
    return PREFIX + b"_" + name if name.startswith(PREFIX) else name
