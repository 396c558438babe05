"""The quick way answers and tells what the service would have, and leaves to the service what is not plain."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import pytest

from sqlhttp_gateway.events import Answered, Bug
from sqlhttp_gateway.observe.counts import Histogram
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.settings import load_settings
from tests.support.asking import LEFT_TO_SERVICE, Asking, one
from tests.support.cluster import Database
from tests.support.leases import until
from tests.support.running_app import RunningApp, running_app

DEADLINE = 20.0  # seconds
SLEEPING = "wait_event = 'PgSleep'"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, pool={"max_size": 2}, statement={"timeout": 2}) as running:
        await running.post(one("CREATE TABLE t (id int PRIMARY KEY, name text)"))
        await running.post(one("INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 100) AS n"))
        yield running
        assert not [event for event in running.events if isinstance(event, Bug)]


@pytest.fixture
async def asking(app: RunningApp) -> Asking:
    return Asking(app)


def told(event: Answered) -> dict[str, Any]:
    """What is told of a request, its times aside."""
    fields = event._asdict()
    for name in ("request_id", "seconds", "waited", "executed", "encoded", "parsed", "reused"):
        del fields[name]
    return fields


# ── the same as the service ──────────────────────────────────────────────────────────────────────────────────────────

PLAIN: Mapping[str, object] = {
    "one row": one("SELECT * FROM t WHERE id = $1", 7),
    "no row": one("SELECT * FROM t WHERE id = $1", -1),
    "many rows": one("SELECT * FROM t ORDER BY id"),
    "larger than one read": one("SELECT id, repeat('x', 9000) FROM t ORDER BY id"),
    "no columns": one("SELECT FROM t WHERE id < 4"),
    "null and text of all kinds": one("SELECT NULL::text AS a, '' AS b, 'é\n\"' AS c, $1::text AS d", "\u2603"),
    "an object": one("SELECT 1 AS a, 2 AS a", arrayMode=False),
    "an array": one("SELECT 1 AS a, 2 AS a", arrayMode=True),
    "written": one("UPDATE t SET name = name WHERE id < 10"),
    "returning": one("INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = t.name RETURNING *"),
    "values": one("VALUES (1), (2)"),
    "syntax error": one("SELECT FROM WHERE"),
    "division": one("SELECT 1 / (id - 1) FROM t ORDER BY id"),
    "too few parameters": one("SELECT $1::int, $2::int", 1),
    "missing table": one("SELECT * FROM missing"),
    "two statements": one("SELECT 1; SELECT 2"),
    "a notice": one("SELECT pg_notify('a', 'b')"),
    "a setting": one("SELECT set_config('work_mem', '1MB', false)"),
}


BATCHES: Mapping[str, list[dict[str, object]]] = {
    "one": [one("SELECT * FROM t WHERE id = $1", 7)],
    "several": [one("SELECT * FROM t WHERE id = $1", number) for number in range(5)],
    "of all kinds": [one("VALUES (1), (2)"), one("SELECT FROM t"), one("TABLE t"), one("SELECT NULL AS a")],
    "larger than one read": [one("SELECT id, repeat('x', 900) FROM t ORDER BY id")] * 2,
    "mixed shapes": [one("SELECT 1 AS a", arrayMode=True), one("SELECT 1 AS a", arrayMode=False), one("SELECT 1 AS a")],
    "written": [one("UPDATE t SET name = name WHERE id < 10"), one("INSERT INTO t SELECT 1 WHERE false")],
    "fails at its end": [one("SELECT 1"), one("SELECT 1 / (id - 1) FROM t ORDER BY id")],
    "fails at once": [one("SELECT FROM WHERE"), one("SELECT 1")],
    "twice what is there": [one("INSERT INTO t VALUES (200, 'x')"), one("INSERT INTO t VALUES (1, 'x')")],
    "a setting": [one("SELECT set_config('work_mem', '1MB', false)"), one("SELECT current_setting('work_mem')")],
    "a setting of the transaction": [one("SELECT set_config('a.b', 'c', true)"), one("SELECT current_setting('a.b')")],
}


@pytest.mark.parametrize("name", BATCHES)
async def test_quick_batch_is_that_of_the_service(asking: Asking, name: str) -> None:
    body = {"queries": BATCHES[name]}
    by_service = await asking.of_service(body)
    for _ in range(3):
        reply = await asking.of_quick(body)
        assert isinstance(reply, Reply), reply
        assert (reply.status, reply.headers, reply.body) == (by_service.status, by_service.headers, by_service.body)
        assert asking.app.answered()[-1].request_id == reply.request_id
        first, last = asking.app.answered()[-2:]
        assert told(last) == told(first)
        await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)
    assert await asking.app.post(one("SELECT current_setting('work_mem')")) != "1MB"
    assert b'"0"' in (await asking.of_service(one("SELECT count(*) FROM t WHERE id = 200"))).body


@pytest.mark.parametrize("name", PLAIN)
async def test_quick_reply_and_story_are_those_of_the_service(asking: Asking, name: str) -> None:
    body = PLAIN[name]
    by_service = await asking.of_service(body)
    for _ in range(3):  # parsed, then prepared, then foreseen
        reply = await asking.of_quick(body)
        assert isinstance(reply, Reply), reply
        assert (reply.status, reply.headers, reply.body) == (by_service.status, by_service.headers, by_service.body)
        assert reply.timing
        assert asking.app.answered()[-1].request_id == reply.request_id
        first, last = asking.app.answered()[-2:]
        assert told(last) == told(first)
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)


async def test_parameter_that_a_prepared_statement_does_not_take_is_tried_again_by_the_service(asking: Asking) -> None:
    """It may be that the statement was prepared for a type which the column no longer has."""
    await asking.of_service(one("SELECT * FROM t WHERE id = $1", 7))
    answers = [await asking.of_quick(one("SELECT * FROM t WHERE id = $1", "seven")) for _ in range(2)]
    assert answers[0] == LEFT_TO_SERVICE
    assert isinstance(answers[1], Reply), "not prepared any more, so that Postgres's word is the last"
    assert json.loads(answers[1].body)["code"] == "22P02"


async def test_rows_as_objects_by_header(app: RunningApp) -> None:
    asking = Asking(app, neon_array_mode="true")
    body = one("SELECT 1 AS a")
    for _ in range(3):
        reply = await asking.of_quick(body)
        assert isinstance(reply, Reply)
        assert json.loads(reply.body)["rows"] == [["1"]]
        assert reply.body == (await asking.of_service(body)).body


async def test_table_that_changes_between_requests_is_told_as_it_is(asking: Asking) -> None:
    body = one("SELECT * FROM t WHERE id = 1")
    for change in ("ADD COLUMN more int", "DROP COLUMN name", "ADD COLUMN name text DEFAULT 'new'"):
        for _ in range(2):
            assert (await asking.of_service(body)).body
            await asking.of_quick(body)
        await asking.app.post(one(f"ALTER TABLE t {change}"))
        replies = [await asking.of_quick(body) for _ in range(4)]
        by_service = (await asking.of_service(body)).body
        assert {reply.body for reply in replies if isinstance(reply, Reply)} <= {by_service}
        assert isinstance(replies[-1], Reply), "a statement that went stale is the service's, and quick again after it"


async def test_nothing_of_a_request_is_there_for_the_next(asking: Asking) -> None:
    await asking.of_quick(one("SELECT set_config('work_mem', '123kB', false), pg_advisory_lock(7)"))
    for _ in range(4):
        reply = await asking.of_quick(one("SELECT current_setting('work_mem'), pg_try_advisory_lock(7)"))
        assert isinstance(reply, Reply)
        assert b"123kB" not in reply.body
        assert b'"t"' in reply.body


async def test_answer_that_is_too_large_is_refused_as_by_the_service(database: Database) -> None:
    async with running_app(database, response={"max_bytes": 2000}) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        for size in (500, 1700, 1900, 2100, 5000):
            body = one("SELECT repeat('x', $1)", size)
            by_service = await asking.of_service(body)
            for _ in range(2):
                reply = await asking.of_quick(body)
                assert isinstance(reply, Reply)
                assert (reply.status, reply.body) == (by_service.status, by_service.body), size


async def test_statement_that_runs_too_long_is_cancelled(asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    reply = await asking.of_quick(one("SELECT set_config('statement_timeout', '0', false), pg_sleep(60)"))
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)["code"]) == (400, "57014")
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)


# ── left to the service ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        {"queries": []},
        {"queries": [one("SELECT 1"), one("SET work_mem = '1MB'")]},
        {"queries": [one("SELECT 1"), one("DELETE FROM t")]},
        {"queries": [one("DELETE FROM t RETURNING id")]},
        one("BEGIN"),
        one("SET work_mem = '1MB'"),
        one("/* a comment */ SELECT 1"),
        one("DO $$ BEGIN END $$"),
        b"no json",
        b"{}",
        one(""),
    ],
    ids=str,
)
async def test_what_is_not_plain_is_left_to_the_service(asking: Asking, body: object) -> None:
    await asking.of_service(one("SELECT 1"))
    assert await asking.of_quick(body) == LEFT_TO_SERVICE


async def test_nobody_is_known_whose_password_was_not_proven(asking: Asking) -> None:
    authenticator = asking.quick._authenticator
    assert await asking.of_quick(one("SELECT 1")) != LEFT_TO_SERVICE, "the fixture has proven it"
    authenticator.forget()
    for _ in range(3):
        assert await asking.of_quick(one("SELECT 1")) == LEFT_TO_SERVICE
    await asking.of_service(one("SELECT 1"))
    assert await asking.of_quick(one("SELECT 1")) != LEFT_TO_SERVICE


async def test_with_a_deadline_for_all_everything_is_left_to_the_service(database: Database) -> None:
    async with running_app(database, request={"deadline": 10}) as app:
        await app.post(one("SELECT 1"))
        assert await Asking(app).of_quick(one("SELECT 1")) == LEFT_TO_SERVICE


async def test_limits_of_a_reload_hold_for_whoever_was_quick_before(database: Database, asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    assert isinstance(await asking.of_quick(one("SELECT 1")), Reply)
    await asking.app.app.reload(partial(load_settings, database_url=database.url, limits={"rate": 1000}))
    for _ in range(2):
        assert await asking.of_quick(one("SELECT 1")) == LEFT_TO_SERVICE
        await asking.of_service(one("SELECT 1"))


async def test_caller_with_limits_is_left_to_the_service(database: Database) -> None:
    async with running_app(database, limits={"rate": 1000}) as app:
        await app.post(one("SELECT 1"))
        assert await Asking(app).of_quick(one("SELECT 1")) == LEFT_TO_SERVICE


# ── counted without being told ───────────────────────────────────────────────────────────────────────────────────────


def counted(app: RunningApp) -> dict[str, Any]:
    """What is counted for the one database, of durations only how many."""
    [counts] = app.app._standing.metrics.counts().databases.values()
    plain = {each.name: getattr(counts, each.name) for each in fields(counts)}
    plain["prepared or not"] = plain.pop("parsed") + plain.pop("reused")
    return {name: sum(value.counts) if isinstance(value, Histogram) else value for name, value in plain.items()}


SOME = [one("SELECT 1"), one("SELECT * FROM generate_series(1, $1)", "3"), one("SELECT FROM WHERE"), one("SELECT 1")]


async def test_requests_that_nobody_hears_of_are_counted_as_those_of_the_service(database: Database) -> None:
    found = []
    for ask in (Asking.of_service, Asking.of_quick):
        async with running_app(database, is_heard=False) as app:
            asking = Asking(app)
            await asking.of_service(one("SELECT 1"))
            for body in SOME:
                assert isinstance(await ask(asking, body), Reply)
            assert asking.asker.tally is not None or ask is Asking.of_service
            found.append(counted(app))
    assert found[0] == found[1]
    assert found[1]["outcomes"] == {"ok": 4, "postgres": 1}


async def test_answer_is_the_same_whether_or_not_anybody_hears_of_it(database: Database) -> None:
    async with running_app(database, is_heard=False) as app:
        asking = Asking(app)
        by_service = await asking.of_service(one("SELECT 1 AS a"))
        for _ in range(3):
            reply = await asking.of_quick(one("SELECT 1 AS a"))
            assert isinstance(reply, Reply)
            assert (reply.status, reply.headers, reply.body) == (200, by_service.headers, by_service.body)
            assert [part.partition(b";")[0] for part in reply.timing.split(b", ")] == [
                b"queue",
                b"connect",
                b"execute",
                b"encode",
            ]
            assert len(reply.request_id) == 36


async def test_without_server_timing_none_is_sent(database: Database) -> None:
    async with running_app(database, is_heard=False, trace={"server_timing": False}) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        for _ in range(2):
            reply = await asking.of_quick(one("SELECT 1"))
            assert isinstance(reply, Reply)
            assert reply.timing == b""


async def test_slow_request_and_each_of_those_that_are_logged_are_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sqlhttp")
    for section, message in (({"slow_statement": 1e-9}, "slow statement"), ({"requests": "all"}, "request answered")):
        async with running_app(database, is_heard=False, log=section) as app:
            asking = Asking(app)
            await asking.of_service(one("SELECT 1"))
            caplog.clear()
            assert isinstance(await asking.of_quick(one("SELECT 1")), Reply)
            assert [record.message for record in caplog.records] == [message]


async def test_log_that_a_reload_switches_on_hears_of_the_next_request(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sqlhttp")
    async with running_app(database, is_heard=False) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        for requests, lines in (("errors", 0), ("all", 1), ("errors", 0)):
            await app.app.reload(partial(load_settings, database_url=database.url, log={"requests": requests}))
            await asking.of_service(one("SELECT 1"))  # whoever asks is proven anew
            caplog.clear()
            assert isinstance(await asking.of_quick(one("SELECT 1")), Reply)
            assert len(caplog.records) == lines
