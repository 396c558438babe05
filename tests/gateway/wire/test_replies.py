"""A backend's bytes, matched with what is owed: ours kept, the program's passed in runs."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.owed import Batch, Entry, Kind, Look, Owed
from sqlhttp_gateway.wire.prepared import describe_shape
from sqlhttp_gateway.wire.replies import Replies
from tests.support.postgres_model import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    COPY_IN,
    EMPTY_QUERY,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    ROW_DESCRIPTION,
    command_complete,
    error,
    frame,
    parameter_status,
    ready,
    row,
)


class Heard:
    """Replies, and a reader that passes everything on and writes down what it was told."""

    def __init__(self, *entries: Entry) -> None:
        self.out: list[bytes] = []
        self.told: list[str] = []
        self.owed = Owed()
        for entry in entries:
            self.owed.add(entry)
        self.replies = Replies(waiting=self.owed, reader=self, to_frontend=self.out)

    def read_ready(self, status: int, frame: bytes, entry: Entry | None) -> None:
        self._tell(f"ready {chr(status)}", frame)
        self.owed.pop()

    def read_error(self, frame: bytes, entry: Entry | None) -> None:
        self._tell("error", frame)

    def read_status(self, frame: bytes, entry: Entry | None) -> None:
        self._tell("status", frame)

    def read_notification(self, frame: bytes) -> None:
        self._tell("notification", frame)

    def read_copy(self, frame: bytes, entry: Entry | None) -> None:
        self._tell("copy", frame)

    def read_command(self, tag: bytes) -> None:
        self.told.append(f"command {tag.decode()}")

    def _tell(self, what: str, frame: bytes) -> None:
        self.told.append(what)
        self.out.append(frame)


BATCH = (
    PARSE_COMPLETE
    + BIND_COMPLETE
    + NO_PARAMETERS
    + ROW_DESCRIPTION
    + row(b"1", None)
    + row(b"2", b"")
    + PORTAL_SUSPENDED
    + frame(b"N", b"SNOTICE\0\0")
    + command_complete("SELECT 2")
    + CLOSE_COMPLETE
    + NO_DATA
    + EMPTY_QUERY
    + parameter_status("TimeZone", "UTC")
    + ready("T")
)
ENTRIES = (
    owed.PARSE,
    owed.BIND,
    owed.DESCRIBE,
    owed.EXECUTE,
    owed.EXECUTE,
    owed.CLOSE,
    owed.DESCRIBE,
    owed.EXECUTE,
    owed.SYNC,
)


def test_answers_come_to_the_same_however_they_are_cut() -> None:
    for size in (1, 2, 3, 7, 1000):
        heard = Heard(*ENTRIES)
        for at in range(0, len(BATCH), size):
            heard.replies.receive(BATCH[at : at + size])
        assert b"".join(heard.out) == BATCH
        assert heard.told == ["command SELECT 2", "status", "ready T"]
        assert len(heard.owed) == 0
        assert not heard.replies.is_amid_message


def test_answers_to_messages_of_ours_are_kept() -> None:
    heard = Heard(owed.OUR_CLOSE, owed.OUR_PARSE, owed.BIND, owed.EXECUTE, owed.SYNC)
    theirs = BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    heard.replies.receive(CLOSE_COMPLETE + PARSE_COMPLETE + theirs)
    assert b"".join(heard.out) == theirs


def test_row_of_ours_is_collected() -> None:
    batch = Batch(lambda values: None)
    heard = Heard(
        Entry(Kind.BIND, is_ours=True, batch=batch),
        Entry(Kind.EXECUTE, is_ours=True, batch=batch),
        Entry(Kind.SYNC, is_ours=True, batch=batch),
    )
    answer = BIND_COMPLETE + row(b"1", None, b"") + command_complete("SELECT 1")
    for byte in answer:
        heard.replies.receive(bytes([byte]))
    assert batch.values == [b"1", None, b""]
    assert heard.out == []


def test_what_we_say_ourselves_stands_between_whole_answers() -> None:
    heard = Heard(owed.PARSE, Entry(Kind.LOCAL, reply=CLOSE_COMPLETE), owed.EXECUTE, owed.SYNC)
    heard.replies.receive(PARSE_COMPLETE + row(b"1") + command_complete("SELECT 1"))
    assert b"".join(heard.out) == PARSE_COMPLETE + CLOSE_COMPLETE + row(b"1") + command_complete("SELECT 1")


def test_anything_may_answer_a_simple_query() -> None:
    heard = Heard(owed.QUERY)
    answer = ROW_DESCRIPTION + row(b"1") + command_complete("SELECT 1") + EMPTY_QUERY + error("22012", "no")
    heard.replies.receive(answer + COPY_IN + ready())
    assert b"".join(heard.out) == answer + COPY_IN + ready()
    assert heard.told == ["command SELECT 1", "error", "copy", "ready I"]


@pytest.mark.parametrize("answer", [BIND_COMPLETE, CLOSE_COMPLETE, NO_DATA, command_complete("SELECT 1"), EMPTY_QUERY])
def test_answer_to_something_else_ends_the_connection(answer: bytes) -> None:
    for entries in ((), (owed.PARSE,), (owed.SYNC,)):
        with pytest.raises(RemoteProtocolError, match="unexpected message"):
            Heard(*entries).replies.receive(answer)


@pytest.mark.parametrize(
    "answer",
    [
        frame(b"Z"),
        frame(b"Z", b"II"),
        BIND_COMPLETE + frame(b"D", b"\0"),
        BIND_COMPLETE + frame(b"D", b"\0\x02\0\0\0\0"),
        BIND_COMPLETE + command_complete("SELECT 1") + frame(b"T", b"\0\x01no end"),
    ],
)
def test_malformed_message_that_has_to_be_read_ends_the_connection(answer: bytes) -> None:
    batch = Batch(lambda values: None)
    look = Look(lambda parameters, columns: describe_shape(parameters, columns) and None)
    heard = Heard(
        Entry(Kind.BIND, is_ours=True, batch=batch),
        Entry(Kind.EXECUTE, is_ours=True, batch=batch),
        Entry(Kind.DESCRIBE, is_ours=True, look=look),
    )
    with pytest.raises(RemoteProtocolError, match="malformed"):
        heard.replies.receive(answer)


@pytest.mark.parametrize("length", [0, 3])
def test_impossible_length_ends_the_connection(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="impossible length"):
        Heard(owed.SYNC).replies.receive(b"Z" + length.to_bytes(4))


def test_rest_of_one_backends_bytes_is_not_mixed_with_anothers() -> None:
    heard = Heard(owed.QUERY)
    heard.replies.receive(row(b"x" * 50)[:20])
    assert heard.replies.is_amid_message
    heard.replies.reset()
    heard.replies.receive(ready())
    assert heard.told == ["ready I"]


def test_long_notice_is_passed_on_as_it_comes() -> None:
    heard = Heard(owed.QUERY)
    notice = b"N" + (4 + 300_000).to_bytes(4) + b"x" * 300_000
    heard.replies.receive(notice[:100_000])
    assert b"".join(heard.out) == notice[:100_000]
    assert heard.replies.is_amid_message
    heard.replies.receive(notice[100_000:] + ready())
    assert b"".join(heard.out) == notice + ready()
    assert heard.told == ["ready I"]


def test_pieces_of_a_long_error_are_joined_once() -> None:
    heard = Heard(owed.QUERY)
    long = frame(b"E", b"SERROR\0M" + b"x" * 300_000 + b"\0\0")
    for start in range(0, len(long), 1000):
        assert len(heard.replies._backlog) == start // 1000
        heard.replies.receive(long[start : start + 1000])
    assert heard.told == ["error"]
    heard.replies.receive(ready())
    assert b"".join(heard.out) == long + ready()


def test_error_that_is_too_long_to_be_kept_ends_it() -> None:
    heard = Heard(owed.QUERY)
    with pytest.raises(RemoteProtocolError, match="'E' of 1000000005 bytes"):
        heard.replies.receive(b"E" + (1_000_000_004).to_bytes(4) + b"SERROR\0Mxxxx")
