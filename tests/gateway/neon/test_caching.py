import gc
import tracemalloc
from time import process_time

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.neon.caching import (
    NO_WISH,
    Wish,
    encode_status,
    rest_of_query,
    tags_from_header,
    wish_from_body,
    wish_from_comment,
    wish_from_control,
    wish_from_query,
    wish_from_words,
)


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        (b"max-age=60", Wish(ttl=60)),
        (b"max-age=60, stale-while-revalidate=30", Wish(ttl=60, swr=30)),
        (b'Max-Age="5" ,only-if-cached', Wish(ttl=5, only_if_cached=True)),
        (b"no-cache", Wish(no_cache=True)),
        (b"no-store, max-age=0", Wish(ttl=0, no_store=True)),
        (b"max-age=-1, max-stale, foo bar, stale-while-revalidate=2", Wish(swr=2)),
        (b"max-age=99999999999999999999", Wish(ttl=31_536_000)),
        (b"max-age=1.5, ,,", NO_WISH),
        (b"", NO_WISH),
    ],
)
def test_cache_control_is_read_as_http_has_it_and_what_means_nothing_is_passed_over(value: bytes, wish: Wish) -> None:
    assert wish_from_control(value) == wish


def test_tags_are_named_once_each_without_their_blanks() -> None:
    assert tags_from_header(b"users, user:7 ,users,") == ("users", "user:7")


@pytest.mark.parametrize("value", [b"a b", b"a*", b"a/b", b"x" * 201, ",".join(f"t{n}" for n in range(65)).encode()])
def test_tag_that_could_not_stand_everywhere_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="sqlhttp-cache-tags"):
        tags_from_header(value)


def test_parameters_of_a_url_ask_and_the_others_are_left_for_postgres() -> None:
    query = b"sslmode=require&cache_ttl=60&cache_swr=1.5&cache_tags=a,b%20&cache_allow=time"
    assert wish_from_query(query) == Wish(60, 1.5, ("a", "b"), frozenset({"time"}))
    assert rest_of_query(query) == b"sslmode=require"
    assert wish_from_query(b"sslmode=require") is NO_WISH


def test_long_comment_means_the_same_and_is_not_held() -> None:
    gc.collect()
    words = f"ttl=60{' ' * 1_000_000}tags=a"
    tracemalloc.start()
    assert wish_from_comment(f"/* cache {words} */ SELECT 1") == Wish(60, tags=("a",))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 900_000


def test_comment_in_front_asks_and_one_elsewhere_does_not() -> None:
    assert wish_from_comment(" /* cache ttl=60 swr=30 tags=users,user:7 */ SELECT 1") == Wish(
        60, 30, ("users", "user:7")
    )
    assert wish_from_comment("SELECT 1 /* cache ttl=60 */") is NO_WISH
    assert wish_from_comment("/* cached yesterday */ SELECT 1") is NO_WISH


def test_member_of_the_body_asks() -> None:
    assert wish_from_body(b'{"query":"x","cache":{"ttl":1,"tags":["a"]}}') == Wish(1, None, ("a",))
    assert wish_from_body(b'{"query":"select \'cache\'"}') is NO_WISH
    assert wish_from_body(b'{"query":"x","cache":null}') is NO_WISH


@pytest.mark.parametrize(
    "body",
    [
        b'{"cache":5}',
        b'{"cache":{"tll":1}}',
        b'{"cache":{"ttl":"soon"}}',
        b'{"cache":{"ttl":true}}',
        b'{"cache":{"swr":-1}}',
        b'{"cache":{"tags":[1]}}',
        b'{"cache":{"allow":["writes"]}}',
    ],
)
def test_mistake_in_what_was_written_for_the_gateway_is_told(body: bytes) -> None:
    with pytest.raises(BadRequest, match="cache"):
        wish_from_body(body)


@pytest.mark.parametrize("words", ["ttl", "ttl=x", "for=ever", "ttl=nan", "allow=all"])
def test_mistake_in_words_is_told(words: str) -> None:
    with pytest.raises(BadRequest):
        wish_from_words(words)


def test_nearer_wish_goes_first_and_the_farther_one_fills_what_it_leaves_open() -> None:
    near, far = Wish(ttl=5, tags=("a",)), Wish(ttl=60, swr=30, tags=("b",), no_cache=True)
    assert near.over(far) == Wish(5, 30, ("a",), no_cache=True)
    assert NO_WISH.over(far) == far


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (encode_status(hit=True, ttl=59.9), b"sqlhttp; hit; ttl=59"),
        (encode_status(hit=True, ttl=-0.5), b"sqlhttp; hit; ttl=-1"),
        (
            encode_status(forwarded="uri-miss", ttl=60, stored=True, collapsed=True),
            b"sqlhttp; fwd=uri-miss; ttl=60; stored; collapsed",
        ),
        (encode_status(forwarded="bypass", detail="time"), b"sqlhttp; fwd=bypass; detail=time"),
    ],
)
def test_status_is_what_rfc_9211_says(status: bytes, text: bytes) -> None:
    assert status == text


def test_blanks_are_read_once() -> None:
    """Looked at from every one of them again, these would take a minute."""
    blanks = 200_000 * " "
    began = process_time()
    assert wish_from_comment("/* cache " + blanks) == NO_WISH
    assert wish_from_control(f"a{blanks}!, max-age=5".encode()).ttl == 5
    assert process_time() - began < 1
