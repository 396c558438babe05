"""What the cache has for a request that came before is what the service would have given, and counted alike."""

from collections.abc import AsyncIterator
from dataclasses import fields
from functools import partial
from typing import Any

import pytest

from sqlhttp_gateway.observe.counts import Histogram
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.settings import load_settings
from tests.support.asking import LEFT_TO_SERVICE, Asking, one
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app

MINUTE = "max-age=60"
READ = one("SELECT value FROM t WHERE id = $1", "1")


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, is_heard=False) as app:
        for text in ("CREATE TABLE t (id int PRIMARY KEY, value int)", "INSERT INTO t VALUES (1, 10), (2, 20)"):
            await app.post(one(text))
        yield app


def told(reply: Reply | str) -> tuple[object, ...]:
    assert isinstance(reply, Reply)
    return reply.status, reply.headers, reply.body, reply.timing, reply.due


@pytest.mark.parametrize(
    "headers",
    [
        {"cache_control": MINUTE},
        {"cache_control": MINUTE, "neon_array_mode": "true"},
        {"cache_control": MINUTE, "neon_raw_text_output": "false"},
        {"cache_control": MINUTE, "sqlhttp_cache_tags": "a,b"},
        {"cache_control": f"{MINUTE}, only-if-cached"},
    ],
    ids=str,
)
async def test_hit_is_what_the_service_would_have_given(app: RunningApp, headers: dict[str, str]) -> None:
    await Asking(app, cache_control=MINUTE).of_service(READ)
    asking = Asking(app, **headers)
    await asking.of_service(READ)
    by_service = await asking.of_service(READ)
    for _ in range(2):
        reply = asking.of_cache(READ)
        assert told(reply) == told(by_service)
    assert b"hit" in dict(by_service.headers)[b"cache-status"]


@pytest.mark.parametrize(
    "body", [one("/* cache ttl=60 */ SELECT 1"), {**READ, "cache": {"ttl": 60}}], ids=["comment", "member"]
)
async def test_wish_may_stand_in_the_body(app: RunningApp, body: dict[str, object]) -> None:
    asking = Asking(app)
    by_service = [await asking.of_service(body) for _ in range(2)][1]
    assert told(asking.of_cache(body)) == told(by_service)
    assert await asking.of_quick(body) == LEFT_TO_SERVICE


async def test_default_of_the_settings_asks_for_those_who_say_nothing(database: Database) -> None:
    async with running_app(database, is_heard=False, cache={"role_defaults": {database.role: "ttl=60"}}) as app:
        asking = Asking(app)
        by_service = [await asking.of_service(one("SELECT 1")) for _ in range(2)][1]
        assert told(asking.of_cache(one("SELECT 1"))) == told(by_service)
        assert await asking.of_quick(one("SELECT 1")) == LEFT_TO_SERVICE


async def test_request_that_asks_nothing_gets_nothing_kept(app: RunningApp) -> None:
    await Asking(app, cache_control=MINUTE).of_service(READ)
    assert Asking(app).of_cache(READ) == LEFT_TO_SERVICE


@pytest.mark.parametrize(
    "control",
    ["max-age=60, no-cache", "max-age=60, no-store", "max-age=0", "max-age=0, stale-while-revalidate=60"],
)
async def test_what_wants_more_than_a_fresh_answer_is_left_to_the_service(app: RunningApp, control: str) -> None:
    await Asking(app, cache_control=MINUTE).of_service(READ)
    asking = Asking(app, cache_control=control)
    for _ in range(2):
        await asking.of_service(READ)
        assert asking.of_cache(READ) == LEFT_TO_SERVICE


async def test_answer_that_a_change_has_ended_is_none(app: RunningApp) -> None:
    asking = Asking(app, cache_control=MINUTE)
    await asking.of_service(READ)
    assert isinstance(asking.of_cache(READ), Reply)
    assert asking.of_cache(one("SELECT value FROM t WHERE id = $1", "2")) == LEFT_TO_SERVICE
    await app.post(one("UPDATE t SET value = 11 WHERE id = 1"))
    assert asking.of_cache(READ) == LEFT_TO_SERVICE


async def test_nobody_gets_an_answer_whose_password_is_not_proven(app: RunningApp) -> None:
    asking = Asking(app, cache_control=MINUTE)
    await asking.of_service(READ)
    assert isinstance(asking.of_cache(READ), Reply)
    asking.quick._authenticator.forget()
    for _ in range(3):
        assert asking.of_cache(READ) == LEFT_TO_SERVICE


async def test_another_role_does_not_get_it(app: RunningApp, database: Database, postgres: Cluster) -> None:
    await Asking(app, cache_control=MINUTE).of_service(one("SELECT 1"))
    with scratch_role(postgres) as role:
        other = Asking(app, cache_control=MINUTE, neon_connection_string=database.as_role(role, "secret").url)
        await other.app.post(one("SELECT 2"), url=database.as_role(role, "secret").url)
        assert other.of_cache(one("SELECT 1")) == LEFT_TO_SERVICE


def counted(app: RunningApp) -> dict[str, Any]:
    """What is counted, of durations only how many."""
    counts = app.app._standing.metrics.counts()
    [series] = counts.databases.values()
    found = {each.name: getattr(series, each.name) for each in fields(series)} | {"cache": counts.cache}
    assert counts.cache_saved_seconds > 0
    return {name: sum(value.counts) if isinstance(value, Histogram) else value for name, value in found.items()}


async def test_hits_are_counted_as_those_of_the_service(database: Database) -> None:
    found = []
    for is_quick in (False, True):
        async with running_app(database, is_heard=False) as app:
            asking = Asking(app, cache_control=MINUTE)
            for _ in range(2):
                await asking.of_service(one("SELECT 1"))
            for _ in range(300):
                assert isinstance(
                    asking.of_cache(one("SELECT 1")) if is_quick else await asking.of_service(one("SELECT 1")), Reply
                )
            found.append(counted(app))
    assert found[0] == found[1]
    assert found[1]["cache"] == {"miss": 1, "hit": 301}


async def test_where_each_request_is_heard_of_hits_are_the_services(app: RunningApp, database: Database) -> None:
    asking = Asking(app, cache_control=MINUTE)
    await asking.of_service(READ)
    assert isinstance(asking.of_cache(READ), Reply)
    await app.app.reload(partial(load_settings, database_url=database.url, log={"requests": "all"}))
    await asking.of_service(READ)
    assert asking.of_cache(READ) == LEFT_TO_SERVICE
