"""What a client remembers of what it has seen."""

import os
import signal
import threading

import pytest

from sqlhttp import _bookmark
from sqlhttp._bookmark import HEADER, Bookmark


def told(value: str) -> dict[str, str]:
    return {HEADER.lower(): value}


def test_latest_bookmark_stays_whichever_answer_comes_last() -> None:
    bookmark = Bookmark()
    for value in ("v1-b", "v1-c", "v1-a"):
        bookmark.note(told(value))
    assert bookmark.value == "v1-c"


def test_answer_without_one_changes_nothing() -> None:
    bookmark = Bookmark("v1-a")
    bookmark.note({"content-type": "application/json"})
    assert bookmark.value == "v1-a"


def test_forgotten_bookmark_makes_room_for_any() -> None:
    bookmark = Bookmark("v1-c")
    bookmark.forget()
    assert bookmark.value is None
    bookmark.note(told("v1-a"))
    assert bookmark.value == "v1-a"


def test_threads_cannot_take_it_back() -> None:
    bookmark = Bookmark()
    values = [f"v1-{number:06}" for number in range(20_000)]

    def note(part: list[str]) -> None:
        for each in part:
            bookmark.note(told(each))

    threads = [threading.Thread(target=note, args=(part,)) for part in (values[::2], values[1::2])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bookmark.value == values[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_while_another_thread_notes_one_does_not_hang() -> None:
    bookmark = Bookmark()
    with _bookmark._noting:
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # its end, should it wait for ever
            bookmark.note(told("v1-a"))
            os._exit(0 if bookmark.value == "v1-a" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
