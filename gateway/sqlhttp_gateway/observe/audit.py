"""The audit: one JSON line for each statement, with who ran it, as what, and what came of it.

The relations are those that the statement names; what views and functions reach beyond them only Postgres knows.
It has a place of its own, so that no level and no filter of the log can lose a line. Parameters are not in it, and the
values in a statement's text only where `audit.statements` is "texts" and its sender was proven. A request whose sender
was not has one line, its first statement's: anybody can send ten thousand, and none of them ran.
"""

import contextlib
import logging
import os
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Audited, Event, Observer
from sqlhttp_gateway.neon.traceparent import trace_id
from sqlhttp_gateway.observe.fingerprint import fingerprint
from sqlhttp_gateway.observe.log_writer import LogWriter
from sqlhttp_gateway.observe.relations import relations_of
from sqlhttp_gateway.settings import AuditSettings

Write = Callable[[bytes], object]
"""Writes whole lines, all of them or none."""
_READ_IN_ALL, _READ_LEAST = 200_000, 200
"""Characters of a request, and at least of each of its statements, in which relations and values are looked for: a
microsecond each, in which nobody else is answered."""
_OF_NAMES = f'{string.ascii_letters}{string.digits}_$."'
_LOG = logging.getLogger(__name__)
_MODE = 0o600  # a statement's text may hold what is nobody else's business


def audit_observer(
    settings: AuditSettings, *, write: Write | None = None, clock: Callable[[], float] = time.time
) -> Observer:
    """An observer that writes what `settings` ask for.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    shows_texts = settings.statements == "texts"
    put = write or _writer(settings.file)

    def observe(event: Event) -> None:
        if isinstance(event, Audited):
            try:
                put(b"".join(_lines(event, now=clock(), shows_texts=shows_texts and event.is_proven)))
            except OSError as error:  # the statement has run; not answering would undo nothing
                _LOG.error("audit: %d lines are lost: %s", len(event.texts), error.strerror)

    return observe


def _lines(event: Audited, *, now: float, shows_texts: bool) -> list[bytes]:
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shared: dict[str, object] = {
        "time": moment,
        "request_id": event.request_id,
        "tenant": event.tenant,
        "target": event.target,
        "database": event.database,
        "role": event.role,
        "is_proven": event.is_proven,
        "outcome": event.outcome,
        "sqlstate": event.sqlstate,
        "seconds": round(event.seconds, 6),
    }
    if event.traceparent:
        shared["trace_id"] = trace_id(event.traceparent)
    lines = []
    texts = event.texts if event.is_proven else event.texts[:1]
    most = max(_READ_LEAST, _READ_IN_ALL // max(1, len(texts)))
    for number, text in enumerate(texts):
        read = text if len(text) <= most else text[:most].rstrip(_OF_NAMES)  # half a name would be another's
        shape = fingerprint(read)
        line = shared | {
            "number": number + 1,
            "of": len(event.texts),
            "rows": event.rows[number] if number < len(event.rows) else None,
            "relations": relations_of(read),
            "fingerprint": shape.digest,
            "statement": text if shows_texts else shape.text,
        }
        lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return lines


def _writer(file: Path | None) -> Write:
    """Unbuffered and appending, so that the lines of several workers do not mix."""
    if file is None:
        return _to_stderr()
    try:
        return _Appending(file)
    except OSError as error:
        raise ConfigurationError(f"audit.file: {file} cannot be written: {error.strerror}") from None


def _opened(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)


class _Appending:
    """Adds lines to a file. What a full disk has cut off ends there: no other line is written on to it."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            OSError: it cannot be written.
        """
        self._file = file
        self._descriptor = _opened(file)
        self._is_cut = False

    def __call__(self, lines: bytes) -> None:
        self._follow()
        left = b"\n" + lines if self._is_cut else lines
        while left:
            written = os.write(self._descriptor, left)
            self._is_cut = left[written - 1 : written] != b"\n"
            left = left[written:]  # the rest says why it could not be written

    def _follow(self) -> None:
        """One that was moved away, as logrotate does it, has a new one behind it; until that can be had, it goes on."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._file), os.fstat(self._descriptor)):
                return
        with contextlib.suppress(OSError):
            opened = _opened(self._file)
            os.close(self._descriptor)
            self._descriptor, self._is_cut = opened, False


def _to_stderr() -> Write:
    """By a thread, as the log goes there: a collector that stalls stops no request."""
    writer = LogWriter()
    writer.setFormatter(logging.Formatter("%(message)s"))

    def write(lines: bytes) -> None:
        for line in lines.decode().split("\n")[:-1]:
            writer.emit(logging.makeLogRecord({"msg": line}))

    return write
