"""Which message an answer belongs to, through errors and COPY."""

from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC
from sqlhttp_gateway.wire.owed import Entry, Kind, Owed
from sqlhttp_gateway.wire.runs import BEHIND_BIND


def queue(*entries: Entry) -> Owed:
    waiting = Owed()
    for entry in entries:
        waiting.add(entry)
    return waiting


def local(reply: bytes) -> Entry:
    return Entry(Kind.LOCAL, reply=reply)


def test_what_we_say_ourselves_comes_in_its_turn() -> None:
    waiting = queue(owed.PARSE, local(b"a"), local(b"b"), owed.BIND, local(b"c"), owed.SYNC)
    assert waiting.pop() == b"ab"
    assert waiting.first is owed.BIND
    assert waiting.pop() == b"c"
    assert waiting.pop() == b""
    assert waiting.first is None


def test_error_passes_over_everything_up_to_the_next_sync() -> None:
    waiting = queue(owed.PARSE, owed.QUERY, local(b"a"), owed.SYNC, owed.QUERY)
    assert waiting.fail() == 1  # the query among them gets no ReadyForQuery
    assert waiting.first is owed.SYNC
    assert not waiting.is_skipping
    assert len(waiting) == 2


def test_error_without_a_sync_sent_yet_passes_over_what_is_still_to_be_sent() -> None:
    waiting = queue(owed.BIND, owed.EXECUTE)
    assert waiting.fail() == 0
    assert (waiting.first, waiting.is_skipping) == (None, True)


def test_assumptions_are_taken_back_last_first_and_know_which_was_tried() -> None:
    told: list[tuple[str, bool]] = []
    first = Entry(Kind.PARSE, undo=lambda was_tried: told.append(("first", was_tried)))
    second = Entry(Kind.PARSE, undo=lambda was_tried: told.append(("second", was_tried)))
    beyond = Entry(Kind.PARSE, undo=lambda was_tried: told.append(("beyond", was_tried)))
    queue(first, owed.BIND, second, owed.SYNC, beyond).fail()
    assert told == [("second", False), ("first", True)]


def test_copy_swallows_a_sync_that_was_sent_ahead_of_its_data() -> None:
    waiting = queue(owed.EXECUTE, owed.SYNC)
    assert waiting.enter_copy() == 1
    assert waiting.in_copy
    assert waiting.pop() == b""
    assert waiting.first is None


def test_copy_whose_end_was_sent_already_swallows_only_what_came_before_it() -> None:
    waiting = queue(owed.EXECUTE, owed.SYNC, owed.COPY_END, owed.SYNC, owed.QUERY)
    assert waiting.enter_copy() == 1
    assert not waiting.in_copy
    waiting.pop()
    assert waiting.first is owed.SYNC
    assert len(waiting) == 2


def test_end_of_a_copy_that_never_was_is_passed_over() -> None:
    waiting = queue(owed.QUERY, owed.COPY_END, owed.SYNC)
    assert waiting.pop() == b""
    assert waiting.first is owed.SYNC


def test_error_during_copy_ends_it() -> None:
    waiting = queue(owed.EXECUTE)
    waiting.enter_copy()
    waiting.fail()
    assert (waiting.in_copy, waiting.is_skipping) == (False, True)


def test_what_goes_ahead_comes_first_and_leaves_what_is_said_of_the_rest() -> None:
    waiting = Owed()
    run = BEHIND_BIND[EXECUTE + SYNC]
    waiting.add_all(run.entries, run.answers)
    waiting.put_ahead()
    assert (waiting.first, waiting.answers) == (owed.AHEAD, run.answers)
    assert waiting.pop_ahead() == b""
    assert (waiting.first, waiting.answers) == (owed.BIND, run.answers)


def test_what_we_say_ourselves_waits_for_what_goes_ahead() -> None:
    waiting = queue(owed.AHEAD, local(b"a"), owed.SYNC)
    assert waiting.ends_in_sync
    assert waiting.pop_ahead() == b"a"
    assert waiting.first is owed.SYNC


def test_backend_that_was_not_clean_has_tried_nothing() -> None:
    told: list[tuple[str, bool]] = []
    first = Entry(Kind.PARSE, undo=lambda was_tried: told.append(("first", was_tried)))
    second = Entry(Kind.QUERY, undo=lambda was_tried: told.append(("second", was_tried)))
    waiting = queue(owed.AHEAD, first, owed.BIND, second)
    assert not waiting.ends_in_sync
    waiting.take_back()
    assert told == [("second", False), ("first", False)]
    assert len(waiting) == 0
