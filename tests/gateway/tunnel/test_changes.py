from collections.abc import Callable
from time import process_time

import pytest

from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.settings import CacheSettings
from sqlhttp_gateway.tunnel.changes import Changes
from tests.gateway.cache.test_store import Clock
from tests.support.leases import until

PLACE = ("default", "main")
IDLE, OPEN = b"Z\0\0\0\x05I", b"Z\0\0\0\x05T"


def done(tag: bytes) -> bytes:
    return b"C" + (len(tag) + 5).to_bytes(4) + tag + b"\0"


@pytest.fixture
def cache() -> ResultCache:
    cache = ResultCache(CacheSettings(), Clock())
    cache.stamps.keep(PLACE, cache.stamps.now() + 10**12)
    return cache


def stamped(cache: ResultCache, work: Callable[[], None]) -> bool:
    """Whether `work` ended the answers of the place."""
    assert isinstance(cache.stamps, Clock)
    cache.stamps.at += 1
    before = cache.schema_changed_at(PLACE)
    work()
    return cache.schema_changed_at(PLACE) > before


@pytest.mark.parametrize(
    "tag", [b"INSERT 0 1", b"UPDATE 3", b"COPY 7", b"CREATE TABLE", b"DO", b"CALL", b"EXPLAIN", b"COMMIT PREPARED"]
)
def test_change_is_known_before_the_program_hears_of_it(cache: ResultCache, tag: bytes) -> None:
    changes = Changes(cache, PLACE)
    assert stamped(cache, lambda: changes.said(done(tag) + IDLE))
    assert not stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


@pytest.mark.parametrize(
    "tag", [b"SELECT 1", b"SHOW", b"BEGIN", b"COMMIT", b"SET", b"LISTEN", b"FETCH 3", b"ROLLBACK PREPARED"]
)
def test_reading_changes_nothing(cache: ResultCache, tag: bytes) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"P\0\0\0\x20\0SELECT count(*) FROM t WHERE id IN (1, 2)\0\0\0")
    assert not stamped(cache, lambda: changes.said(done(tag) + IDLE))


def test_change_counts_again_at_each_step_until_its_transaction_is_over(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    assert stamped(cache, lambda: changes.said(done(b"UPDATE 1") + OPEN))
    assert stamped(cache, lambda: changes.said(done(b"SELECT 1") + OPEN))
    assert stamped(cache, lambda: changes.said(done(b"COMMIT") + IDLE))
    assert not stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_tag_that_comes_in_two_pieces_is_found(cache: ResultCache) -> None:
    changes, answer = Changes(cache, PLACE), done(b"INSERT 0 1") + IDLE
    for cut in range(1, len(answer)):
        assert stamped(cache, lambda cut=cut: (changes.said(answer[:cut]), changes.said(answer[cut:])))


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"SELECT do_it()",
            b'SELECT "Do It" (1)',
            b"WITH x AS (\nDELETE FROM t RETURNING 1) SELECT 1",
            b"SELECT a.f ()",
        ),
        *(b"SELECT store.set('key', 1)", b'SELECT store . "replace"(1)', b"CREATE TABLE copied AS SELECT 1"),
    ],
)
def test_reads_are_taken_for_changes_once_a_text_could_change_something(cache: ResultCache, text: bytes) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"Q\0\0\0\x20" + text + b"\0")
    assert stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_functions_of_postgres_are_known_with_their_schema(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"Q\0\0\0\x20SELECT pg_catalog.count(*), pg_catalog . now () FROM a.b\0")
    assert not stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_change_far_behind_its_with_is_found_in_whatever_pieces_it_comes(cache: ResultCache) -> None:
    text = b"Q\0\0\0\x20WITH a AS (SELECT '" + b"x" * 1000 + b"'), b AS (UPDATE t SET id = 1) SELECT 1\0"
    for size in (1, 7, 300):
        changes = Changes(cache, PLACE)
        for begin in range(0, len(text), size):
            changes.sent(text[begin : begin + size])
        assert stamped(cache, lambda changes=changes: changes.said(done(b"SELECT 1") + IDLE))


def test_with_of_one_text_is_none_of_the_next(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"Q\0\0\0\x20WITH a AS (SELECT 1) SELECT 1\0Q\0\0\0\x20UPDATE t SET id = 1\0")
    assert not stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_function_that_was_called_without_sql_may_have_changed_something(cache: ResultCache) -> None:
    for value in (b"\xff\xff\xff\xff", b"\0\0\0\x04\0\0\0\x01"):
        reply = b"V" + (4 + len(value)).to_bytes(4) + value + IDLE
        assert stamped(cache, lambda reply=reply: Changes(cache, PLACE).said(reply))


@pytest.mark.parametrize("piece", [b"a", b"with ", b'"', b"a ", b"a.", b"\0", b"'", b"V\0"])
def test_what_is_sent_costs_by_its_length_and_not_by_its_square(cache: ResultCache, piece: bytes) -> None:
    def cost(size: int) -> float:
        data, began = piece * (size // len(piece)), process_time()
        Changes(cache, PLACE).sent(data)
        Changes(cache, PLACE).said(data)
        return process_time() - began

    assert min(cost(256_000) for _ in range(3)) < 40 * max(min(cost(16_000) for _ in range(3)), 0.0005)


def test_name_that_comes_in_two_pieces_is_found(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"Q\0\0\0\x20SELECT my_")
    changes.sent(b"count(1)\0")
    assert stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_texts_that_passed_before_anything_was_kept_are_not_trusted() -> None:
    cache = ResultCache(CacheSettings(), Clock())
    changes = Changes(cache, PLACE)
    changes.sent(b"P\0\0\0\x20s\0SELECT do_it()\0\0\0")
    changes.said(done(b"SELECT 1") + IDLE)
    cache.stamps.keep(PLACE, cache.stamps.now() + 10**12)
    changes.sent(b"B\0\0\0\x20\0s\0\0\0")
    assert stamped(cache, lambda: changes.said(done(b"SELECT 1") + IDLE))


def test_transaction_that_was_open_when_the_first_answer_was_kept_counts() -> None:
    cache = ResultCache(CacheSettings(), Clock())
    changes = Changes(cache, PLACE)
    changes.said(done(b"INSERT 0 1") + OPEN)
    cache.stamps.keep(PLACE, cache.stamps.now() + 10**12)
    assert stamped(cache, lambda: changes.said(done(b"COMMIT") + IDLE))


async def test_program_that_leaves_in_the_middle_may_have_changed_something(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    changes.said(done(b"INSERT 0 1") + OPEN)
    assert stamped(cache, lambda: changes.left(is_busy=False))
    idle = Changes(cache, PLACE)
    assert not stamped(cache, lambda: idle.left(is_busy=False))


async def test_program_that_leaves_before_its_answer_may_have_changed_something(cache: ResultCache) -> None:
    changes = Changes(cache, PLACE)
    changes.sent(b"Q\0\0\0\x1eINSERT INTO t VALUES (1)\0")
    assert stamped(cache, lambda: changes.left(is_busy=True))


async def test_what_is_left_in_the_middle_ends_answers_again_once_it_is_over_for_sure(cache: ResultCache) -> None:
    """What Postgres was asked to cancel may still be committed until the gateway waits for that no longer."""
    told: list[int] = []
    for seconds in (0.0, 3600.0):
        changes = Changes(cache, PLACE, lambda buckets: told.append(1), settles_after=lambda seconds=seconds: seconds)
        changes.left(is_busy=True)
    assert len(told) == 2
    await until(lambda: len(told) == 3)
