"""A program's bytes become messages, wherever they are cut; what is to be done with each, somebody else says."""

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire.cutting import QUERY, WAIT, Cutter, Edit, Wait
from sqlhttp_gateway.wire.owed import EXECUTE, Owed
from tests.support.postgres_model import (
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    copy_data,
    describe,
    execute,
    function_call,
    parse,
    query,
)


class Seen(Cutter):
    """Passes messages as they are, but for what it is told to put in place of queries, and notes where each began."""

    def __init__(self, *, max_message: int = 1000) -> None:
        self.owed, self.out = Owed(), list[bytes]()
        super().__init__(waiting=self.owed, to_backend=self.out, max_message=max_message)
        self.is_held = False
        self.tags: list[str] = []
        self.in_place: bytes | None = None
        self.waits = False
        self.known = b""
        self.closing = b""

    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        if tag == QUERY and self.waits:
            return WAIT
        self.tags.append(chr(tag))
        return (self.in_place, following) if tag == QUERY and self.in_place is not None else None

    def _pass_whole(self, data: bytes) -> bool:
        if data == self.known:
            self.out.append(b"known")
        return data == self.known

    def _sweep(self) -> bytes:
        closing, self.closing = self.closing, b""
        return closing

    @property
    def sent(self) -> bytes:
        """All that went to the backend since the last look."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def teach(self, lesson: bytes) -> None:
        """Have this answered before the message that waits."""
        self._lesson = lesson


MESSAGES = {
    "P": parse("s", "SELECT $1"),
    "B": bind("p", "s", "x" * 50),
    "D": describe("P", "p"),
    "E": execute("p"),
    "H": FLUSH,
    "S": SYNC,
    "Q": query("SELECT 1"),
    "F": function_call(),
    "d": copy_data(b"x" * 50),
}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
def test_each_message_is_seen_once_and_passed_however_the_bytes_are_cut(size: int) -> None:
    seen, data = Seen(), b"".join(MESSAGES.values())
    seen.owed.add(EXECUTE)
    for at in range(0, len(data), size):
        seen.receive(data[at : at + size])
    assert seen.tags == list(MESSAGES)
    assert seen.sent == data
    assert seen.is_open


def test_what_is_not_answered_begins_no_batch() -> None:
    seen = Seen()
    seen.receive(FLUSH + copy_data(b"late"))
    assert seen.sent == FLUSH + copy_data(b"late")
    assert not seen.is_open


def test_long_data_is_passed_as_it_comes() -> None:
    seen, data = Seen(max_message=100), copy_data(b"x" * 5000)
    seen.receive(data[:600])
    assert seen.sent == data[:600]
    assert seen.is_amid_message
    seen.receive(data[600:])
    assert seen.sent == data[600:]
    assert not seen.is_amid_message
    assert seen.tags == ["d"]


def test_text_is_waited_for_as_a_whole_and_bounded() -> None:
    seen = Seen(max_message=100)
    seen.receive(query("SELECT 1")[:9])
    assert (seen.tags, seen.sent) == ([], b"")
    seen.receive(query("SELECT 1")[9:])
    assert seen.sent == query("SELECT 1")
    with pytest.raises(BadRequest, match="a message of 502 bytes is too large"):
        seen.receive(query("x" * 496)[:5])


def test_bind_is_passed_on_once_both_names_are_there() -> None:
    seen, data = Seen(), bind("portal", "statement", "x" * 500)
    names_end = data.index(b"statement\0") + len(b"statement\0")
    seen.receive(data[: names_end - 1])
    assert seen.sent == b""
    seen.receive(data[names_end - 1 : names_end])
    assert seen.sent == data[:names_end]


def test_what_stands_in_place_of_a_message_goes_between_its_neighbours() -> None:
    seen = Seen()
    seen.in_place = b"instead"
    seen.receive(FLUSH + query("SELECT 1") + SYNC)
    assert seen.sent == FLUSH + b"instead" + SYNC
    seen.in_place = b""
    seen.receive(FLUSH + query("SELECT 1") + SYNC)
    assert seen.sent == FLUSH + SYNC


def test_message_that_waits_sends_its_lesson_once() -> None:
    seen = Seen()
    seen.waits = True
    seen.teach(b"lesson")
    seen.receive(FLUSH + query("SELECT 1") + SYNC)
    assert seen.sent == FLUSH + b"lesson"
    seen.advance()
    assert seen.sent == b""
    seen.waits = False
    seen.advance()
    assert seen.sent == query("SELECT 1") + SYNC


def test_what_is_swept_goes_in_front_of_a_message_that_finds_nothing_open() -> None:
    seen = Seen()
    seen.closing = b"close"
    seen.receive(SYNC + query("SELECT 1"))
    assert seen.sent == SYNC + b"close" + query("SELECT 1")


def test_what_is_known_at_sight_is_not_cut() -> None:
    seen = Seen()
    seen.known = query("SELECT 1")
    seen.receive(seen.known)
    assert (seen.tags, seen.sent) == ([], b"known")
    seen.receive(seen.known[:6])
    seen.receive(seen.known[6:])
    assert (seen.tags, seen.sent) == (["Q"], seen.known)


def test_nothing_after_goodbye_is_looked_at() -> None:
    seen = Seen()
    seen.receive(FLUSH + TERMINATE + SYNC)
    seen.receive(SYNC)
    assert seen.is_terminated
    assert seen.sent == FLUSH


def test_first_batch_ends_with_what_is_answered_by_ready_for_query() -> None:
    seen = Seen()
    seen.is_held = True
    seen.receive(MESSAGES["E"] + SYNC + query("SELECT 1"))
    assert seen.send_first()
    assert seen.sent == MESSAGES["E"] + SYNC
    seen.proven()
    seen.is_held = False
    seen.advance()
    assert seen.sent == query("SELECT 1")


def test_first_batch_without_an_end_is_flushed() -> None:
    seen = Seen()
    seen.is_held = True
    seen.receive(MESSAGES["E"] + SYNC[:3])
    assert seen.send_first()
    assert seen.sent == MESSAGES["E"] + FLUSH


def test_what_was_sent_in_vain_is_read_again() -> None:
    seen = Seen()
    seen.is_held = True
    seen.receive(query("SELECT 1") + query("SELECT 2"))
    assert seen.send_first()
    assert seen.sent == query("SELECT 1")
    seen.take_back()
    seen.is_held = False
    seen.advance()
    assert seen.sent == query("SELECT 1") + query("SELECT 2")


def test_nothing_to_send_first_is_told() -> None:
    seen = Seen()
    seen.is_held = True
    assert not seen.send_first()
    assert seen.sent == b""


def test_refusal_passes_over_one_message_or_the_batch_up_to_its_sync() -> None:
    seen, call = Seen(), function_call()
    seen.is_held = True
    seen.receive(call)
    assert seen.refuse()
    seen.is_held = False
    seen.advance()
    seen.receive(SYNC)
    assert (seen.tags, seen.sent) == (["S"], SYNC)
    batch = Seen()
    batch.is_held = True
    batch.receive(MESSAGES["E"])
    assert not batch.refuse()
    assert batch.owed.is_skipping
