"""Statements of the gateway's own, sent to a tunnel's backend between those of the program.

Each is put down in `owed` with its batch, so that the program sees nothing of its answer. What is to be asked or set,
and what the answers mean, is the work of `session` and `accord`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from struct import pack
from typing import NamedTuple

from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, encode_bind, encode_close_statement, encode_parse
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Batch, Entry, Kind, Owed
from sqlhttp_gateway.wire.prepared import Sources, Undo
from sqlhttp_gateway.wire.session import Parameters

_NOBODYS = b"sqlhttp_nobodys"
"""The name of no statement."""
_TEXT, _TEXT_ARRAY = 25, 1009
# What set_config has set is from the session; RESET gives it back to whomever it was from.
_FIND_RESET = (
    b"SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.<>) 'session'"
    b" AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY ($1)\0"
) + pack("!HI", 1, _TEXT_ARRAY)

Done = Callable[[Sequence[bytes | None] | None], None]
"""Told the values of the rows, or None where the statements failed."""


class Setting(NamedTuple):
    """A statement, known to the backend, that sets parameters."""

    frames: bytes
    values: list[bytes]
    """What it answers, unless Postgres writes them otherwise."""


class OwnStatements:
    """The gateway's statements on whichever backend the program has. `to_backend` is where the bytes go."""

    def __init__(self, *, waiting: Owed, names: Naming, sources: Sources, to_backend: list[bytes]) -> None:
        self._owed = waiting
        self._names = names
        self._sources = sources
        self._out = to_backend

    def run(self, text: bytes, done: Done) -> None:
        """Run a text that is not run again soon."""
        batch = Batch(done)
        self._names.unnamed_is_ours()
        self._send(batch, encode_parse(b"", text), b"", ())
        self._send_sync(batch)

    def sync(self) -> None:
        """Send nothing but a Sync, for Postgres to answer."""
        self._send_sync(Batch(_ignore))

    def mark(self, done: Done) -> None:
        """Have Postgres say what can only be the answer to this: all that it owes has come by then. Nothing changes."""
        batch = Batch(done)
        self._owed.add(Entry(Kind.CLOSE, is_ours=True, batch=batch))
        self._out.append(encode_close_statement(_NOBODYS))
        self._send_sync(batch)

    def find_reset(self, names: Sequence[str], done: Done) -> None:
        """Ask which of these parameters are not the session's own any more; `done` is told their names.

        The program's unnamed statement stays what it is, also where nobody keeps account of it.
        """
        batch = Batch(done)
        parse, name, undo = self._names.teach_ours(self._sources.get(_FIND_RESET))
        self._send(batch, parse, name, (_array(names),), undo=undo)
        self._send_sync(batch)

    def set_parameters(self, needed: Parameters, done: Done) -> Batch:
        """Set these; the values that `done` is told are Postgres's own way to write them."""
        batch = Batch(done)
        for part in _in_order(needed):
            source = self._sources.get(_set_config(len(part)))
            parse, name, undo = self._names.teach_ours(source)
            self._send(batch, parse, name, _texts(part), undo=undo)
        self._send_sync(batch)
        return batch

    def settings(self, needed: Parameters) -> list[Setting] | None:
        """What sets these without any Parse, for somebody else to send; None where the backend has to be taught."""
        settings = []
        for part in _in_order(needed):
            name = self._names.ours(self._sources.get(_set_config(len(part))))
            if name is None:
                return None
            settings.append(Setting(encode_bind(name, _texts(part)) + EXECUTE, [value for _, value in part]))
        return settings

    def _send(
        self, batch: Batch, parse: bytes, name: bytes, params: Sequence[bytes], *, undo: Undo | None = None
    ) -> None:
        if parse:
            self._owed.add(Entry(Kind.PARSE, is_ours=True, batch=batch, undo=undo))
        for kind in (Kind.BIND, Kind.EXECUTE):
            self._owed.add(Entry(kind, is_ours=True, batch=batch))
        self._out.append(parse + encode_bind(name, params) + EXECUTE)

    def _send_sync(self, batch: Batch) -> None:
        self._owed.add(Entry(Kind.SYNC, is_ours=True, batch=batch))
        self._out.append(SYNC)


def _in_order(needed: Parameters) -> list[Parameters]:
    """The parameters in parts that are set one after the other."""
    # Values after the encoding are in it, so it has to be in force before they are bound.
    cut = 1 if needed and needed[0][0] == "client_encoding" else 0
    return [part for part in (needed[:cut], needed[cut:]) if part]


def _texts(part: Parameters) -> list[bytes]:
    return [text for name, value in part for text in (name.encode(), value)]


def _array(names: Sequence[str]) -> bytes:
    quoted = [name.replace("\\", "\\\\").replace('"', '\\"') for name in names]
    return ("{" + ",".join(f'"{name}"' for name in quoted) + "}").encode()


def _ignore(values: Sequence[bytes | None] | None) -> None:
    """An answer that tells nothing."""


@cache
def _set_config(count: int) -> bytes:
    """The text that sets `count` parameters, and the types of its own."""
    calls = ",".join(f"pg_catalog.set_config(${2 * at + 1},${2 * at + 2},false)" for at in range(count))
    return f"SELECT {calls}".encode() + b"\0" + pack(f"!H{2 * count}I", 2 * count, *[_TEXT] * (2 * count))
