"""A program's messages, passed in runs where nothing is to be read, and rewritten where something is."""

from collections.abc import Callable

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire.effects import Effects
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Owed
from sqlhttp_gateway.wire.prepared import Sources, Undo
from sqlhttp_gateway.wire.requests import MAX_STATEMENTS, Requests
from sqlhttp_gateway.wire.session import BackendSession, Session
from tests.support.postgres_model import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    copy_data,
    describe,
    execute,
    function_call,
    parse,
    query,
)


class Reading:
    """Requests with lists to look into, and texts that wait as long as they are told to."""

    def __init__(self, *, max_message: int = 1000, has_backend: bool = True) -> None:
        self.out: list[bytes] = []
        self.replies: list[bytes] = []
        self.owed = Owed()
        self.waits = False
        self.ran: list[Effects] = []
        session = Session({})
        names = Naming(Sources(), session, self.owed)
        self.requests = Requests(
            waiting=self.owed,
            names=names,
            texts=self,
            to_backend=self.out,
            to_frontend=self.replies,
            max_message=max_message,
            is_plain=False,
        )
        self.requests.is_held = False
        if has_backend:
            names.attach(BackendSession({}, statement_cache_size=10))
            self.requests.attach()

    def has_to_wait(self, effects: Effects) -> bool:
        return self.waits

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        self.ran.append(effects)
        return b"", None

    def say_ready(self) -> None:
        self.replies.append(b"ready")


EVERYTHING = (
    query("SELECT 1")
    + parse("s", "SELECT $1")
    + bind("p", "s", "x" * 50)
    + describe("P", "p")
    + execute("p")
    + FLUSH
    + SYNC
    + function_call()
    + copy_data(b"x" * 50)
    + COPY_DONE
)
REWRITTEN = EVERYTHING.replace(
    parse("s", "SELECT $1"), parse("sqlhttp_t1", "SELECT $1") + describe("S", "sqlhttp_t1")
).replace(bind("p", "s", "x" * 50), bind("p", "sqlhttp_t1", "x" * 50))


def test_messages_come_to_the_same_however_they_are_cut() -> None:
    for size in (1, 2, 3, 7, 1000):
        reading = Reading()
        for at in range(0, len(EVERYTHING), size):
            reading.requests.receive(EVERYTHING[at : at + size])
        assert b"".join(reading.out) == REWRITTEN
        assert len(reading.owed) == 9  # one of them the Describe of ours


def test_run_of_messages_is_passed_in_one_piece() -> None:
    reading = Reading()
    data = query("SELECT 1") + FLUSH + execute("") + SYNC
    reading.requests.receive(data + query("SELECT 2")[:9])
    assert reading.out == [data]


def test_message_that_has_to_wait_holds_back_all_after_it_and_nothing_before() -> None:
    reading = Reading()
    reading.waits = True
    reading.requests.receive(query("SELECT 1") + query("LISTEN x") + SYNC)
    assert b"".join(reading.out) == query("SELECT 1")
    reading.requests.receive(FLUSH)
    assert b"".join(reading.out) == query("SELECT 1")
    reading.waits = False
    reading.requests.advance()
    assert b"".join(reading.out) == query("SELECT 1") + query("LISTEN x") + SYNC + FLUSH
    assert len(reading.ran) == 1


def test_text_is_told_of_when_it_runs_and_not_when_it_is_parsed() -> None:
    reading = Reading()
    reading.requests.receive(parse("", "SET a.b = 1") + bind("", ""))
    assert reading.ran == []
    reading.requests.receive(bind("other", "") + execute(""))
    assert [effects.sets for effects in reading.ran] == [("a.b",)]


def test_portal_bound_to_something_harmless_is_harmless() -> None:
    reading = Reading()
    reading.requests.receive(parse("", "SET a.b = 1") + bind("", "") + parse("", "SELECT 1") + bind("", ""))
    reading.requests.receive(execute(""))
    assert reading.ran == []


def test_after_an_error_everything_but_sync_is_passed_over() -> None:
    reading = Reading()
    reading.owed.is_skipping = True
    reading.requests.receive(parse("s", "SELECT 1") + query("SELECT 1") + FLUSH)
    assert reading.out == []
    reading.requests.receive(SYNC + query("SELECT 2"))
    assert b"".join(reading.out) == SYNC + query("SELECT 2")


def test_rest_of_a_long_message_that_is_passed_over_is_passed_over_too() -> None:
    reading = Reading()
    reading.owed.is_skipping = True
    message = bind("", "", "x" * 1000)
    reading.requests.receive(message[:100])
    assert reading.requests.is_amid_message
    reading.requests.receive(message[100:] + SYNC)
    assert b"".join(reading.out) == SYNC


def test_nothing_is_looked_at_while_held() -> None:
    reading = Reading()
    reading.requests.is_held = True
    reading.requests.receive(query("SELECT 1"))
    assert reading.out == []
    reading.requests.is_held = False
    reading.requests.advance()
    assert b"".join(reading.out) == query("SELECT 1")


def test_first_message_that_needs_a_backend_waits_for_one() -> None:
    reading = Reading(has_backend=False)
    reading.requests.receive(SYNC + FLUSH + copy_data(b"late") + describe("P", ""))
    assert reading.replies == [b"ready"]
    assert reading.requests.needs_backend
    assert reading.out == []


def test_what_a_refused_message_still_sends_is_dropped() -> None:
    reading = Reading(has_backend=False)
    call = function_call()
    reading.requests.receive(call[:7])
    assert reading.requests.needs_backend
    assert reading.requests.refuse()
    reading.requests.receive(call[7:] + SYNC)
    assert reading.replies == [b"ready"]
    assert not reading.requests.needs_backend


def test_more_statements_than_one_program_may_keep_are_refused() -> None:
    reading = Reading(max_message=100)
    for number in range(MAX_STATEMENTS):
        reading.requests.receive(parse(f"s{number}", "SELECT 1"))
    with pytest.raises(BadRequest, match="more than 10000 prepared statements"):
        reading.requests.receive(parse("one more", "SELECT 1"))


@pytest.mark.parametrize("build", [query, lambda text: parse("", text), lambda text: describe("S", text)])
def test_message_that_is_read_whole_is_bounded_as_soon_as_its_length_is_known(build: Callable[[str], bytes]) -> None:
    with pytest.raises(BadRequest, match="too large"):
        Reading(max_message=100).requests.receive(build("x" * 100)[:5])
