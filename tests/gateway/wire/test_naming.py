"""Which name a statement has on the backend, and what has to be sent first; see test_pipeline.py for the whole."""

import pytest

from sqlhttp_gateway.wire.effects import ALL, Effects
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Kind, Owed
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession, Session
from tests.support.postgres_model import close, describe, error, parse

TAIL = b"SELECT 1\0\0\0"
OTHER_TAIL = b"SELECT 2\0\0\0"


def named(name: str, text: str) -> bytes:
    """A Parse under a name of ours, and the Describe that follows it."""
    return parse(name, text) + describe("S", name)


class Desk:
    """A program's names, on a backend."""

    def __init__(self, *, size: int = 100) -> None:
        self.owed = Owed()
        self.session = Session({})
        self.names = Naming(Sources(), self.session, self.owed)
        self.backend = BackendSession({}, statement_cache_size=size)
        self.names.attach(self.backend)

    def taken(self) -> list[tuple[Kind, bool]]:
        """What is owed: of which kind, and whether it is for the program. Forgotten afterwards."""
        entries = []
        while self.owed.first is not None:
            entries.append((self.owed.first.kind, not self.owed.first.is_ours))
            self.owed.pop()
        return entries

    def end_batch(self) -> None:
        self.names.program.batch_sent()

    def answer_batch(self) -> None:
        self.owed.clear()
        self.names.program.batch_answered()
        self.names.settle()


def test_everything_sent_besides_the_programs_own_messages_is_owed_to_us() -> None:
    desk = Desk()
    look = describe("S", "sqlhttp_t1")
    assert desk.names.define(b"s", TAIL) == (b"", b"sqlhttp_t1", look)
    assert desk.taken() == [(Kind.PARSE, True), (Kind.DESCRIBE, False)]
    desk.names.attach(BackendSession({}, statement_cache_size=100))
    assert desk.names.use(b"s") == (parse("sqlhttp_t1", "SELECT 1") + look, b"sqlhttp_t1")
    assert desk.taken() == [(Kind.PARSE, False), (Kind.DESCRIBE, False)]
    assert desk.names.use(b"") == (close("S", ""), b"")
    assert desk.taken() == [(Kind.CLOSE, False)]
    desk.names.define(b"s", OTHER_TAIL)
    assert desk.taken() == [(Kind.CLOSE, False), (Kind.PARSE, False), (Kind.PARSE, True)]


def test_what_was_taught_in_a_batch_that_may_have_failed_is_taught_again() -> None:
    desk = Desk()
    desk.names.define(b"s", TAIL)
    desk.end_batch()
    desk.answer_batch()
    desk.names.attach(BackendSession({}, statement_cache_size=100))
    assert desk.names.use(b"s")[1] == b"sqlhttp_t1"
    assert desk.names.use(b"s") == (b"", b"sqlhttp_t1")  # within the batch nothing can rest on a failure
    desk.end_batch()
    assert desk.names.use(b"s") == (named("sqlhttp_t2", "SELECT 1"), b"sqlhttp_t2")
    desk.end_batch()
    desk.answer_batch()
    desk.answer_batch()
    assert desk.names.use(b"s") == (b"", b"sqlhttp_t2")


def test_unnamed_statement_of_a_batch_that_may_have_failed_is_not_relied_on() -> None:
    desk = Desk(size=0)
    desk.names.define(b"s", TAIL)
    desk.end_batch()
    desk.answer_batch()
    desk.names.attach(BackendSession({}, statement_cache_size=0))
    assert desk.names.use(b"s") == (parse("", "SELECT 1"), b"")
    assert desk.names.use(b"s") == (b"", b"")
    desk.end_batch()
    assert desk.names.use(b"s") == (parse("", "SELECT 1"), b"")


def test_simple_query_that_may_have_been_passed_over_has_not_surely_dropped_anothers_unnamed_statement() -> None:
    desk = Desk()
    desk.names.query()
    assert desk.names.use(b"") == (b"", b"")
    desk.end_batch()
    assert desk.names.use(b"") == (close("S", ""), b"")


def test_fresh_statement_may_be_used_before_its_batch_is_answered_under_its_own_name_only() -> None:
    desk = Desk()
    desk.names.define(b"a", TAIL)
    desk.end_batch()
    assert not desk.names.is_in_doubt(b"a")
    assert desk.names.use(b"a") == (b"", b"sqlhttp_t1")
    desk.names.define(b"b", TAIL)  # the same text, so the backend knows it under b's name now
    desk.end_batch()
    assert desk.names.is_in_doubt(b"a")
    assert not desk.names.is_in_doubt(b"b")


def test_statement_that_is_dropped_or_defined_anew_is_in_doubt_until_answered() -> None:
    desk = Desk()
    desk.names.define(b"a", TAIL)
    desk.names.define(b"", TAIL)
    desk.end_batch()
    desk.answer_batch()
    desk.names.close(b"a")
    desk.names.define(b"", OTHER_TAIL)
    assert not desk.names.is_in_doubt(b"a")
    desk.end_batch()
    assert desk.names.is_in_doubt(b"a")
    assert desk.names.is_in_doubt(b"")
    assert desk.names.needs_certainty(Effects(deallocates=(b"a",)))
    desk.answer_batch()
    assert not desk.names.is_in_doubt(b"a")


def test_name_that_was_lent_is_taken_back_before_it_could_be_mistaken_for_the_programs() -> None:
    desk = Desk()
    desk.names.define(b"s", TAIL)
    first, undo = desk.names.run(Effects(deallocates=(b"s",)))
    assert first == close("S", "s") + parse("s", "")
    assert undo is not None
    assert desk.names.use(b"s") == (close("S", "s"), b"s")
    undo(True)
    assert desk.names.use(b"s") == (b"", b"sqlhttp_t1")
    assert close("S", "s") in desk.names.close_evicted()


def test_name_of_ours_is_never_lent() -> None:
    desk = Desk()
    desk.names.define(b"sqlhttp_t9", TAIL)
    assert desk.names.run(Effects(deallocates=(b"sqlhttp_t9",)))[0] == b""


def test_deallocate_all_makes_everything_unknown_on_both_sides() -> None:
    desk = Desk()
    desk.names.define(b"s", TAIL)
    desk.names.run(Effects(deallocates=(ALL,)))
    assert desk.names.use(b"s") == (b"", b"s")
    assert len(desk.backend.statements) == 0
    desk.names.define(b"s", TAIL)
    desk.names.dropped_all()  # the tag of the one that was seen coming
    assert desk.names.use(b"s") == (b"", b"sqlhttp_t2")
    desk.names.dropped_all()  # one that was not
    assert desk.names.use(b"s") == (b"", b"s")


@pytest.mark.parametrize("quote", ['"{}"', "«{}»"])
def test_errors_are_read_in_any_language(quote: str) -> None:
    desk = Desk()
    desk.names.define(b"s", TAIL)
    told = desk.names.with_own_names(error("08P01", quote.format("sqlhttp_t1")))
    assert told == error("08P01", quote.format("s"))
    other = error("08P01", quote.format("sqlhttp_t77"))
    assert desk.names.with_own_names(other) == other


def test_statement_that_the_server_has_lost_is_taught_again() -> None:
    desk = Desk()
    desk.names.define(b"s", TAIL)
    desk.names.with_own_names(error("26000", 'prepared statement "sqlhttp_t1" does not exist'))
    assert desk.names.use(b"s")[0] == named("sqlhttp_t2", "SELECT 1")


def test_statement_of_the_gateways_own_is_known_once_the_backend_was_taught_it() -> None:
    desk = Desk()
    source = Sources().get(TAIL)
    assert desk.names.ours(source) is None
    _, name, _ = desk.names.teach_ours(source)
    assert desk.names.ours(source) == name


@pytest.mark.parametrize(("text", "is_shared"), [(b"SELECT 1", True), (b"SELECT 'today'::date", False)])
def test_text_of_its_moment_is_not_had_from_before(text: bytes, is_shared: bool) -> None:
    """'today' stands for the day on which it was parsed: what another parsed earlier may be yesterday's."""
    tail = text + b"\0\0\0"
    sources = Sources()
    source = sources.get(tail)  # which is kept only as long as somebody does
    source.is_proven = True
    earlier, later = (Naming(sources, Session({}), Owed()) for _ in range(2))
    shared, own = (BackendSession({}, statement_cache_size=100) for _ in range(2))
    earlier.attach(shared)
    earlier.define(b"s", tail)
    assert later.is_known_elsewhere(b"s", tail) is is_shared
    later.attach(own)
    later.define(b"s", tail)
    for names in (earlier, later):
        names.program.batch_sent()
        names.settle()
        prepared = names.program.get(b"s")
        assert prepared is not None
        prepared.shape = b"a date"
    entry = shared.statements.find((source, None))
    assert entry is not None
    entry.shape = b"a date"
    later.detach()
    later.attach(shared)
    assert (later.ready(b"s") is not None) is is_shared
    first, name = later.use(b"s")
    assert (first == b"" and name == entry.name) is is_shared
