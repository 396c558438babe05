"""NOTIFY sqlhttp_invalidate, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import watching

LISTENS = "query ILIKE 'LISTEN%sqlhttp_invalidate%'"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    database.psql("CREATE TABLE t AS SELECT 1 AS id")
    async with running_app(database) as app:
        yield app


async def is_hit(app: RunningApp, text: str = "SELECT * FROM t", tags: str = "t") -> bool:
    call = await app.post({"query": text}, cache_control="max-age=60", sqlhttp_cache_tags=tags)
    assert call.status == 200, call.body
    return "; hit" in call.headers["cache-status"]


async def listening(app: RunningApp, database: Database) -> None:
    """Until an answer that is kept stays."""
    async with asyncio.timeout(10):
        while not await is_hit(app):  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.01)
    async with watching(database) as watch:
        await watch.until(1, LISTENS)


async def test_first_answer_is_kept_since_it_was_fetched_when_somebody_listened(
    app: RunningApp, database: Database
) -> None:
    assert not await is_hit(app)
    assert await is_hit(app)
    async with watching(database) as watch:
        await watch.until(1, LISTENS)


async def gone(app: RunningApp, text: str = "SELECT * FROM t") -> None:
    async with asyncio.timeout(10):
        while await is_hit(app, text):  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("payload", ["t", "a,t", "relation public.t", "relation t", "", "two words"])
async def test_database_ends_answers_by_itself(app: RunningApp, database: Database, payload: str) -> None:
    await listening(app, database)
    assert await is_hit(app)
    database.psql(f"NOTIFY sqlhttp_invalidate, '{payload}'")
    await gone(app)


async def test_what_is_not_named_stays(app: RunningApp, database: Database) -> None:
    await listening(app, database)
    await is_hit(app, "SELECT 1", tags="other")
    database.psql("NOTIFY sqlhttp_invalidate, 't'")
    await gone(app)
    assert await is_hit(app, "SELECT 1", tags="other")


async def test_what_was_kept_while_nobody_listened_ends_when_somebody_does_again(
    app: RunningApp, database: Database
) -> None:
    await listening(app, database)
    assert await is_hit(app)
    database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENS} AND pid <> pg_backend_pid()")
    await gone(app)
    await listening(app, database)


async def test_password_that_the_settings_have_anew_is_listened_with(database: Database, postgres: Cluster) -> None:
    """The one it began with would let it in no more, and nobody would be told that answers do not end."""
    database.psql("CREATE TABLE t AS SELECT 1 AS id")
    with scratch_role(postgres, "SUPERUSER") as role:
        async with running_app(database.as_role(role, "secret")) as app:
            await listening(app, database)
            pid = database.psql(f"SELECT pid FROM pg_stat_activity WHERE {LISTENS} AND pid <> pg_backend_pid()").strip()
            database.psql(f"ALTER ROLE {role} PASSWORD 'newer'")
            app.database = database.as_role(role, "newer")
            await app.app.reload(lambda: load_settings(database_url=app.database.url, drain={"grace": 5}))
            database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid}")
            async with watching(database) as watch:
                await watch.until(1, f"{LISTENS} AND pid <> {pid}")
            await listening(app, database)
            database.psql("NOTIFY sqlhttp_invalidate, 't'")
            await gone(app)


async def test_without_the_setting_nobody_listens(database: Database) -> None:
    async with running_app(database, cache={"listen": False}) as app:
        async with watching(database) as watch, watch.counting(LISTENS) as seen:
            assert not await is_hit(app, "SELECT 1")
            assert await is_hit(app, "SELECT 1"), "it is kept all the same"
        assert seen.most == 0, f"of {seen.looks} looks"
