"""What the text of a statement may do to the session, beyond its transaction.

Read are the few statements that leave something behind. That need not be exact in one direction. What is suspected
without cause costs one question to the server (see `session`); what cannot be seen, such as a temporary table made
inside a function, is undone by the scrub of the connection, so that nobody else ever finds it.
"""

import re
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from functools import lru_cache

from sqlhttp_gateway.wire.lexer import Token, pieces_of, statements_of, tokens_of


class Ask(Flag):
    """What only the server can tell after the transaction."""

    NOTHING = 0
    TEMPORARY = auto()
    ADVISORY_LOCK = auto()
    PREPARED = auto()
    CURSOR = auto()
    RELEASE = auto()
    """Whether what pins the tunnel is still there; nothing to ask where nothing does."""
    EVERYTHING = TEMPORARY | ADVISORY_LOCK | PREPARED | CURSOR


class Pin(StrEnum):
    """Why a tunnel has to keep its backend; the label of a metric."""

    SESSION = "session_mode"
    TEMPORARY = "temporary_object"
    CURSOR = "cursor_with_hold"
    ADVISORY_LOCK = "advisory_lock"
    PREPARE = "prepare"
    LOAD = "load"
    LISTEN = "listen"
    SEQUENCE = "sequence_value"
    PARAMETER = "unknown_parameter"
    CONNECTION = "dblink_connection"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Effects:
    """What one text may leave behind. Empty for nearly all texts, and then identical to NO_EFFECTS."""

    sets: tuple[str, ...] = ()
    """Parameters that may have another value for the session afterwards, in lower case."""
    resets: tuple[str, ...] = ()
    """Parameters that RESET takes back to what the program asked for at start-up; "all" for every one."""
    listens: tuple[bytes, ...] = ()
    unlistens: tuple[bytes, ...] = ()
    """Channels; b"*" for all."""
    deallocates: tuple[bytes, ...] = ()
    """Names of prepared statements; b"*" for all."""
    executes: tuple[bytes, ...] = ()
    """Names in SQL's EXECUTE, which may be statements that the program made with Parse."""
    prepares: tuple[bytes, ...] = ()
    """Names in SQL's PREPARE, which may be taken by such."""
    ask: Ask = Ask.NOTHING
    pins: tuple[Pin, ...] = ()
    local: tuple[str, ...] = ()
    """Parameters of those in MEANING that may have another value for the rest of the transaction; "" for any."""
    reads_sequence: bool = False
    """Whether the text is a single statement with lastval or currval, which speak of an earlier one."""


NO_EFFECTS = Effects()
ALL = b"*"

MEANING = frozenset(
    {
        "array_nulls",
        "backslash_quote",
        "client_encoding",
        "datestyle",
        "escape_string_warning",
        "intervalstyle",
        "lc_monetary",
        "lc_numeric",
        "role",
        "search_path",
        "session_authorization",
        "standard_conforming_strings",
        "timezone",
        "timezone_abbreviations",
        "transform_null_equals",
        "xmloption",
    }
)
"""Parameters that decide what a text means when it is parsed: '1/2/2003'::date is a constant from then on."""

_MEMORABLE = 4096
"""Longer texts are read each time: they hardly come twice."""

_LEADING = rb"\s*(?:set|reset|discard|listen|unlisten|prepare|deallocate|execute|load|do|call|drop|close)\b"
_SUSPECT_START = re.compile(_LEADING, re.IGNORECASE)
_ENDS = re.compile(rb";|\n|\r|\*/")
"""Behind these another statement may begin: the end of one, or of a comment."""
_SUSPECT_WORDS = (b"pg_temp", b"advisory", b"set_config", b"lastval", b"currval", b"setseed", b"dblink_connect")
_SUSPECT_PAIRS = ((b"hold", b"declare"), (b"execute", b"explain"), (b"execute", b"create"))
"""Words that mean something only where the other one is, too."""
_COMMENTS = (b"--", b"/*")
_TEMPORARY = re.compile(
    rb"(?:create|replace|global|local|into)[^a-z0-9_\x80-\xff]*+temp(?:orary)?(?![a-z0-9_$\x80-\xff])"
)
"""Without comments; a bulk of rows for a table or a column of that name need not be looked at token by token."""

_AS, _EXECUTE = Token("word", b"as"), Token("word", b"execute")
_BEFORE_TEMPORARY = frozenset({b"create", b"replace", b"global", b"local", b"into"})
"""Behind these words TEMP and TEMPORARY are no names of columns."""
_LOCAL_WORDS = frozenset({"true", "t", "on", "yes", "1"})
_CHARACTERISTICS = (
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
)
# In a DO block, the left of an UPDATE's assignment looks the same; a parameter nobody knows is then asked for in vain.
_SET_IN_CODE = re.compile(rb"\bset\s+(?!local\b)(?:session\s+)?([a-z_][\w.]*)\s*(?:=|\bto\b)", re.IGNORECASE)


def effects_of(text: bytes) -> Effects:
    """What running `text`, of one or several statements, may do to the session."""
    return _remembered(text) if len(text) <= _MEMORABLE else _effects(text)


def _effects(text: bytes) -> Effects:
    if not _is_suspect(text):
        return NO_EFFECTS
    reading = _Reading()
    count = 0
    for piece in pieces_of(text) if b";" in text else (text,):
        if _is_suspect(piece):  # of a dump of megabytes hardly any
            for statement in statements_of(piece):
                reading.read(statement)
                count += 1
        elif next(tokens_of(piece), None) is not None:
            count += 1
    return reading.effects(is_single=count == 1)


def _is_suspect(text: bytes) -> bool:
    lower = text.lower()
    return (
        _SUSPECT_START.match(text) is not None
        or any(word in lower for word in _SUSPECT_WORDS)
        or any(one in lower and other in lower for one, other in _SUSPECT_PAIRS)
        or (b"temp" in lower and (any(mark in text for mark in _COMMENTS) or _TEMPORARY.search(lower) is not None))
        or ((b";" in text or b"--" in text or b"*/" in text) and any(map(_SUSPECT_START.match, _ENDS.split(text))))
    )


_remembered = lru_cache(maxsize=4096)(_effects)


class _Reading:
    """Collects the effects of a text, statement by statement."""

    def __init__(self) -> None:
        self._sets: dict[str, None] = {}
        self._resets: dict[str, None] = {}
        self._listens: list[bytes] = []
        self._unlistens: list[bytes] = []
        self._deallocates: list[bytes] = []
        self._executes: list[bytes] = []
        self._prepares: list[bytes] = []
        self._ask = Ask.NOTHING
        self._pins: list[Pin] = []
        self._local: dict[str, None] = {}
        self._reads_sequence = False

    def effects(self, *, is_single: bool) -> Effects:
        effects = Effects(
            tuple(self._sets),
            tuple(self._resets),
            tuple(self._listens),
            tuple(self._unlistens),
            tuple(self._deallocates),
            tuple(self._executes),
            tuple(self._prepares),
            self._ask,
            tuple(self._pins),
            tuple(self._local),
            self._reads_sequence and is_single,
        )
        return NO_EFFECTS if effects == NO_EFFECTS else effects

    def read(self, tokens: list[Token]) -> None:
        """One statement."""
        self._read_words(tokens)
        if tokens[0].kind != "word":
            return
        rest = tokens[1:]
        match tokens[0].value:
            case b"set":
                self._read_set(rest)
            case b"reset":
                self._reset(_parameter(rest, is_reset=True))
            case b"discard":
                self._read_discard(rest)
            case b"listen":
                self._listens += _identifier(rest)
            case b"unlisten":
                self._unlistens += _identifier(rest)
            case b"prepare" if not _starts(rest, b"transaction"):
                self._prepares += _identifier(rest)
                self._ask |= Ask.PREPARED
            case b"deallocate":
                name = _identifier(rest[1:] if _starts(rest, b"prepare") and len(rest) > 1 else rest)
                self._deallocates += [ALL] if rest[-1:] == [Token("word", b"all")] else name
                self._ask |= Ask.RELEASE
            case b"drop" | b"close":
                self._ask |= Ask.RELEASE
            case b"execute":
                self._executes += _identifier(rest)
            case b"explain" | b"create" as word:  # EXPLAIN … EXECUTE, CREATE TABLE … AS EXECUTE
                for before, token, following in zip(tokens, rest, rest[1:], strict=False):
                    if token == _EXECUTE and (word == b"explain" or before == _AS):
                        self._executes += _identifier([following])
            case b"load":
                self._pins.append(Pin.LOAD)
            case b"do":
                self._read_code(rest)
            case b"call":
                self._ask |= Ask.EVERYTHING
                self._set_locally("")

    def _read_words(self, tokens: list[Token]) -> None:
        """What can stand anywhere in a statement."""
        for at, token in enumerate(tokens):
            if token.kind not in ("word", "name"):
                continue
            word = token.value
            if word == b"pg_temp" or (word in (b"temp", b"temporary") and at and _makes_temporary(tokens[at - 1])):
                self._ask |= Ask.TEMPORARY
            elif b"advisory_unlock" in word:
                self._ask |= Ask.RELEASE
            elif b"advisory" in word and b"xact" not in word:
                self._ask |= Ask.ADVISORY_LOCK
            elif word == b"hold" and tokens[0].value == b"declare":
                self._ask |= Ask.CURSOR
            elif word == b"set_config":
                self._read_set_config(tokens[at + 1 :])
            elif word in (b"lastval", b"currval"):
                self._reads_sequence = True
            elif word == b"setseed":
                self._pins.append(Pin.PARAMETER)
            elif word.startswith(b"dblink_connect"):
                self._pins.append(Pin.CONNECTION)

    def _read_set(self, rest: list[Token]) -> None:
        if _starts(rest, b"transaction") or _starts(rest, b"constraints"):
            return
        if _starts(rest, b"local"):
            self._set_locally(_parameter(rest[1:], is_reset=False))
            return
        if _starts(rest, b"session") and _starts(rest[1:], b"characteristics"):
            self._set(*_CHARACTERISTICS)
        elif _starts(rest, b"session") and not _starts(rest[1:], b"authorization"):
            self._read_set(rest[1:])
        elif _starts(rest, b"seed"):
            self._pins.append(Pin.PARAMETER)  # its value cannot be asked for
        else:
            name = _parameter(rest, is_reset=False)
            if name and name != "session_authorization" and _is_default(name, rest[-1]):
                self._reset(name)
            else:
                self._set(name)

    def _set(self, *names: str) -> None:
        for name in names:
            if name:
                self._resets.pop(name, None)
                self._sets[name] = None
            else:
                self._pins.append(Pin.PARAMETER)

    def _set_locally(self, name: str) -> None:
        if not name or name in MEANING:
            self._local[name] = None

    def _reset(self, name: str) -> None:
        if name == "all":
            self._sets.clear()
        self._sets.pop(name, None)
        self._resets[name] = None

    def _read_set_config(self, rest: list[Token]) -> None:
        """`set_config(name, value, is_local)`: of no effect beyond the transaction where the last is plainly true."""
        depth, last, name = 0, rest[0] if rest else None, ""
        for at, token in enumerate(rest):
            if token.kind == "other" and token.value in b"([":
                depth += 1
            elif token.kind == "other" and token.value in b")]":
                depth -= 1
                if depth == 0:
                    break
            if at == 1 and token.kind == "string" and rest[2:3] and rest[2].value in (b",", b":"):
                name = token.value.decode(errors="replace").lower()
            last = token
        if last is not None and last.kind in ("word", "string") and last.value.decode(errors="replace") in _LOCAL_WORDS:
            self._set_locally(name)
            return
        self._set(name)

    def _read_discard(self, rest: list[Token]) -> None:
        if _starts(rest, b"all"):
            self._reset("all")
            self._reset("role")
            self._reset("session_authorization")
            self._unlistens.append(ALL)
            self._deallocates.append(ALL)
        self._ask |= Ask.RELEASE

    def _read_code(self, rest: list[Token]) -> None:
        self._ask |= Ask.EVERYTHING
        self._set_locally("")
        for token in rest:
            if token.kind != "string":
                continue
            for name in _SET_IN_CODE.findall(token.value):
                self._set(name.decode(errors="replace").lower())
            self._read_words([Token("word", b"do"), *tokens_of(token.value)])


def _starts(tokens: list[Token], word: bytes) -> bool:
    return bool(tokens) and tokens[0].kind == "word" and tokens[0].value == word


def _makes_temporary(before: Token) -> bool:
    return before.kind == "word" and before.value in _BEFORE_TEMPORARY


def _is_default(name: str, value: Token) -> bool:
    """Whether SET to this is a RESET."""
    return value.kind == "word" and (value.value == b"default" or (name == "timezone" and value.value == b"local"))


def _identifier(tokens: list[Token]) -> list[bytes]:
    """The one name there, `*` included; none when something else stands there."""
    if not tokens or tokens[0].kind == "string" or (tokens[0].kind == "other" and tokens[0].value != ALL):
        return []
    return [tokens[0].value]


def _parameter(tokens: list[Token], *, is_reset: bool) -> str:
    """The parameter that SET or RESET names, or "" when none can be made out."""
    words = [token.value if token.kind in ("word", "name") else b"" for token in tokens[:3]]
    match words:
        case [b"time", b"zone", *_]:
            return "timezone"
        case [b"session", b"authorization", *_]:
            return "session_authorization"
        case [b"transaction", b"isolation", *_]:
            return "transaction_isolation"
        case [b"names", *_] if not is_reset:
            return "client_encoding"
        case [b"schema", *_] if not is_reset:
            return "search_path"
        case [b"xml", b"option", *_]:
            return "xmloption"
    parts = []
    for at, token in enumerate(tokens):
        if at % 2 == 0 and token.kind in ("word", "name"):
            parts.append(token.value)
        elif not (at % 2 == 1 and token.value == b"." and token.kind == "other"):
            break
    return b".".join(parts).decode(errors="replace").lower()
