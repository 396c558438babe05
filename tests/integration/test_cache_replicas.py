"""The cache before a target of several servers: it keeps what the primary says, and heeds bookmarks."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.fleet import Fleet
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.program import Program, program_of

MINUTE = {"Cache-Control": "max-age=60, stale-while-revalidate=60"}
READ_ONLY = {"Sqlhttp-Read-Only": "true"}
BOOKMARK, STATUS, SERVED_BY = "sqlhttp-bookmark", "cache-status", "sqlhttp-served-by"
VALUE = {"query": "SELECT v FROM kept"}


@pytest.fixture(scope="module")
def gateways(fleet: Fleet) -> Iterator[tuple[Gateway, Gateway]]:
    """Two that know nothing of each other."""
    fleet.primary.maintenance.psql("CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 0)")
    fleet.wait_replayed()
    with gateway_in_thread(fleet.url, {}) as one, gateway_in_thread(fleet.url, {}) as other:
        yield one, other
    fleet.primary.maintenance.psql("DROP TABLE kept")


@pytest.fixture
def programs(gateways: tuple[Gateway, Gateway], fleet: Fleet) -> Iterator[tuple[Program, Program]]:
    with (
        program_of(gateways[0], fleet.primary.maintenance) as here,
        program_of(gateways[1], fleet.primary.maintenance) as there,
    ):
        here.post({"query": "UPDATE kept SET v = 0"})  # which ends what an earlier test has left
        yield here, there


def value(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.json()["rows"][0]["v"])


def is_hit(response: httpx.Response) -> bool:
    return "; hit" in response.headers[STATUS]


def test_answer_from_before_a_bookmark_is_none_for_who_brings_it(programs: tuple[Program, Program]) -> None:
    here, there = programs
    assert value(here.post(VALUE, MINUTE)) == 0
    written = there.post({"query": "UPDATE kept SET v = 1"})
    bookmark = {BOOKMARK: written.headers[BOOKMARK]}
    without = here.post(VALUE, MINUTE)
    assert (value(without), is_hit(without)) == (0, True), "who shows no bookmark gets what ttl allows"
    fetched = here.post(VALUE, MINUTE | bookmark)
    assert (value(fetched), is_hit(fetched)) == (1, False)
    again = here.post(VALUE, MINUTE | bookmark)
    assert (value(again), is_hit(again)) == (1, True), "what was fetched for it is good enough for it"
    refused = there.post({"query": "UPDATE kept SET v = 2"})
    only = here.post(VALUE, {"Cache-Control": "only-if-cached", BOOKMARK: refused.headers[BOOKMARK]})
    assert only.status_code == 504


def test_every_write_elsewhere_is_seen_with_its_bookmark(programs: tuple[Program, Program]) -> None:
    here, there = programs
    hits = 0
    for turn in range(1, 101):
        bookmark = {BOOKMARK: there.post({"query": f"UPDATE kept SET v = {turn}"}).headers[BOOKMARK]}
        for _ in range(3):
            read = here.post(VALUE, MINUTE | bookmark)
            assert value(read) == turn
            hits += is_hit(read)
    assert hits >= 100, "an answer that is new enough is given"


def test_program_that_keeps_the_greatest_bookmark_is_answered_from_the_cache(programs: tuple[Program, Program]) -> None:
    here, _ = programs
    bookmark = here.post({"query": "UPDATE kept SET v = 7"}).headers[BOOKMARK]
    calls = []
    for _ in range(5):
        calls.append(here.post(VALUE, MINUTE | {BOOKMARK: bookmark}))
        bookmark = max(bookmark, calls[-1].headers[BOOKMARK])
    assert [value(call) for call in calls] == [7] * 5
    assert [is_hit(call) for call in calls][-3:] == [True] * 3


def test_replicas_show_no_less_than_a_kept_answer_did(programs: tuple[Program, Program], fleet: Fleet) -> None:
    here, _ = programs
    for replica in fleet.replicas:
        replica.maintenance.psql("SELECT pg_wal_replay_pause()")
    try:
        here.post({"query": "UPDATE kept SET v = 8"})
        for _ in range(2):
            kept = here.post(VALUE, MINUTE)
            assert value(kept) == 8
            read = here.post(VALUE, READ_ONLY | {BOOKMARK: kept.headers[BOOKMARK]})
            assert (value(read), read.headers[SERVED_BY]) == (8, "default")
    finally:
        for replica in fleet.replicas:
            replica.maintenance.psql("SELECT pg_wal_replay_resume()")
    fleet.wait_replayed()


def test_bookmark_that_is_lost_is_told_and_not_passed_over(programs: tuple[Program, Program]) -> None:
    here, _ = programs
    here.post(VALUE, MINUTE)
    lost = {BOOKMARK: f"v1-{1:016x}-{1:08x}-{1:016x}"}
    assert here.post(VALUE, MINUTE | lost).status_code == 409
    assert here.post(VALUE, MINUTE | {BOOKMARK: "x"}).status_code == 400
    assert is_hit(here.post(VALUE, MINUTE))
