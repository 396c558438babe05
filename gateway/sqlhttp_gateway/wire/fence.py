"""A fence around what a program runs: no statement but behind the gateway's own, at the start of its transaction.

A program whose credentials have bounds may not run anything outside a transaction that the gateway began for it, read
only for instance, or with claims in it. So what it sends outside of one is put between a BEGIN and a COMMIT of ours;
behind a BEGIN of its own, ours goes in front of the first statement that is not about the transaction itself.

Which statement begins or ends a transaction is read from its first words (`control`), never from what stands later in
a text: a simple query is cut and sent as prepared statements, each of which Postgres takes for exactly one. Batches are
sent one at a time, and the status that Postgres tells after each has to be the one that was expected.

What is assumed when a message is sent is taken back by an Undo when it comes to nothing, as everywhere here.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto

from sqlhttp_gateway.errors import GatewayError, StatementRefused
from sqlhttp_gateway.model import Prologue
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.control import Control, control_of
from sqlhttp_gateway.wire.frontend import EXECUTE, encode_bind, encode_parse, encode_query
from sqlhttp_gateway.wire.lexer import split_statements, tokens_of
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Batch, Entry, Kind, Owed
from sqlhttp_gateway.wire.prepared import Undo

MakePrologue = Callable[[], Prologue | None]
"""What the next transaction on the backend begins with; None: this program's need not be fenced.

Raises:
    GatewayError: there is no saying.
"""
Check = Callable[[bytes], None]
"""Lets a statement's text pass.

Raises:
    GatewayError: this program may not run it.
"""

_COPY = re.compile(rb"(?:[\s;]|--|/\*|copy\b)", re.IGNORECASE)
_IDLE, _FAILED = ord("I"), ord("E")
_WRONG = b"refused by the gateway"
"""No SQL: what is sent in place of a message that is refused, so that Postgres fails where the program has to."""
_COPY_REFUSED = StatementRefused(
    "COPY FROM STDIN is not possible with credentials that have bounds", hint="Use INSERT with several rows."
)
_CALL_REFUSED = StatementRefused("a function cannot be called without SQL with credentials that have bounds")
_PORTAL_REFUSED = StatementRefused("a statement that ends a transaction can be bound to the unnamed portal only")
_PORTAL_UNKNOWN = StatementRefused(
    "the portal was not bound in this transaction, or before an error in it", hint="Bind it again."
)


class _State(Enum):
    OUTSIDE = auto()
    OURS = auto()  # between a BEGIN and a COMMIT of ours
    BEGUN = auto()  # the program has begun one, and ours has not been sent yet
    WITHIN = auto()  # the program's, and ours is in it


class Verdict(Enum):
    """What the end of a batch means."""

    FINE = auto()
    ROLL_BACK = auto()
    """The transaction of ours has failed: it has to be ended before the program goes on."""
    REFUSED = auto()
    """Postgres has refused what was to go first (`refusal`); nothing was run."""
    BROKEN = auto()
    """A transaction is open that nobody has begun; nothing more may be run."""


class Fence:
    """The transactions of one program. Its holder asks before each message what goes first."""

    def __init__(self, *, check: Check | None, waiting: Owed, names: Naming) -> None:
        self._check = check
        self._owed = waiting
        self._names = names
        self._make: MakePrologue = lambda: None
        self._state = _State.OUTSIDE
        self._has_failed = False  # the transaction was told to have failed
        self._portals: dict[bytes, Control] = {}
        self._preface: Batch | None = None  # what was sent first in the transaction that is being opened
        self.is_waiting = False
        """A batch was sent whose end has to be seen before the next begins."""

    # ── for the holder ──

    def attach(self, make: MakePrologue) -> None:
        """There is a backend, and this is what transactions on it begin with."""
        self._make = make
        self._reset()

    def detach(self) -> None:
        """There is none."""
        self._make = lambda: None
        self._reset()

    @property
    def refusal(self) -> bytes | None:
        """The ErrorResponse with which Postgres refused what was to go first."""
        return self._preface.error if self._preface is not None else None

    def settle(self, status: int) -> Verdict:
        """A batch of the program's was answered up to its ReadyForQuery, which tells this status."""
        self.is_waiting, self._has_failed = False, status == _FAILED
        if self.refusal is not None:
            return Verdict.REFUSED
        if status == _IDLE:  # however it came about: what comes next begins with ours again
            self._portals.clear()
            self._state = _State.OUTSIDE
            return Verdict.FINE
        if self._state is _State.OURS:
            self.is_waiting = True
            return Verdict.ROLL_BACK
        return Verdict.BROKEN if self._state is _State.OUTSIDE else Verdict.FINE

    def rolled_back(self) -> None:
        """The transaction of ours is ended."""
        self._reset()

    def error(self) -> None:
        """Postgres has refused a message. Which portals are left, only Postgres knows."""
        self._portals.clear()

    # ── one message each: what has to be sent in front of it, or in its place ──

    def refused(self, text: bytes) -> bytes | None:
        """What goes in the place of a Parse of `text` that may not be; None if it may."""
        try:
            if self._check is not None:
                self._check(text)
            if _feeds_copy(text):
                raise _COPY_REFUSED
        except GatewayError as error:
            return self._wrong(error)
        return None

    def parse(self, text: bytes) -> bytes:
        """A Parse of `text`, or a Describe of what was parsed."""
        return self._open(control_of(text))

    def bind(self, portal: bytes, text: bytes) -> tuple[bytes, bytes | None]:
        """A Bind of a statement to a portal: what goes in front, and what in its place if that may not be."""
        control = control_of(text)
        if portal and control not in (Control.NONE, Control.SET):
            # A failed Bind would leave an older portal of the name in place, which nobody could tell apart.
            return b"", self._wrong(_PORTAL_REFUSED)
        first = self._open(control)
        self._portals[portal] = control
        return first, None

    def use(self, portal: bytes) -> bytes | None:
        """A Describe or Execute of a portal: what goes in its place if that may not be."""
        return None if portal in self._portals else self._wrong(_PORTAL_UNKNOWN)

    def execute(self, portal: bytes) -> Undo | None:
        """An Execute is about to be sent: how to take back what it does to the transaction."""
        return self._move(_AFTER.get((self._state, self._portals[portal])))

    def call(self) -> bytes:
        """What goes in the place of a FunctionCall."""
        self.is_waiting = True
        self._owed.add(Entry(Kind.QUERY, is_ours=True, instead=encode_error_response(_CALL_REFUSED)))
        return encode_query(_WRONG)

    def sync(self) -> bytes:
        """A Sync is about to be sent."""
        self.is_waiting = True
        if self._state is not _State.OURS:
            return b""
        return self._own(b"COMMIT", undo=self._move(_State.OUTSIDE))

    def query(self, text: bytes) -> list[bytes]:
        """A simple query, as the texts to send one by one; a text that may not be is left whole."""
        if self._check is not None or b"atomic" in text.lower():  # a function's body has semicolons of its own
            return [text]
        return split_statements(text) or [text]

    # ── inside ──

    def _reset(self) -> None:
        self._state = _State.OUTSIDE
        self._has_failed = self.is_waiting = False
        self._preface = None
        self._portals.clear()

    def _open(self, control: Control) -> bytes:
        """What makes sure that a statement runs behind the prologue."""
        if self._has_failed and self._state is not _State.OUTSIDE:
            return b""  # Postgres itself lets nothing run but the end of it
        if self._state in (_State.OURS, _State.WITHIN) or control is not Control.NONE:
            return b""
        prologue = self._make()
        if prologue is None:
            return b""
        if self._state is _State.OUTSIDE:
            begin = b"START TRANSACTION READ ONLY" if prologue.read_only else b"BEGIN"
            undo = self._move(_State.OURS)
        else:
            begin = b"SET TRANSACTION READ ONLY" if prologue.read_only else b""
            undo = self._move(_State.WITHIN)
        self._preface = preface = Batch(_ignore)
        parts = [self._own(begin, batch=preface, undo=undo)] if begin else []
        for statement in prologue.statements:
            first_undo = None if parts else undo
            parts.append(self._own(statement.text.encode(), statement.params, batch=preface, undo=first_undo))
        return b"".join(parts)

    def _own(
        self,
        text: bytes,
        params: Sequence[bytes | None] = (),
        *,
        batch: Batch | None = None,
        undo: Undo | None = None,
    ) -> bytes:
        """A statement of ours, of whose answer the program hears nothing, but for an error outside `batch`.

        It has no name: under any name the program could have put another in its place, by DEALLOCATE and PREPARE.
        """
        self._names.unnamed_is_ours()
        for kind in (Kind.PARSE, Kind.BIND, Kind.EXECUTE):
            self._owed.add(Entry(kind, is_ours=True, batch=batch, undo=undo))
        return encode_parse(b"", text) + encode_bind(b"", params) + EXECUTE

    def _move(self, state: _State | None) -> Undo | None:
        if state is None:
            return None
        before, self._state = self._state, state

        def undo(was_tried: bool) -> None:
            self._state = before

        return undo

    def _wrong(self, error: GatewayError) -> bytes:
        """A message that fails where one is refused, so that all that hangs on it fails, too."""
        self._names.unnamed_is_ours()
        self._owed.add(Entry(Kind.PARSE, is_ours=True, instead=encode_error_response(error)))
        return encode_parse(b"", _WRONG)


_AFTER = {
    (_State.OUTSIDE, Control.BEGIN): _State.BEGUN,
    (_State.OURS, Control.BEGIN): _State.WITHIN,
    (_State.OURS, Control.END): _State.OUTSIDE,
    (_State.BEGUN, Control.END): _State.OUTSIDE,
    (_State.WITHIN, Control.END): _State.OUTSIDE,
    (_State.OURS, Control.CHAIN): _State.BEGUN,
    (_State.BEGUN, Control.CHAIN): _State.BEGUN,
    (_State.WITHIN, Control.CHAIN): _State.BEGUN,
}
"""What a statement that works makes of the state; for all others it stays."""


def _feeds_copy(text: bytes) -> bool:
    """Whether the statement is a COPY FROM STDIN (where Postgres takes STDOUT for the same)."""
    if _COPY.match(text) is None:
        return False
    depth, words = 0, set()
    for token in tokens_of(text):
        depth += {b"(": 1, b")": -1}.get(token.value, 0) if token.kind == "other" else 0
        if not depth and token.kind == "word":
            words.add(token.value)
    return b"copy" in words and b"from" in words and not words.isdisjoint({b"stdin", b"stdout"})


def _ignore(values: Sequence[bytes | None] | None) -> None:
    """An answer that only matters when it is an error."""
