"""Log lines leave by a thread of their own, and nothing waits for them."""

import io
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sqlhttp_gateway.observe import log_writer
from sqlhttp_gateway.observe.log_writer import LogWriter


class Stalled(io.StringIO):
    """A stream that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        self.reached.set()
        assert self.open.wait(10)
        return super().write(text)


class Full(io.StringIO):
    """A disk that has no space, for so many writes."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def write(self, text: str, /) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.fixture
def log() -> Iterator[Any]:
    logger = logging.Logger("test")
    yield logger
    for handler in logger.handlers:
        handler.close()


def test_lines_are_written_in_order_and_all_of_them_at_the_end(log: logging.Logger) -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)
    log.addHandler(writer)
    for number in range(100):
        log.warning("line %d", number)
    writer.flush()
    assert stream.getvalue() == "".join(f"line {number}\n" for number in range(100))


def test_stream_that_takes_nothing_stops_nobody_and_what_was_lost_is_told(log: logging.Logger) -> None:
    stream = Stalled()
    writer = LogWriter(stream, most=10)
    log.addHandler(writer)
    log.warning("first")
    assert stream.reached.wait(10)
    for number in range(50):
        log.warning("line %d", number)
    stream.open.set()
    writer.flush()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "first"
    assert "40 lines of the log could not be written and are lost" in lines
    assert [line for line in lines if line.startswith("line")] == [f"line {number}" for number in range(10)]


def test_long_lines_that_nobody_takes_are_bounded_by_what_they_hold(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_CHARACTERS", 1000)
    stream = Stalled()
    writer = LogWriter(stream)
    log.addHandler(writer)
    log.warning("first")
    assert stream.reached.wait(10)
    for _ in range(100):
        log.warning("x" * 100)
    stream.open.set()
    writer.flush()
    log.warning("x" * 100)
    writer.flush()
    lines = stream.getvalue().splitlines()
    assert "89 lines of the log could not be written and are lost" in lines
    assert lines.count("x" * 100) == 12, "those that had room, and one when all were written"


def test_full_disk_loses_lines_and_nothing_else(log: logging.Logger) -> None:
    stream = Full(failures=3)
    writer = LogWriter(stream)
    log.addHandler(writer)
    for number in range(5):
        log.warning("line %d", number)
    writer.flush()
    assert "3 lines of the log" in stream.getvalue()
    assert stream.getvalue().endswith("line 3\nline 4\n")


def test_forked_process_writes_its_own_lines_and_not_its_parents(log: logging.Logger) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as output, open(writing, "w", encoding="utf-8") as stream:
        writer = LogWriter(stream)
        log.addHandler(writer)
        log.warning("parent")
        writer.flush()
        pid = os.fork()
        if pid == 0:
            try:
                log.warning("child")
                writer.flush()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        stream.close()
        assert output.read() == "parent\nchild\n"
        log.removeHandler(writer)


def test_line_for_whose_thread_the_system_has_no_room_is_counted_and_stops_nobody(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    log.addHandler(LogWriter(stream))
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", _no_room)
        log.warning("lost")
    log.warning("kept")
    log.handlers[0].flush()
    assert "1 lines of the log could not be written" in stream.getvalue()
    assert stream.getvalue().endswith("kept\n")
    assert "\nlost\n" not in stream.getvalue()


def test_line_whose_values_do_not_fit_it_is_counted_and_stops_nobody(log: logging.Logger) -> None:
    """Libraries log, too, and a request must not fail of a mistake there."""
    stream = io.StringIO()
    log.addHandler(LogWriter(stream))
    log.warning("%d bytes", "many")
    log.warning("kept")
    log.handlers[0].flush()
    assert stream.getvalue() == "1 lines of the log could not be written and are lost\nkept\n"


def _no_room(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_pipe_that_somebody_made_non_blocking_gets_every_line_whole(log: logging.Logger) -> None:
    """A program that shares our stderr may do that; a write that finds it full then fails with BlockingIOError."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as pipe:
        writer = LogWriter(stream)
        log.addHandler(writer)
        for number in range(2000):  # more than a pipe holds
            log.warning("%d %s", number, "x" * 100)
        for number in range(2000):
            assert pipe.readline() == f"{number} {'x' * 100}\n".encode()
        writer.close()
