"""Statements by any name: shared texts, bounded names, and none that is older than it may be."""

import gc
from struct import pack

from sqlhttp_gateway.wire.effects import NO_EFFECTS
from sqlhttp_gateway.wire.prepared import (
    BackendStatements,
    Prepared,
    ProgramStatements,
    Source,
    Sources,
    describe_shape,
)

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


def test_statement_is_known_by_its_name_and_since_when() -> None:
    statements = BackendStatements(size=10)
    entry = statements.add("key", generation=5)
    assert (entry.name, entry.generation, entry.shape) == (b"sqlhttp_t1", 5, None)
    assert statements.find("key") is entry
    assert statements.find("other") is None
    assert statements.key_of(b"sqlhttp_t1") == "key"
    assert statements.key_of(b"sqlhttp_t2") is None


def test_statement_made_anew_gets_a_new_name_and_the_old_one_is_closed_later() -> None:
    statements = BackendStatements(size=10)
    old, new = statements.add("key", generation=1), statements.add("key", generation=2)
    assert old.name != new.name
    assert statements.find("key") is new
    assert statements.take_closing() == [old.name]
    assert statements.take_closing() == []


def test_least_recently_used_goes_first() -> None:
    statements = BackendStatements(size=2)
    a, b = statements.add("a", generation=1), statements.add("b", generation=1)
    assert statements.find("a") is a
    statements.add("c", generation=1)
    assert statements.take_closing() == [b.name]
    assert (statements.find("a"), statements.find("b")) == (a, None)


def test_statement_that_was_not_made_is_no_longer_found() -> None:
    statements = BackendStatements(size=2)
    name = statements.add("a", generation=1).name
    statements.discard_name(name)
    statements.discard_name(b"unknown")
    assert statements.find("a") is None
    assert statements.take_closing() == [name]  # harmless where it never came to be


def test_what_the_server_may_have_dropped_is_closed_and_what_it_has_dropped_is_not() -> None:
    statements = BackendStatements(size=2)
    name = statements.add("a", generation=1).name
    statements.discard_all()
    assert (len(statements), statements.take_closing()) == (0, [name])
    statements.add("a", generation=1)
    statements.discard_all()
    statements.close_later(b"s")
    statements.forget()
    assert statements.take_closing() == []


def test_names_are_never_used_twice() -> None:
    statements = BackendStatements(size=1)
    names = [statements.add("a", generation=1).name]
    statements.forget()
    names += [statements.add("a", generation=1).name, statements.add("b", generation=1).name]
    assert len(set(names)) == 3


def column(
    name: bytes, *, table: int = 1, number: int = 1, type_: int = 25, size: int = -1, modifier: int = -1
) -> bytes:
    return name + b"\0" + pack("!IhIhih", table, number, type_, size, modifier, 0)


def test_shape_is_of_parameters_and_of_names_types_and_modifiers_of_columns() -> None:
    one = b"\0\x01" + column(b"a")
    shape = describe_shape(b"\0\0", one)
    assert describe_shape(b"\0\0", b"\0\x01" + column(b"a", table=2, number=3)) == shape
    others = [
        describe_shape(b"\0\x01\0\0\0\x17", one),
        describe_shape(b"\0\0", None),
        describe_shape(b"\0\0", b"\0\x01" + column(b"b")),
        describe_shape(b"\0\0", b"\0\x01" + column(b"a", type_=23)),
        describe_shape(b"\0\0", b"\0\x01" + column(b"a", modifier=8)),
        describe_shape(b"\0\0", b"\0\x02" + column(b"a") + column(b"b")),
    ]
    assert len({shape, *others}) == 7


# ── a program's names ────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(text: str) -> Prepared:
    return Prepared(Source(text.encode() + b"\0\0\0"), 0)


def test_name_stands_for_what_was_sent_last_as_if_it_worked() -> None:
    names, one = ProgramStatements(), prepared("SELECT 1")
    names.define(b"s", one)
    assert names.get(b"s") is one
    assert (b"s" in names, len(names), names.named()) == (True, 1, [b"s"])
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
