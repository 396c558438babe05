"""Where log lines leave the process: written by a thread, so that a full disk or a stalled collector stops no request.

Lines that nobody takes are kept up to a bound and then counted instead; the count is told when lines go again. What a
line looks like is `observe.logs`'.
"""

import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TextIO

MOST = 10_000
"""Lines that wait to be written, some 2 MB."""
MOST_CHARACTERS = 16_000_000
"""Of them all; an audit of whole texts may have a megabyte in a line."""
_FLUSH = 1.0
"""Seconds that the end of the process waits for the last lines."""


class _Lines(SimpleQueue[str | threading.Event | None]):
    """Lines that wait, and how many characters went in and out: each counted by one thread alone."""

    given = 0
    taken = 0


class LogWriter(logging.Handler):
    """Writes to a stream and never waits for it."""

    def __init__(self, stream: TextIO | None = None, *, most: int = MOST) -> None:
        super().__init__()
        self._put = _way_to(stream or sys.stderr)
        self._most = most
        # Each counted by one thread alone.
        self._refused = 0
        self._failed = 0
        self._told = 0
        self._pid = 0
        self._lines = _Lines()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written, or count it as lost, also where its words and its values do not fit together."""
        try:
            line = self.format(record)
        except Exception:  # whoever logs has other things to do than to hear of it
            self._refused += 1
            return
        if self._pid != os.getpid() and not self._begin():
            self._refused += 1
            return
        lines = self._lines
        if lines.qsize() >= self._most or lines.given - lines.taken > MOST_CHARACTERS:
            self._refused += 1
            return
        lines.given += len(line)
        lines.put(line + "\n")

    def flush(self) -> None:
        """Wait until what was logged is written, for a second at most."""
        if self._pid == os.getpid() and threading.current_thread() is not self._thread:
            written = threading.Event()
            self._lines.put(written)
            written.wait(_FLUSH)

    def close(self) -> None:
        """Write what is left and end the thread; what is logged later begins another."""
        if self._pid == os.getpid():
            self.flush()
            self._pid = 0
            self._lines.put(None)
        super().close()

    def _begin(self) -> bool:
        """Start the thread of this process; after a fork the lines that wait are the parent's to write.

        False when the system has no room for a thread; the next line tries again.
        """
        self._lines = _Lines()
        self._thread = threading.Thread(target=self._write, args=(self._lines,), name="log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            return False
        self._pid = os.getpid()
        return True

    def _write(self, lines: _Lines) -> None:
        while (line := lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
                continue
            lines.taken += len(line) - 1  # less the line's end
            lost = self._refused + self._failed
            try:
                if lost > self._told:
                    line = self.format(_loss(lost - self._told)) + "\n" + line
                self._put(line)
                self._told = lost
            except (OSError, ValueError):  # no space, nobody at the other end, or closed
                self._failed += 1


def _way_to(stream: TextIO) -> Callable[[str], None]:
    """How a line gets to a stream: past its buffer, where there is a descriptor.

    A pipe that takes half of a line would leave the rest in the buffer, and at the end of the process Python's own
    flush, or the buffer's lock, would be in the way.
    """
    try:
        return partial(_write_all, stream.fileno())
    except (OSError, ValueError):
        return partial(_print, stream)


def _write_all(descriptor: int, line: str) -> None:
    data = line.encode(errors="backslashreplace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever shares the pipe with us has made it so; only this thread waits
            select.select([], [descriptor], [])


def _print(stream: TextIO, line: str) -> None:
    stream.write(line)
    stream.flush()


def _loss(lost: int) -> logging.LogRecord:
    text = "%d lines of the log could not be written and are lost"
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, (lost,), None)
