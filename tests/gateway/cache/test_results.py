from collections.abc import Callable

import pytest

from sqlhttp_gateway.cache.policy import Asked, Question, Scope
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.store import Entry
from sqlhttp_gateway.model import Options, Statement
from sqlhttp_gateway.neon.caching import Wish
from sqlhttp_gateway.settings import CacheSettings
from tests.gateway.cache.test_store import Clock

PLACE = ("default", "main")
SCOPE = Scope(*PLACE, "app", "app", "key:1")
ASKED = Asked(b"max-age=60", None, b"", b"")


@pytest.fixture
def cache() -> ResultCache:
    return ResultCache(CacheSettings(), Clock())


def question(*tags: str, ttl: float | None = 60, swr: float | None = None, scope: Scope = SCOPE) -> Question:
    return Question(scope, Statement("SELECT 1"), b"key", Wish(ttl, swr, tags))


def put(cache: ResultCache, asked: Question, relations: list[str] | None) -> Entry:
    entry = Entry(
        key=asked.key,
        body=b"{}",
        row_count=1,
        began=cache.stamps.now(),
        ttl=asked.ttl,
        swr=asked.swr,
        cost=0.1,
        buckets=cache.buckets(asked, relations),
        place=PLACE,
        text="SELECT 1",
    )
    cache.store.put(entry)
    return entry


def pass_time(cache: ResultCache, seconds: float) -> None:
    assert isinstance(cache.stamps, Clock)
    cache.stamps.at += int(seconds * 1e9)


def test_answer_is_fresh_then_stale_then_nothing(cache: ResultCache) -> None:
    asked = question(ttl=60, swr=30)
    put(cache, asked, [])
    found = cache.find(asked)
    assert found is not None
    assert (found.age, found.left) == (0, 60)
    pass_time(cache, 70)
    found = cache.find(asked)
    assert found is not None
    assert (found.age, found.left) == (70, -10)
    pass_time(cache, 20)
    assert cache.find(asked) is None


def test_whoever_wants_it_younger_does_not_get_an_older_one(cache: ResultCache) -> None:
    put(cache, question(ttl=60), [])
    pass_time(cache, 10)
    assert cache.find(question(ttl=5)) is None
    assert cache.find(question(ttl=20)) is not None
    assert cache.find(question(ttl=None)) is not None


def test_whoever_takes_it_older_gets_it_no_longer_than_it_was_watched(cache: ResultCache) -> None:
    """Changes are noted only as long as somebody said that an answer is kept."""
    put(cache, question(ttl=10), [])
    pass_time(cache, 11)
    assert cache.find(question(ttl=1000)) is None


Ending = Callable[[ResultCache], None]


@pytest.mark.parametrize(
    "ending",
    [
        lambda cache: cache.changed(PLACE, ["public.users"]),
        lambda cache: cache.changed(PLACE, None),
        lambda cache: cache.schema_changed(PLACE),
        lambda cache: cache.invalidate(PLACE, tenant=None, tags=["u"]),
        lambda cache: cache.invalidate(PLACE, tenant="key:1", tags=["u"]),
        lambda cache: cache.invalidate(PLACE, tenant=None, relations=["public.users"]),
        lambda cache: cache.invalidate(PLACE, tenant="key:1", relations=["public.users"]),
        lambda cache: cache.invalidate_all(PLACE, tenant=None),
        lambda cache: cache.invalidate_all(PLACE, tenant="key:1"),
        lambda cache: cache.invalidate_target("default"),
        lambda cache: cache.moved("default"),
    ],
)
def test_what_it_rests_on_ends_it(cache: ResultCache, ending: Ending) -> None:
    asked = question("u")
    put(cache, asked, ["public.users"])
    pass_time(cache, 1)
    ending(cache)
    assert cache.find(asked) is None


@pytest.mark.parametrize(
    "other",
    [
        lambda cache: cache.changed(PLACE, ["public.orders"]),
        lambda cache: cache.changed(("default", "elsewhere"), None),
        lambda cache: cache.invalidate(PLACE, tenant=None, tags=["v"]),
        lambda cache: cache.invalidate(PLACE, tenant="key:2", tags=["u"]),
        lambda cache: cache.invalidate(PLACE, tenant=None, relations=["public.orders"]),
        lambda cache: cache.invalidate_all(PLACE, tenant="key:2"),
        lambda cache: cache.invalidate_target("other"),
        lambda cache: cache.moved("other"),
    ],
)
def test_what_it_does_not_rest_on_leaves_it(cache: ResultCache, other: Ending) -> None:
    asked = question("u")
    put(cache, asked, ["public.users"])
    pass_time(cache, 1)
    other(cache)
    assert cache.find(asked) is not None


def test_answer_that_may_rest_on_anything_ends_with_any_change(cache: ResultCache) -> None:
    asked = question()
    put(cache, asked, None)
    pass_time(cache, 1)
    cache.changed(PLACE, ["public.whatever"])
    assert cache.find(asked) is None


def test_fetch_that_began_before_a_change_is_not_joined_after_it(cache: ResultCache) -> None:
    asked, began = question(), cache.stamps.now()
    pass_time(cache, 1)
    assert cache.may_join(asked, began)
    cache.changed(PLACE, ["public.users"])
    assert not cache.may_join(asked, began)
    assert cache.may_join(asked, cache.stamps.now() + 1)


def test_fetch_that_began_before_its_tag_was_ended_is_not_joined_after_it(cache: ResultCache) -> None:
    asked, began = question("u"), cache.stamps.now()
    cache.invalidate(PLACE, tenant="key:1", tags=["u"])
    assert not cache.may_join(asked, began)


def test_question_is_recognized_as_long_as_its_answer_is_kept(cache: ResultCache) -> None:
    kept, gone, never = question()._replace(key=b"kept"), question(ttl=5)._replace(key=b"gone"), question()
    for asked, body in ((kept, b"1"), (gone, b"2"), (never, b"3")):
        cache.aliases.remember(asked, Options(), ASKED, body)
    put(cache, kept, [])
    put(cache, gone, [])
    pass_time(cache, 10)
    assert list(cache.sweep()) == [None]
    found = [cache.aliases.find(SCOPE, Options(), ASKED, body) for body in (b"1", b"2", b"3")]
    assert found == [kept, None, None]


def test_reload_ends_what_was_recognized_by_the_settings_before(cache: ResultCache) -> None:
    cache.aliases.remember(question(), Options(), ASKED, b"body")
    cache.reconfigure(CacheSettings(max_bytes=40_000))
    assert len(cache.aliases) == 0
    for number in range(9):
        cache.aliases.remember(question(), Options(), ASKED, b"%d" % number)
    assert len(cache.aliases) == 4
