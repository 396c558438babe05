"""What a client remembers of what it has seen."""

import threading

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
