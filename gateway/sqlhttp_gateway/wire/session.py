"""What a tunnel's session consists of when no backend is its own: parameters, and what pins it to one.

Parameters are recorded with the value that the server itself gives, and set again on whichever backend comes next.
Where a text may have left something behind, the server is asked after the transaction; what it answers decides. When
messages are to be sent is the work of `pipeline`; nothing here knows of frames.

Names of parameters are in lower case here, values are bytes as they are on the wire.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlhttp_gateway.wire.effects import MEANING, Ask, Effects, Pin
from sqlhttp_gateway.wire.prepared import BackendStatements

MAX_PARAMETERS = 200
"""Recorded for one tunnel; beyond that it keeps its backend instead."""

# Reported by the server, but nothing that a program sets; authorization is followed by the statements' texts.
_NOT_SETTABLE = frozenset(
    {
        "in_hot_standby",
        "integer_datetimes",
        "is_superuser",
        "server_encoding",
        "server_version",
        "session_authorization",
    }
)
_UTF8 = b"UTF8"
# The order in which parameters are set: the encoding first, since values after it are in it; who we are last, since
# another role may not be allowed to set the rest. Setting session_authorization also takes the role back.
_ORDER = {"client_encoding": -1, "session_authorization": 1, "role": 2}
IDENTITY = frozenset({"session_authorization", "role"})
"""Parameters that say who the session is. RESET ALL leaves them, and nothing may run before they are set."""

_QUESTIONS = (
    (
        Ask.TEMPORARY,
        Pin.TEMPORARY,
        "EXISTS (SELECT FROM pg_catalog.pg_depend"
        " WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    ),
    (
        Ask.ADVISORY_LOCK,
        Pin.ADVISORY_LOCK,
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
        " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
    (Ask.PREPARED, Pin.PREPARE, "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
    (Ask.CURSOR, Pin.CURSOR, "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
)

Parameters = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One SELECT that tells what a transaction has left behind, and what its columns are."""

    text: bytes
    pins: tuple[Pin, ...]
    names: tuple[str, ...]
    resets: Mapping[str, bytes | None]
    """Which of the names were taken back, and their values before."""
    may_restore: bool
    """Whether something may have to be set before anything else runs: what start-up had asked for."""


class BackendSession:
    """What tunnels share about one backend, for the life of its connection.

    `reported` is every ParameterStatus of its log-in. When the connection was cleaned by DISCARD ALL, say so with
    `statements.forget()`.
    """

    __slots__ = ("defaults", "reported", "statements")

    def __init__(self, reported: Mapping[str, str], *, statement_cache_size: int) -> None:
        self.reported = dict(reported)
        self.defaults = lowered(reported)
        self.statements = BackendStatements(statement_cache_size)


class Session:
    """The state of one tunnel's session, `parameters` being what its start-up message asks for."""

    def __init__(self, parameters: Mapping[str, str], *, pins: Iterable[Pin] = ()) -> None:
        self._startup = {name.lower(): value.encode() for name, value in parameters.items()}
        self._wanted = dict(self._startup)
        self._pins = frozenset(pins)
        self._sets: dict[str, None] = {}
        self._resets: dict[str, bytes | None] = {}  # with the value before
        self._asked: tuple[str, ...] = ()  # set, but the value is still being asked for
        self._ask = Ask.NOTHING
        self._is_suspect = False
        self._defaults: Mapping[str, bytes] = {}
        self._needed: Parameters | None = None
        self._fingerprint: Hashable = None
        self._transaction: object | None = None
        self._hidden: object | None = None
        """Stands for the names that temporary objects of the session's own may have taken from others."""

    @property
    def pins(self) -> frozenset[Pin]:
        """Why the backend has to be kept; empty when it need not be."""
        return self._pins

    @property
    def is_pinned(self) -> bool:
        """Whether there is any reason to keep the backend."""
        return bool(self._pins)

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The session's parameters, as far as they were asked for."""
        return self._wanted

    def pin(self, pin: Pin) -> None:
        """Keep the backend from now on."""
        self._pins |= {pin}

    # ── what a backend has to be told ──

    def needed(self, defaults: Mapping[str, bytes]) -> Parameters:
        """What has to be set, in this order, on a backend that has these values for what it reports."""
        if self._needed is None or self._defaults is not defaults:
            self._defaults = defaults
            server = defaults.get("server_encoding", _UTF8)
            if server != _UTF8 and "client_encoding" not in self._startup:
                # Pooled connections are in UTF-8; Postgres takes whoever asks for nothing to be in the database's.
                self._startup["client_encoding"] = server
                self._wanted.setdefault("client_encoding", server)
            differing = [(name, value) for name, value in self._wanted.items() if defaults.get(name) != value]
            self._needed = _in_order(differing)
            self._fingerprint = tuple(pair for pair in self._needed if pair[0] in MEANING) or None
        return self._needed

    def fingerprint(self, defaults: Mapping[str, bytes]) -> Hashable:
        """Equal for sessions in which, on one backend, the same text means the same."""
        self.needed(defaults)
        if self._hidden is not None:
            return self._transaction or (self._fingerprint, self._hidden)
        return self._transaction or self._fingerprint

    def was_set(self, name: str, value: bytes) -> None:
        """The server's own way to write the value of a parameter that was set as asked for."""
        if self._wanted.get(name) != value:
            self._wanted[name] = value
            self._needed = None

    # ── what a transaction does ──

    def note(self, effects: Effects) -> None:
        """A text with these effects is about to run."""
        for name in effects.resets:
            if name == "all":
                self._sets.clear()
                names = [name for name in (*self._wanted, *self._asked) if name not in IDENTITY]
            else:
                self._sets.pop(name, None)
                names = [name]
            for each in names:
                self._resets.setdefault(each, self._wanted.get(each))
        for name in effects.sets:
            self._resets.pop(name, None)
            self._sets[name] = None
        if effects.local or not MEANING.isdisjoint(effects.sets + effects.resets):
            self._transaction = object()  # until its end, no text is sure to mean what it means elsewhere
        if Ask.TEMPORARY in effects.ask and self._hidden is None:
            # Postgres itself looks names up anew at a session's first temporary object, but a pooled connection may
            # have had another's before.
            self._hidden = object()
        self._ask |= effects.ask
        self._pins |= set(effects.pins)
        self._is_suspect = True

    def reported(self, name: str, value: bytes) -> None:
        """The server reports another value, whatever made it change."""
        if name in _NOT_SETTABLE or self._wanted.get(name) == value:
            return
        if name not in self._wanted and self._defaults.get(name) == value:
            return
        self._wanted[name] = value
        self._needed = None

    def question(self) -> Question | None:
        """What the server has to be asked now that the transaction is over, if anything."""
        if not self._is_suspect:
            return None
        self._is_suspect, self._transaction = False, None
        resets = {
            name: self._wanted[name] if before is None else before
            for name, before in self._resets.items()
            if name in self._wanted
        }
        names = (*self._sets, *resets)
        columns, pins = [], []
        for ask, pin, column in _QUESTIONS:
            if ask in self._ask or (Ask.RELEASE in self._ask and pin in self._pins):
                columns.append(column)
                pins.append(pin)
        columns += [f"pg_catalog.current_setting({_literal(name)}, true)" for name in names]
        self._ask = Ask.NOTHING
        self._asked = tuple(self._sets)
        self._sets.clear()
        self._resets.clear()
        if not columns:
            return None
        may_restore = not self._startup.keys().isdisjoint(resets)
        return Question(f"SELECT {', '.join(columns)}".encode(), tuple(pins), names, resets, may_restore)

    @property
    def may_lose(self) -> tuple[str, ...]:
        """The parameters that start-up has asked for, and that a RESET takes to another value of the server's."""
        return tuple(name for name, value in self._startup.items() if self._defaults.get(name) != value)

    def lost(self, names: Sequence[bytes | None] | None) -> Parameters:
        """Take the names that a RESET has taken to the server's value: what has to be set again."""
        taken = {name.decode() for name in names or () if name is not None}
        self._wanted |= {name: value for name, value in self._startup.items() if name in taken}
        self._needed = None
        again = [(name, value) for name, value in self._startup.items() if name in taken]
        return _in_order(again)

    def answered(self, question: Question, values: Sequence[bytes | None] | None) -> Parameters:
        """Take the server's answer to `question`; None when there is none to be had.

        What comes back are parameters that RESET took to the server's value, and that start-up had asked for.
        """
        self._asked = ()
        if values is None or len(values) != len(question.pins) + len(question.names):
            self._pins |= {Pin.UNSURE}
            return ()
        self._needed = None
        for pin, value in zip(question.pins, values, strict=False):
            if value == b"t":
                self._pins |= {pin}
            else:
                self._pins -= {pin}
                if pin is Pin.TEMPORARY:
                    self._hidden = None
        restored = []
        for name, value in zip(question.names, values[len(question.pins) :], strict=True):
            if name not in question.resets or value == question.resets[name]:  # set, or the RESET was rolled back
                self._record(name, value)
            elif name in self._startup:
                self._record(name, self._startup[name])
                restored.append((name, self._startup[name]))
            else:
                self._wanted.pop(name, None)
        return _in_order(restored)

    def _record(self, name: str, value: bytes | None) -> None:
        self._wanted.pop(name, None)
        if value is None or (name == "role" and value == b"none"):
            return  # the server knows no such parameter, or this is how no role is written
        if len(self._wanted) >= MAX_PARAMETERS:
            self._pins |= {Pin.PARAMETER}
        else:
            self._wanted[name] = value


def lowered(reported: Mapping[str, str]) -> dict[str, bytes]:
    """What a server reports, in the form that `Session.needed` compares with."""
    return {name.lower(): value.encode() for name, value in reported.items()}


def _literal(name: str) -> str:
    # E'' since a program may have turned standard_conforming_strings off
    return "E'" + name.replace("\\", "\\\\").replace("'", "''") + "'"


def _in_order(parameters: Iterable[tuple[str, bytes]]) -> Parameters:
    return tuple(sorted(parameters, key=lambda pair: _ORDER.get(pair[0], 0)))
