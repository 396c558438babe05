"""Statements by any name: shared texts, bounded names, and none that is older than it may be."""

import gc

from sqlhttp_gateway.wire.effects import NO_EFFECTS
from sqlhttp_gateway.wire.prepared import BackendStatements, Prepared, ProgramStatements, Source, Sources

TAIL = b"SELECT $1\0\0\x01\0\0\0\x17"


def test_source_is_parsed_under_any_name() -> None:
    source = Source(TAIL)
    assert source.parse(b"p1") == b"P\0\0\0\x17p1\0SELECT $1\0\0\x01\0\0\0\x17"
    assert source.parse(b"") == b"P\0\0\0\x15\0SELECT $1\0\0\x01\0\0\0\x17"
    assert source.effects is NO_EFFECTS
    assert Source(b"SET a = 1\0\0\0").effects.sets == ("a",)


def test_equal_texts_are_kept_once_and_only_while_somebody_has_them() -> None:
    sources = Sources()
    one, other = sources.get(TAIL), sources.get(bytes(bytearray(TAIL)))
    assert one is other
    assert sources.get(b"SELECT 2\0\0\0") is not one
    del one, other
    gc.collect()
    assert len(sources) == 0


def test_generations_grow() -> None:
    sources = Sources()
    assert sources.next_generation() < sources.next_generation()


def test_statement_is_found_where_it_is_young_enough() -> None:
    statements = BackendStatements(size=10)
    name = statements.add("key", generation=5)
    assert name == b"sqlhttp_t1"
    assert statements.find("key", since=5) == name
    assert statements.find("key", since=6) is None
    assert statements.find("other", since=0) is None


def test_statement_made_anew_gets_a_new_name_and_the_old_one_is_closed_later() -> None:
    statements = BackendStatements(size=10)
    old, new = statements.add("key", generation=1), statements.add("key", generation=2)
    assert old != new
    assert statements.find("key", since=2) == new
    assert statements.take_closing() == [old]
    assert statements.take_closing() == []


def test_least_recently_used_goes_first() -> None:
    statements = BackendStatements(size=2)
    a, b = statements.add("a", generation=1), statements.add("b", generation=1)
    assert statements.find("a", since=0) == a
    statements.add("c", generation=1)
    assert statements.take_closing() == [b]
    assert (statements.find("a", since=0), statements.find("b", since=0)) == (a, None)


def test_statement_that_was_not_made_is_no_longer_found() -> None:
    statements = BackendStatements(size=2)
    name = statements.add("a", generation=1)
    statements.discard_name(name)
    statements.discard_name(b"unknown")
    assert statements.find("a", since=0) is None
    assert statements.take_closing() == [name]  # harmless where it never came to be


def test_what_the_server_may_have_dropped_is_closed_and_what_it_has_dropped_is_not() -> None:
    statements = BackendStatements(size=2)
    name = statements.add("a", generation=1)
    statements.discard_all()
    assert (len(statements), statements.take_closing()) == (0, [name])
    statements.add("a", generation=1)
    statements.discard_all()
    statements.forget()
    assert statements.take_closing() == []


def test_names_are_never_used_twice() -> None:
    statements = BackendStatements(size=1)
    names = [statements.add("a", generation=1)]
    statements.forget()
    names += [statements.add("a", generation=1), statements.add("b", generation=1)]
    assert len(set(names)) == 3


# ── a program's names ────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(text: str) -> Prepared:
    return Prepared(Source(text.encode() + b"\0\0\0"), 0)


def test_name_stands_for_what_was_sent_last_as_if_it_worked() -> None:
    names, one = ProgramStatements(), prepared("SELECT 1")
    names.define(b"s", one)
    assert names.get(b"s") is one
    assert (b"s" in names, len(names), names.named(), names.name_of(one.source)) == (True, 1, [b"s"], b"s")
    names.drop([b"s"])
    assert names.get(b"s") is None
    assert names.named() == [b"s"]  # it may come back


def test_parse_that_was_passed_over_changes_nothing_and_one_that_failed_drops_the_unnamed() -> None:
    for was_tried in (False, True):
        names, one = ProgramStatements(), prepared("SELECT 1")
        names.put(b"", one)
        names.define(b"", prepared("SELECT 2"))(was_tried)
        assert names.get(b"") is (None if was_tried else one)


def test_changes_are_taken_back_in_any_order() -> None:
    names, one, two, three = ProgramStatements(), prepared("1"), prepared("2"), prepared("3")
    names.put(b"", one)
    undo_two = names.define(b"", two)
    names.batch_sent()
    undo_three = names.define(b"", three)
    names.batch_sent()
    undo_two(False)
    assert names.get(b"") is three
    names.batch_answered()
    undo_three(False)
    assert names.get(b"") is one


def test_change_behind_one_that_is_taken_back_stays() -> None:
    names, one = ProgramStatements(), prepared("1")
    names.put(b"s", one)
    _, undo_first = names.drop([b"s"])
    names.batch_sent()
    dropped, undo_second = names.drop([b"s"])
    assert dropped == []
    assert undo_first is not None
    assert undo_second is not None
    undo_first(False)
    assert names.get(b"s") is None
    undo_second(False)
    assert names.get(b"s") is one


def test_doubt_lasts_until_the_batch_is_answered() -> None:
    names = ProgramStatements()
    names.define(b"s", prepared("1"))
    assert not names.is_in_doubt(b"s")  # nothing within a batch can rest on what fails in it
    names.batch_sent()
    assert names.is_in_doubt(b"s")
    assert names.is_fresh(b"s")
    names.drop([b"s"])
    assert not names.is_fresh(b"s")
    names.batch_sent()
    names.batch_answered()
    assert names.is_in_doubt(b"s")
    names.batch_answered()
    assert not names.is_in_doubt(b"s")
    assert names.named() == []


def test_program_that_never_stops_sending_leaves_no_history() -> None:
    names = ProgramStatements()
    for _ in range(10):
        names.define(b"", prepared("1"))
        names.batch_sent()
        names.define(b"", prepared("2"))
        names.batch_sent()
        names.batch_answered()
        names.batch_answered()
    assert not names.is_in_doubt(b"")
    names.define(b"", prepared("3"))(True)
    assert names.get(b"") is None
