"""Requests that ask for the cache, on a real Postgres."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from sqlhttp_gateway.cache.stamps import Place, Stamps
from sqlhttp_gateway.cached import CachedAnswers
from sqlhttp_gateway.events import Cached
from sqlhttp_gateway.settings import Settings, load_settings
from tests.support.asgi import DISCONNECT, Call, piece
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import Watch, watching

MINUTE = "max-age=60"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, pool={"max_size": 4}, cache={"role_defaults": {"by_default": "ttl=60"}}) as app:
        await app.post({"query": "CREATE TABLE t (id int PRIMARY KEY, value int)"})
        await app.post({"query": "CREATE TABLE other (id int)"})
        await app.post({"query": "INSERT INTO t VALUES (1, 10), (2, 20)"})
        await app.hear_changes()
        app.events.clear()
        yield app


def status_of(call: Call) -> str:
    return re.sub(r"; ttl=-?\d+", "", call.headers.get("cache-status", ""))


HIT, MISS = "sqlhttp; hit", "sqlhttp; fwd=uri-miss; stored"


async def ask(app: RunningApp, text: str = "SELECT * FROM t ORDER BY id", *params: Any, **headers: str) -> Call:
    headers.setdefault("cache_control", MINUTE)
    return await app.post({"query": text, "params": list(params)}, **headers)


def cache_of(app: RunningApp) -> CachedAnswers:
    assert app.app._sql is not None
    consulting = app.app._sql._service._consulting
    assert consulting is not None
    return consulting.cached


def outcomes(app: RunningApp) -> list[str]:
    return [f"{event.outcome} {event.reason}".strip() for event in app.events if isinstance(event, Cached)]


# ── hits and misses ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_second_answer_is_the_first_ones_bytes_and_takes_no_connection(app: RunningApp) -> None:
    first, second = await ask(app), await ask(app)
    assert (status_of(first), status_of(second)) == (MISS, HIT)
    assert first.body == second.body
    assert second.headers["age"] == "0"
    assert second.headers["cache-status"] == "sqlhttp; hit; ttl=59"
    assert "age" not in first.headers
    told = app.answered()[-1]
    assert (told.waited, told.executed, told.rows, told.outcome) == (0, 0, 2, "ok")
    assert outcomes(app) == ["miss", "hit"]
    assert [event.saved > 0 for event in app.events if isinstance(event, Cached)] == [False, True]


async def test_answers_of_cache_and_database_are_the_same_in_every_form(app: RunningApp) -> None:
    for headers in ({}, {"neon_raw_text_output": "true"}, {"neon_array_mode": "true"}):
        plain = await ask(app, cache_control="", **headers)
        fetched, hit = await ask(app, **headers), await ask(app, **headers)
        assert (status_of(fetched), status_of(hit)) == (MISS, HIT)
        assert plain.body == fetched.body == hit.body


async def test_request_that_does_not_ask_is_told_nothing(app: RunningApp) -> None:
    await ask(app)
    call = await ask(app, cache_control="")
    assert "cache-status" not in call.headers
    assert outcomes(app) == ["miss"]


async def test_parameters_are_part_of_the_question(app: RunningApp) -> None:
    text = "SELECT value FROM t WHERE id = $1"
    calls = [await ask(app, text, number) for number in (1, 2, 1, 2)]
    assert [call.json()["rows"][0]["value"] for call in calls] == [10, 20, 10, 20]
    assert [status_of(call) for call in calls] == [MISS, MISS, HIT, HIT]


async def test_other_ways_to_ask_reach_the_same_answer(app: RunningApp, database: Database) -> None:
    await ask(app, "SELECT 1")
    assert status_of(await ask(app, "/* cache ttl=60 */SELECT 1", cache_control="")) == HIT
    assert status_of(await ask(app, "SELECT 1", cache_control="", url=f"{database.url}?cache_ttl=60")) == HIT
    call = await app.post({"query": "SELECT 1", "cache": {"ttl": 60}})
    assert status_of(call) == HIT
    made = Call(piece(b'{"query":"SELECT 1"}'), headers=[(b"neon-connection-string", database.url.encode())])
    made.scope["query_string"] = b"cache_ttl=60"
    assert status_of(await app.send(made)) == HIT


async def test_default_of_the_settings_asks_for_those_who_say_nothing(
    app: RunningApp, database: Database, postgres: Cluster
) -> None:
    await app.post({"query": "CREATE ROLE by_default LOGIN PASSWORD 'secret'"})
    try:
        url = database.as_role("by_default", "secret").url
        calls = [await ask(app, "SELECT 1", cache_control="", url=url) for _ in range(2)]
        assert [status_of(call) for call in calls] == [MISS, HIT]
    finally:
        await app.post({"query": "DROP ROLE by_default"})


async def test_defaults_and_bounds_change_when_the_settings_are_read_again(app: RunningApp, database: Database) -> None:
    def read(**cache: Any) -> Callable[[], Settings]:
        return lambda: load_settings(database_url=database.url, cache=cache)

    for _ in range(2):
        assert "cache-status" not in (await ask(app, "SELECT 1", cache_control="")).headers
    await app.app.reload(read(role_defaults={database.role: "ttl=60"}, max_ttl=30.0))
    calls = [await ask(app, "SELECT 1", cache_control="") for _ in range(2)]
    assert [status_of(call) for call in calls] == [MISS, HIT]
    assert "ttl=29" in calls[1].headers["cache-status"]
    await app.app.reload(read(max_entry_bytes=1))
    assert "cache-status" not in (await ask(app, "SELECT 1", cache_control="")).headers
    assert status_of(await ask(app, "SELECT 2")) == "sqlhttp; fwd=uri-miss"


async def test_wish_that_cannot_be_read_is_told(app: RunningApp) -> None:
    call = await ask(app, "/* cache ttl=soon */ SELECT 1", cache_control="")
    assert (call.status, call.json()["code"]) == (400, "08P01")
    assert "ttl must be a number" in call.json()["message"]


async def test_no_cache_fetches_anew_and_keeps_it_and_no_store_does_not(app: RunningApp, database: Database) -> None:
    await ask(app)
    database.psql("UPDATE t SET value = 11 WHERE id = 1")
    call = await ask(app, cache_control="max-age=60, no-store")
    assert status_of(call) == "sqlhttp; fwd=request; detail=no-store"
    assert call.json()["rows"][0]["value"] == 11
    assert (await ask(app)).json()["rows"][0]["value"] == 10, "what was written past the gateway is not known of"
    call = await ask(app, cache_control="max-age=60, no-cache")
    assert status_of(call) == "sqlhttp; fwd=request; stored"
    assert (await ask(app)).json()["rows"][0]["value"] == 11


async def test_only_if_cached_never_reaches_postgres(app: RunningApp) -> None:
    call = await ask(app, cache_control="only-if-cached")
    assert (call.status, call.json()["code"]) == (504, "55000")
    await ask(app)
    assert status_of(await ask(app, cache_control="only-if-cached")) == HIT


async def test_password_is_proven_before_an_answer_is_given(app: RunningApp, database: Database) -> None:
    await ask(app)
    call = await ask(app, url=database.as_role("postgres", "wrong").url)
    assert (call.status, call.json()["code"]) == (400, "28P01")


async def test_two_roles_never_share_an_answer(app: RunningApp, database: Database, postgres: Cluster) -> None:
    text = "SELECT current_user::text AS me"
    with scratch_role(postgres) as role:
        url = database.as_role(role, "secret").url
        calls = [
            await ask(app, text),
            await ask(app, text, url=url),
            await ask(app, text),
            await ask(app, text, url=url),
        ]
        assert [call.json()["rows"][0]["me"] for call in calls] == ["postgres", role, "postgres", role]
        assert [status_of(call) for call in calls] == [MISS, MISS, HIT, HIT]


# ── what is not kept ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("SELECT now()", '"time:now"'),
        ("SELECT random()", '"volatile:random"'),
        ("SELECT * FROM t FOR UPDATE", "locks"),
        ("INSERT INTO other VALUES (1)", "writes"),
        ("SHOW search_path", "unknown"),
    ],
)
async def test_what_is_not_eligible_runs_as_usual_and_says_why(app: RunningApp, text: str, detail: str) -> None:
    for _ in range(2):
        call = await ask(app, text)
        assert call.status == 200
        assert call.headers["cache-status"] == f"sqlhttp; fwd=bypass; detail={detail}"


async def test_what_the_program_allows_is_kept(app: RunningApp) -> None:
    calls = [await ask(app, "/* cache ttl=60 allow=time,volatile */ SELECT now(), random()") for _ in range(2)]
    assert calls[0].body == calls[1].body


async def test_statement_that_is_fetched_cannot_write_whatever_its_plan_says(app: RunningApp) -> None:
    """A function that lies about itself meets the READ ONLY transaction; then the statement runs as without a cache."""
    body = "BEGIN PERFORM writes(); RETURN 1; END"
    await app.post(
        {
            "query": "CREATE FUNCTION writes() RETURNS void VOLATILE LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO other VALUES (7); END'"
        }
    )
    await app.post({"query": f"CREATE FUNCTION liar(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS '{body}'"})
    call = await ask(app, "SELECT liar(id) FROM t WHERE id = $1", 1)
    assert (call.status, call.json()["rows"]) == (200, [{"liar": 1}])
    assert call.headers["cache-status"] == "sqlhttp; fwd=bypass; detail=writes"
    assert (await ask(app, "SELECT * FROM other")).json()["rows"] == [{"id": 7}]


async def test_errors_are_never_kept(app: RunningApp) -> None:
    text = "SELECT 1 / (value - 10) FROM t"
    for _ in range(2):
        call = await ask(app, text)
        assert (call.status, call.json()["code"]) == (400, "22012")
    await app.post({"query": "DELETE FROM t WHERE id = 1"})
    assert status_of(await ask(app, text)) == MISS


async def test_batch_is_not_kept(app: RunningApp) -> None:
    call = await app.post({"queries": [{"query": "SELECT 1"}]}, cache_control=MINUTE)
    assert call.headers["cache-status"] == "sqlhttp; fwd=bypass; detail=batch"


async def test_bound_on_answers_does_not_bound_what_postgres_says_of_a_statement(database: Database) -> None:
    async with running_app(database, limits={"max_response_bytes": 600}) as app:
        await app.post({"query": "CREATE TABLE t (id int, a_column_with_a_long_name int)"})
        await app.hear_changes()
        text = f"SELECT id FROM t WHERE {' AND '.join(['a_column_with_a_long_name > 0'] * 20)}"
        call = await ask(app, text)
        assert (call.status, status_of(call)) == (200, MISS)
        call = await ask(app, "SELECT repeat('x', 700)")
        assert (call.status, call.json()["code"]) == (507, "54000")


async def test_answer_that_is_too_large_is_given_and_not_kept(database: Database) -> None:
    async with running_app(database, cache={"max_entry_bytes": 1000}) as app:
        for _ in range(2):
            call = await ask(app, "SELECT repeat('x', 2000) AS x")
            assert status_of(call) == "sqlhttp; fwd=uri-miss"


async def test_gateway_without_room_has_no_cache(database: Database) -> None:
    async with running_app(database, cache={"max_bytes": 0}) as app:
        assert "cache-status" not in (await ask(app, "SELECT 1")).headers


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

CHANGES = [
    "UPDATE t SET value = 12 WHERE id = 1",
    "WITH x AS (UPDATE t SET value = 12 WHERE id = 1 RETURNING 1) SELECT * FROM x",
    "DO $$ BEGIN UPDATE t SET value = 12 WHERE id = 1; END $$",
    "SELECT change()",
    "INSERT INTO other VALUES (1)",  # by its trigger
    "TRUNCATE t",
    "ALTER TABLE t ALTER value TYPE text USING '12'",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_batch", [False, True])
async def test_change_through_the_gateway_is_seen_by_whoever_asks_after_it(
    app: RunningApp, change: str, is_batch: bool
) -> None:
    body = "UPDATE t SET value = 12 WHERE id = 1"
    await app.post({"query": f"CREATE FUNCTION change() RETURNS void LANGUAGE sql AS '{body}'"})
    await app.post(
        {"query": f"CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NULL; END'"}
    )
    await app.post({"query": "CREATE TRIGGER told AFTER INSERT ON other EXECUTE FUNCTION told()"})
    for _ in range(2):
        assert (await ask(app)).json()["rows"][0]["value"] == 10
    call = await app.post({"queries": [{"query": change}]} if is_batch else {"query": change})
    assert call.status == 200, call.body
    call = await ask(app)
    assert status_of(call) == MISS
    assert [str(row["value"]) for row in call.json()["rows"][:1]] == ([] if change.startswith("TRUNCATE") else ["12"])


async def test_change_of_another_table_leaves_the_answer(app: RunningApp) -> None:
    await ask(app)
    await app.post({"query": "INSERT INTO other VALUES ($1)", "params": [1]})
    await app.post({"query": "SELECT * FROM t, other"})
    await app.post({"query": "SELECT random()"})
    assert status_of(await ask(app)) == HIT


async def test_change_that_failed_leaves_the_answer(app: RunningApp) -> None:
    await ask(app)
    call = await app.post({"query": "INSERT INTO t VALUES (1, 1)"})
    assert call.status == 400
    assert status_of(await ask(app)) == HIT


async def test_name_that_a_batch_gives_another_meaning_is_not_trusted(app: RunningApp) -> None:
    await app.post({"query": "CREATE SCHEMA aside"})
    await app.post({"query": "CREATE TABLE aside.other AS SELECT 10 AS value"})
    text = "SELECT value FROM aside.other"
    await ask(app, text)
    batch = [{"query": "SET LOCAL search_path = aside"}, {"query": "INSERT INTO other VALUES (5)"}]
    assert (await app.post({"queries": batch})).status == 200
    assert len((await ask(app, text)).json()["rows"]) == 2


@pytest.mark.parametrize(
    "setting",
    [
        "SELECT SET_CONFIG('search_path', 'elsewhere', true)",
        "UPDATE pg_settings SET setting = 'elsewhere' WHERE name = 'search_path'",
    ],
)
async def test_setting_by_another_spelling_gives_another_meaning_too(app: RunningApp, setting: str) -> None:
    for text in ("CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.t (value int)"):
        await app.post({"query": text})
    assert (await ask(app, "SELECT count(*)::int AS n FROM elsewhere.t")).json()["rows"] == [{"n": 0}]
    await app.post({"queries": [{"query": setting}, {"query": "INSERT INTO t (value) VALUES (1)"}]})
    assert (await ask(app, "SELECT count(*)::int AS n FROM elsewhere.t")).json()["rows"] == [{"n": 1}]


async def test_view_that_a_function_replaced_is_looked_at_again(app: RunningApp) -> None:
    for text in (
        "INSERT INTO other VALUES (1)",
        "CREATE VIEW v AS SELECT value FROM t WHERE id = 1",
        "CREATE FUNCTION swap() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN CREATE OR REPLACE VIEW v AS SELECT id AS value FROM other; END $$",
    ):
        assert (await app.post({"query": text})).status == 200
    assert (await ask(app, "SELECT value FROM v")).json()["rows"] == [{"value": 10}]
    await app.post({"query": "SELECT swap()"})
    assert (await ask(app, "SELECT value FROM v")).json()["rows"] == [{"value": 1}]
    await app.post({"query": "UPDATE other SET id = 2"})
    assert (await ask(app, "SELECT value FROM v")).json()["rows"] == [{"value": 2}]


async def test_what_one_program_allows_is_given_to_no_other(app: RunningApp) -> None:
    for _ in range(2):
        allowed = await ask(app, "/* cache ttl=60 allow=time */ SELECT now()", cache_control="")
    assert status_of(allowed) == HIT
    assert status_of(await ask(app, "SELECT now()")) == 'sqlhttp; fwd=bypass; detail="time:now"'


async def test_fetch_that_a_change_overtook_is_not_kept_and_not_joined(app: RunningApp, database: Database) -> None:
    """Whoever asks after the change has been told of must see it, though a fetch from before is still on its way."""
    text = "SELECT value, pg_sleep(CASE WHEN value = 10 THEN 60 END) FROM t WHERE id = 1"
    slow = Call(
        piece(b'{"query":"/* cache ttl=60 allow=volatile */ %b"}' % text.encode()),
        headers=[(b"neon-connection-string", database.url.encode())],
    )
    answering = asyncio.create_task(app.send(slow))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
        await app.post({"query": "UPDATE t SET value = 11"})
        async with asyncio.timeout(10):
            call = await ask(app, f"/* cache ttl=60 allow=volatile */ {text}")
        assert call.json()["rows"][0]["value"] == 11
        slow.give(DISCONNECT)
        await answering
        await watch.until(0, "wait_event = 'PgSleep'")
    assert len(cache_of(app).cache.store) == 1


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_changes_matter_for_as_long_as_an_answer_is_kept_that_waited_for_its_listener(
    app: RunningApp, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, place = cache_of(app), ("default", database.name)
    stamps, passed = cached.cache.stamps, 0

    def wait_long(place: Place) -> "asyncio.Task[None]":
        nonlocal passed
        passed = 10**11
        return asyncio.ensure_future(asyncio.sleep(0))

    monkeypatch.setattr(Stamps, "now", lambda self: time.monotonic_ns() + passed)
    monkeypatch.setattr(cached, "on_fetch", wait_long)
    await ask(app)
    [entry] = cached.cache.store.hottest(1)
    passed = entry.keep_until - time.monotonic_ns() - 10**9
    assert stamps.now() < entry.keep_until
    assert cached.cache.is_kept(place)


@asynccontextmanager
async def held(database: Database) -> AsyncIterator[Watch]:
    """Whoever reads the table `other`, as `run()` does, waits for the length of the block."""
    async with watching(database) as watch:
        await watch.run(
            "CREATE FUNCTION run() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_notify('runs', '') FROM other; RETURN 10; END $$;"
            "INSERT INTO other VALUES (1)"
        )
        await watch.run("BEGIN; LOCK TABLE other IN ACCESS EXCLUSIVE MODE")
        yield watch
        await watch.run("COMMIT")


async def waited_for_by(app: RunningApp, count: int) -> bool:
    """One query is under way, and so many wait for its answer."""
    return [flight.waiting for flight in cache_of(app).cache.flights._by_key.values()] == [count]


async def test_thousand_identical_misses_make_one_query(app: RunningApp, database: Database) -> None:
    text = "/* cache ttl=60 allow=volatile */ SELECT run() AS value"
    listener = await database.connect()
    runs: list[object] = []
    await listener.add_listener("runs", lambda *heard: runs.append(heard))
    async with held(database):
        asking = asyncio.gather(*(ask(app, text, cache_control="") for _ in range(1000)))
        await until(partial(waited_for_by, app, 1000))
    calls = await asking
    assert {call.json()["rows"][0]["value"] for call in calls} == {10}
    counted = [status_of(call) for call in calls]
    assert counted.count(MISS) == 1
    assert counted.count(MISS + "; collapsed") == 999
    assert outcomes(app).count("miss") == 1
    await listener.execute("SELECT 1")
    await listener.close()
    assert len(runs) == 1


async def test_what_began_while_others_were_not_heard_is_answered_and_not_kept(
    app: RunningApp, database: Database
) -> None:
    """Redis is back, and what was ended meanwhile nobody here has heard of."""
    text = "/* cache ttl=60 allow=volatile */ SELECT run() AS value"
    async with held(database):
        asking = asyncio.create_task(ask(app, text, cache_control=""))
        await until(partial(waited_for_by, app, 1))
        cache_of(app).cache.forget_all()
    assert status_of(await asking) == "sqlhttp; fwd=uri-miss"
    assert [status_of(await ask(app, text, cache_control="")) for _ in range(2)] == [MISS, HIT]


async def test_others_get_their_answer_when_whoever_began_leaves(app: RunningApp, database: Database) -> None:
    body = b'{"query":"/* cache ttl=60 allow=volatile */ SELECT run() AS value"}'

    def call() -> Call:
        return Call(piece(body), headers=[(b"neon-connection-string", database.url.encode())])

    first = call()
    async with held(database) as watch:
        leaving = asyncio.create_task(app.send(first))
        await watch.until(1, "wait_event = 'relation'")
        others = [asyncio.create_task(app.send(call())) for _ in range(5)]
        await until(partial(waited_for_by, app, 6))
        first.give(DISCONNECT)
        await leaving
    answers = await asyncio.gather(*others)
    assert [answer.json()["rows"][0]["value"] for answer in answers] == [10] * 5
    assert first.sent == []
    assert len(cache_of(app).cache.store) == 1


# ── stale while revalidate ───────────────────────────────────────────────────────────────────────────────────────────


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.01)


STALE = "sqlhttp; hit; detail=refreshing"
AT_ONCE_STALE = "max-age=0, stale-while-revalidate=60"


async def test_stale_answer_comes_at_once_and_a_new_one_behind_it(app: RunningApp, database: Database) -> None:
    await ask(app, cache_control=AT_ONCE_STALE)
    database.psql("UPDATE t SET value = 11 WHERE id = 1")
    stale = await ask(app, cache_control=AT_ONCE_STALE)
    assert status_of(stale) == STALE
    assert stale.headers["cache-status"] == "sqlhttp; hit; ttl=-1; detail=refreshing"
    assert stale.json()["rows"][0]["value"] == 10

    async def is_new() -> bool:
        return bool((await ask(app, cache_control=AT_ONCE_STALE)).json()["rows"][0]["value"] == 11)

    await until(is_new)
    assert set(outcomes(app)) == {"miss", "stale"}


async def test_refresh_that_fails_keeps_the_stale_answer(app: RunningApp, database: Database) -> None:
    async def refreshes_are_over() -> bool:
        return not cache_of(app).cache.flights

    text = "SELECT 100 / value AS share FROM t WHERE id = 1"
    await ask(app, text, cache_control=AT_ONCE_STALE)
    database.psql("UPDATE t SET value = 0 WHERE id = 1")
    for _ in range(3):
        call = await ask(app, text, cache_control=AT_ONCE_STALE)
        assert (call.status, call.json()["rows"]) == (200, [{"share": 10}])
        await until(refreshes_are_over)
    assert outcomes(app) == ["miss"] + ["stale"] * 3
    assert cache_of(app)._retry_at, "none was tried"


@pytest.mark.parametrize("plan_lifetime", [300.0, 0.001])
async def test_stale_answer_ends_when_its_role_may_not_read_it_any_more(
    postgres: Cluster, database: Database, plan_lifetime: float
) -> None:
    """Also where the plan has to be asked for again, and is refused first."""
    with scratch_role(postgres) as role:
        database.psql(f"CREATE TABLE t (value int); INSERT INTO t VALUES (10); GRANT SELECT ON t TO {role}")
        url = database.as_role(role, "secret").url
        async with running_app(database, cache={"plan_lifetime": plan_lifetime}) as app:
            await app.hear_changes()
            asked = partial(ask, app, "SELECT value FROM t", url=url, cache_control=AT_ONCE_STALE)
            await asked()
            assert status_of(await asked()) == STALE
            database.psql(f"REVOKE ALL ON t FROM {role}")
            cache_of(app)._retry_at.clear()

            async def is_refused() -> bool:
                return bool((await asked()).status == 400)

            await until(is_refused)
        database.psql("DROP TABLE t")


async def test_stale_answer_ends_when_its_statement_would_not_say_the_same_again(database: Database) -> None:
    view = "CREATE OR REPLACE VIEW v AS SELECT {} AS value"
    async with running_app(database, cache={"plan_lifetime": 0.001}) as app:
        await app.hear_changes()
        database.psql(view.format("1::float8"))
        asked = partial(ask, app, "SELECT value FROM v", cache_control=AT_ONCE_STALE)
        await asked()
        assert status_of(await asked()) == STALE
        database.psql(view.format("random()"))

        async def is_bypassed() -> bool:
            return "volatile:random" in (await asked()).headers["cache-status"]

        await until(is_bypassed)


async def test_tag_with_other_letters_is_ended_in_whichever_way_it_is_named(app: RunningApp) -> None:
    for named in ("café,à", "caf\xe9".encode("latin-1").decode("utf-8", "surrogateescape")):
        pairs = [("neon-connection-string", app.database.url), ("cache-control", MINUTE)]
        headers = [(name.encode(), value.encode()) for name, value in pairs]
        headers.append((b"sqlhttp-cache-tags", named.encode("utf-8", "surrogateescape")))
        body = piece(b'{"query": "SELECT value FROM t"}')
        for status in (MISS, HIT):
            assert status_of(await app.send(Call(body, headers=headers))) == status
        ended = Call(piece('{"tags": ["café"]}'.encode()), path="/cache/invalidate", headers=headers[:1])
        assert (await app.send(ended)).status == 204
        assert status_of(await app.send(Call(body, headers=headers))) == MISS


async def test_wishes_and_tags_may_come_in_several_lines(app: RunningApp) -> None:
    lines = [("max-age=60", "stale-while-revalidate=60"), ("a", "b")]
    names = (b"cache-control", b"sqlhttp-cache-tags")
    headers = [(b"neon-connection-string", app.database.url.encode())]
    headers += [(name, value.encode()) for name, values in zip(names, lines, strict=True) for value in values]
    body = piece(b'{"query": "SELECT value FROM t"}')
    for tag in ("a", "b"):
        assert status_of(await app.send(Call(body, headers=headers))) == MISS
        ended = Call(piece(b'{"tags": ["%b"]}' % tag.encode()), path="/cache/invalidate", headers=headers[:1])
        assert (await app.send(ended)).status == 204
    headers.append((b"cache-control", b"no-store"))
    assert status_of(await app.send(Call(body, headers=headers))) == "sqlhttp; fwd=request; detail=no-store"
