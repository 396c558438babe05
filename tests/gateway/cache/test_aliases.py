import sys

import pytest

from sqlhttp_gateway.cache.aliases import MAX_BODY, OVERHEAD, Aliases
from sqlhttp_gateway.cache.policy import Asked, Question, Scope
from sqlhttp_gateway.model import Options, Statement
from sqlhttp_gateway.neon.caching import Wish

SCOPE = Scope("default", "main", "app", "app", "key:1")
ASKED = Asked(b"max-age=60", None, b"", b"")
OPTIONS = Options()
SIZE = OVERHEAD + 2 * len(b"body-0") + len(b"max-age=60")


def question(key: bytes = b"key", scope: Scope = SCOPE) -> Question:
    return Question(scope, Statement("SELECT 1"), key, Wish(60, None, ()))


def filled(aliases: Aliases, count: int) -> Aliases:
    for number in range(count):
        aliases.remember(question(b"%d" % number), OPTIONS, ASKED, b"body-%d" % number)
    return aliases


def known(aliases: Aliases, count: int) -> list[int]:
    """Which of so many bodies are recognized."""
    return [number for number in range(count) if aliases.find(SCOPE, OPTIONS, ASKED, b"body-%d" % number)]


def test_body_that_came_before_is_recognized_for_its_own_caller_alone() -> None:
    aliases, asked = Aliases(10 * SIZE), question()
    aliases.remember(asked, OPTIONS, ASKED, b"body")
    assert aliases.find(SCOPE, OPTIONS, ASKED, b"body") is asked
    assert aliases.find(SCOPE._replace(claims=b"{}"), OPTIONS, ASKED, b"body") is None
    assert aliases.find(SCOPE, Options(raw_text=True), ASKED, b"body") is None
    assert aliases.find(SCOPE, OPTIONS, ASKED._replace(control=b"max-age=1"), b"body") is None


def test_long_body_is_read_each_time() -> None:
    aliases = Aliases(10 * MAX_BODY)
    for size in (MAX_BODY, MAX_BODY + 1):
        aliases.remember(question(), OPTIONS, ASKED, b"x" * size)
    assert len(aliases) == 1


def test_what_came_first_makes_room_when_the_bytes_are_used_up() -> None:
    aliases = filled(Aliases(3 * SIZE), 5)
    assert known(aliases, 5) == [2, 3, 4]
    assert aliases.size == 3 * SIZE


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        (SCOPE._replace(claims=b"c" * 3 * SIZE), ASKED),
        (SCOPE, ASKED._replace(tags=b"t" * 3 * SIZE)),
        (SCOPE, ASKED._replace(url_query=b"q" * 3 * SIZE)),
    ],
)
def test_what_comes_with_a_body_takes_room_as_well(scope: Scope, asked: Asked) -> None:
    aliases = Aliases(3 * SIZE)
    aliases.remember(question(scope=scope), OPTIONS, asked, b"body")
    assert len(aliases) == 0


def test_questions_whose_answer_is_gone_are_forgotten() -> None:
    aliases = filled(Aliases(10 * SIZE), 5)
    aliases.forget_unless({b"1", b"3"}.__contains__)
    assert known(aliases, 5) == [1, 3]
    assert aliases.size == 2 * SIZE


def test_same_body_again_takes_its_room_once() -> None:
    aliases = filled(filled(Aliases(10 * SIZE), 1), 1)
    assert (len(aliases), aliases.size) == (1, SIZE)


def test_beginning_anew_forgets_all_and_has_the_new_room() -> None:
    aliases = filled(Aliases(10 * SIZE), 5)
    aliases.clear(SIZE)
    assert (len(aliases), aliases.size) == (0, 0)
    assert known(filled(aliases, 2), 2) == [1]


def test_objects_around_a_body_take_no_more_than_is_counted() -> None:
    scope = Scope("default", "main", "app", "app", "key:1")
    asked = Asked(b"max-age=60", None, b"", b"")
    whole = Question(scope, Statement("SELECT 1", (b"1",)), bytes(20), Wish(60.5, 0.5, ("tag",)))
    key = (scope, False, False, asked, b"body")
    place_in_table = 200  # an entry of a dict, and a link of OrderedDict
    objects = (scope, asked, whole, whole.statement, whole.statement.params, whole.wish, whole.key, key)
    assert sum(map(sys.getsizeof, objects)) + place_in_table < OVERHEAD
