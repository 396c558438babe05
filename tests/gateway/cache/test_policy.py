from itertools import combinations
from typing import Any

import pytest

from sqlhttp_gateway.cache.policy import Asked, Policy, Question, Scope
from sqlhttp_gateway.model import Options, Statement
from sqlhttp_gateway.neon.caching import Wish
from sqlhttp_gateway.settings import CacheSettings

SCOPE = Scope("default", "main", "app", "app")
PLAIN = Options()
URL = b"postgres://app:hunter2@host/main"


def ask(
    text: str = "SELECT 1",
    *params: bytes | None,
    control: bytes | None = b"max-age=60",
    tags: bytes | None = None,
    url: bytes = URL,
    url_query: bytes = b"",
    scope: Scope = SCOPE,
    options: Options = PLAIN,
    array_mode: bool | None = None,
    body: bytes = b"",
    **settings: Any,
) -> Question | None:
    headers = {name: value for name, value in ((b"cache-control", control), (b"sqlhttp-cache-tags", tags)) if value}
    policy = Policy(CacheSettings(**settings))
    if not policy.may_ask(headers, url, url_query, body or text.encode()):
        return None
    statement = Statement(text, params, array_mode)
    return policy.question(scope, statement, options, Asked.of(headers, url, url_query), body or text.encode())


def asked(*args: Any, **kwargs: Any) -> Question:
    question = ask(*args, **kwargs)
    assert question is not None
    return question


def test_request_that_says_nothing_asks_nothing() -> None:
    assert ask(control=None) is None
    assert ask(control=b"no-cache") is None, "a browser's reload is no wish for a cache"
    assert ask("select 'cache'", control=None) is None


@pytest.mark.parametrize(
    "how",
    [
        {"control": b"max-age=7, stale-while-revalidate=3", "tags": b"a,b"},
        {"control": None, "url": URL + b"?sslmode=require&cache_ttl=7&cache_swr=3&cache_tags=a,b"},
        {"control": None, "url_query": b"cache_ttl=7&cache_swr=3&cache_tags=a,b"},
        {"control": None, "body": b'{"query":"SELECT 1","cache":{"ttl":7,"swr":3,"tags":["a","b"]}}'},
        {"control": None, "text": "/* cache ttl=7 swr=3 tags=a,b */ SELECT 1"},
        {"control": None, "role_defaults": {"app": "ttl=7 swr=3 tags=a,b"}},
        {"control": None, "database_defaults": {"main": "ttl=7 swr=3 tags=a,b"}},
        {"control": None, "key_defaults": {"8f3a": "ttl=7 swr=3 tags=a,b"}, "scope": SCOPE._replace(tenant="key:8f3a")},
    ],
)
def test_each_way_to_ask_asks_the_same(how: dict[str, Any]) -> None:
    assert asked(**how).wish == Wish(7, 3, ("a", "b"))


def test_nearer_word_counts() -> None:
    url, body = URL + b"?cache_ttl=1&cache_swr=1", b'{"query":"","cache":{"ttl":3}}'
    assert asked(control=None, url=url, url_query=b"cache_ttl=2").ttl == 2
    assert asked(control=None, url=url, url_query=b"cache_ttl=2", body=body).ttl == 3
    assert asked("/* cache ttl=4 */ SELECT 1", control=None, url=url, body=body).ttl == 4
    assert asked("/* cache ttl=4 */ SELECT 1", control=b"max-age=5", url=url, body=body).ttl == 5
    assert asked(control=b"max-age=5", url=url).swr == 1


def test_no_more_is_had_than_the_settings_allow() -> None:
    wish = asked(control=b"max-age=600, stale-while-revalidate=600", max_ttl=10, max_swr=5).wish
    assert (wish.ttl, wish.swr) == (10, 5)


def test_whatever_postgres_could_tell_apart_has_another_key() -> None:
    different = [
        asked(),
        asked(scope=SCOPE._replace(target="other")),
        asked(scope=SCOPE._replace(database="other")),
        asked(scope=SCOPE._replace(role="other")),
        asked(scope=SCOPE._replace(login="authenticator")),
        asked(scope=SCOPE._replace(tenant="key:1")),
        asked(scope=SCOPE._replace(claims=b'{"sub":"1"}')),
        asked(scope=SCOPE._replace(claims=b'{"sub":"2"}')),
        asked(url=URL + b"?options=-csearch_path%3Dother"),
        asked("SELECT 2"),
        asked("SELECT 1 "),
        asked("SELECT 1", b""),
        asked("SELECT 1", None),
        asked("SELECT 1", b"", b""),
        asked("SELECT 1", b"a", b"bc"),
        asked("SELECT 1", b"ab", b"c"),
        asked(options=Options(raw_text=True)),
        asked(options=Options(array_mode=True)),
        asked(options=Options(raw_text=True, array_mode=True)),
        asked("/* a */ SELECT '/* cache ttl=1 */'"),
        asked("/* a */ SELECT '/* cache ttl=2 */'"),
        asked(tags=b"t"),
        asked(tags=b"t,u"),
        asked(url=URL + b"?cache_allow=time"),
        asked(url=URL + b"?cache_allow=time,volatile"),
    ]
    for one, other in combinations(different, 2):
        assert one.key != other.key


def test_password_and_how_long_it_may_be_kept_are_no_part_of_the_key() -> None:
    plain = asked()
    assert asked(url=b"postgres://app:other@host/main").key == plain.key
    assert asked(url=URL + b"?cache_ttl=5").key == plain.key
    assert asked(control=b"max-age=5").key == plain.key
    assert asked(tags=b"t,u").key == asked(tags=b"u, t").key
    assert asked("/* cache ttl=5 */SELECT 1", control=None).key == plain.key
    assert asked(array_mode=True).key == asked(options=Options(array_mode=True)).key


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT 'now'::timestamptz", "SELECT date ' Today'", "SELECT '10:00 tomorrow'"),
        *("SELECT '[today,)'::daterange", "SELECT $$today$$::date"),
    ],
)
def test_text_that_means_the_moment_is_none_to_keep(text: str) -> None:
    assert asked(text).refusal == "time"
    assert asked(text, control=b"max-age=9", url=URL + b"?cache_allow=time").refusal == ""


def test_parameter_that_could_mean_today_is_none_to_keep_and_other_words_are() -> None:
    assert asked("SELECT $1::date", b" today ").refusal == "time"
    assert asked("SELECT $1::date", b"tomorrow allballs").refusal == "time"
    assert asked("SELECT $1::daterange", b"[today,tomorrow)").refusal == "time"
    assert asked("SELECT $1", b"nowhere to go now").refusal == ""


def test_batch_is_none_to_keep() -> None:
    policy = Policy(CacheSettings())
    question = policy.question(SCOPE, None, Options(), Asked(b"max-age=1", None, b"", b""), b"")
    assert question is not None
    assert question.refusal == "batch"
