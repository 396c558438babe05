"""Requests taken to the cache: those that wish it, known again by their bytes, and answered as their caller."""

from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.cached import Outcome
from sqlhttp_gateway.model import Options
from sqlhttp_gateway.sql.consulting import Consulting, cached_reply
from sqlhttp_gateway.story import Story, Telling
from tests.support.cluster import Database
from tests.support.running_app import RunningApp, running_app

BODY = b'{"query":"SELECT current_user::text AS u, 7 AS a"}'
WISHING = {b"cache-control": b"max-age=60"}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database) as running:
        await running.hear_changes()
        yield running


def consulting_of(app: RunningApp) -> Consulting:
    assert app.app._sql is not None
    consulting = app.app._sql._service._consulting
    assert consulting is not None
    return consulting


async def test_request_without_a_wish_is_not_looked_at(app: RunningApp, database: Database) -> None:
    consulting, url = consulting_of(app), database.url.encode()
    assert consulting.wish({}, url, b"", BODY) is None
    assert consulting.wish(WISHING, url, b"", BODY) is not None
    assert consulting.wish({}, url, b"cache_ttl=60", BODY) is not None


async def test_same_bytes_are_known_again_without_being_read(app: RunningApp, database: Database) -> None:
    consulting, url = consulting_of(app), database.url.encode()
    await app.post({"query": "SELECT 1"})
    assert app.app._sql is not None
    caller = app.app._sql._service._authenticator.recall(url, None, b"")
    assert caller is not None
    wish = consulting.wish(WISHING, url, b"", BODY)
    assert wish is not None
    assert wish.recall(caller, Options()) is None
    call = await app.post(BODY, cache_control="max-age=60")
    assert call.json()["rows"] == [{"u": "postgres", "a": 7}]
    again = consulting.wish(WISHING, url, b"", BODY)
    assert again is not None
    statement = again.recall(caller, Options())
    assert statement is not None
    assert statement.text == "SELECT current_user::text AS u, 7 AS a"


async def test_without_a_cache_nobody_is_asked(database: Database) -> None:
    async with running_app(database, cache={"max_bytes": 0}) as app:
        assert app.app._sql is not None
        assert app.app._sql._service._consulting is None
        assert (await app.post(BODY, cache_control="max-age=60")).status == 200


def test_outcome_without_an_answer_is_no_reply() -> None:
    story = Story(Telling(), traceparent=None, bytes_in=0)
    assert cached_reply(Outcome(((b"cache-status", b"sqlhttp; fwd=bypass"),)), story) is None
    assert story.outcome == "cancelled", "it has not ended"
