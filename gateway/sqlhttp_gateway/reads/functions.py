"""What the functions of a statement mean for whether its answer would be the same again, and what else it may touch.

Postgres's own functions are judged by their volatility and, where that is not enough, by name: a stable function is
the same within one statement, which now() is, too. Those of users are believed when they say immutable; a stable one
is read, and what it calls with it, since it can hide tables and now(). Pure; the catalog is asked in `verdicts`.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlhttp_gateway.reads.plain import plain_text
from sqlhttp_gateway.reads.plan import names_called
from sqlhttp_gateway.wire.meaning import speaks_of_now

_CLOCK = frozenset(
    {
        *("now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday", "age"),
        *("pg_postmaster_start_time", "pg_conf_load_time"),
    }
)
"""`age` with one argument counts from today."""
_STABLE_PG = re.compile(
    r"pg_(?:get_.*|typeof|column_(?:size|compression)|client_encoding|has_role|.*_is_visible|encoding_to_char|"
    r"char_to_encoding|describe_object|identify_object.*|index_.*|table_is_visible|collation_.*|options_to_table|"
    r"input_is_valid|input_error_info|basetype|partition_.*|sequence_parameters|tablespace_.*|relation_is_.*)"
)
"""Stable functions whose name begins with pg_ and that speak of the catalog; the others speak of servers and sessions.
"""
_OF_SESSION = re.compile(r"inet_(?:client|server)_.*|txid_.*|.*_to_xml(?:schema|_and_xmlschema)?|icu_.*|currtid2?")
HARMLESS = frozenset(
    {
        *("nextval", "currval", "lastval", "setval", "random", "random_normal", "setseed", "clock_timestamp"),
        *("timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v1mc"),
        *("uuid_generate_v4", "gen_random_bytes", "gen_salt", "set_config", "pg_notify", "pg_backend_pid"),
        *("pg_sleep", "pg_sleep_for", "pg_sleep_until", "txid_current", "pg_current_xact_id", "version"),
        *("pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size", "pg_database_size"),
    }
)
"""Volatile functions that come with Postgres or its common extensions and change no table."""
_CLOCK_WORD = re.compile(r"\b(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\b", re.IGNORECASE)
_READABLE = frozenset({"sql", "plpgsql"})
_NATIVE = frozenset({"internal", "c"})
_TRUSTED = ("sqlhttp", "claims")
"""The gateway's own, of `auth.rls`: it reads the claims, which are part of the key."""


class Function(NamedTuple):
    """A row of pg_proc."""

    schema: str
    name: str
    volatility: str
    language: str
    is_builtin: bool
    definition: str
    """Of what can be read; else empty."""
    is_unreadable: bool = False
    """It is made of parts that are not looked at, as an aggregate is."""


@dataclass(slots=True)
class Meaning:
    """What all functions together mean."""

    clock: str = ""
    """A function of time; "" for none."""
    volatile: str = ""
    """One that may give something else each time."""
    writer: str = ""
    """One that may change tables."""
    locks: bool = False
    """Whether an advisory lock is taken, which on a standby would keep nobody out."""
    hides: bool = False
    """Whether relations may be read that the plan does not show."""
    callees: set[str] = field(default_factory=set)
    """Names in what was read that are to be looked at, too."""

    def add(self, function: Function) -> None:
        """Take one more into account."""
        name = function.name
        if (function.schema, name) == _TRUSTED:
            return
        if name in _CLOCK and (function.is_builtin or function.volatility != "i"):
            self.clock = self.clock or name
            return
        if function.volatility == "v":
            self.volatile = self.volatile or name
            if name.startswith(("pg_advisory", "pg_try_advisory")):
                self.locks = True
            elif name not in HARMLESS:
                self.writer = self.writer or name
        elif function.is_builtin:
            if function.volatility == "s" and _is_of_session(name):
                self.volatile = self.volatile or name
        elif function.is_unreadable:
            self.volatile = self.volatile or name
            self.writer = self.writer or name
            self.hides = True
        elif function.volatility == "s":
            self._read(function)

    def _read(self, function: Function) -> None:
        self.hides = True
        if function.language in _READABLE:
            body = _uncommented(function.definition.encode())
            if _CLOCK_WORD.search(body) or speaks_of_now(body):
                self.clock = self.clock or function.name
            self.callees |= names_called(re.sub(r"\s+\(", "(", body))
        elif function.language not in _NATIVE:
            self.volatile = self.volatile or function.name


def _uncommented(definition: bytes) -> str:
    """A definition without comments. In its own quotes there is code; what that has in quotes it may run as well."""
    return plain_text(definition, lambda code: f"'{plain_text(code, _quoted)}'")


def _quoted(value: bytes) -> str:
    return f"'{value.decode(errors='replace')}'"


def _is_of_session(name: str) -> bool:
    return (name.startswith("pg_") and _STABLE_PG.fullmatch(name) is None) or _OF_SESSION.fullmatch(name) is not None
