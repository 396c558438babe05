"""A fetch for the cache that begins while a plain statement runs never brings an answer that outlives the change."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql import carrier
from tests.support.asgi import Call
from tests.support.asking import LEFT_TO_SERVICE, Asking, one
from tests.support.cluster import Database
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import Watch, watching

DEADLINE = 20.0  # seconds
READ = "SELECT value FROM t WHERE id = 1"
WRITE = one("UPDATE t SET value = 11 WHERE id = 1")
WAITS_FOR_LOCK = "wait_event_type = 'Lock'"
SETTLES = 0.3  # seconds


@pytest.fixture
async def asking(database: Database) -> AsyncIterator[Asking]:
    async with running_app(database, pool={"max_size": 4}) as app:
        for text in ("CREATE TABLE t (id int PRIMARY KEY, value int)", "INSERT INTO t VALUES (1, 10), (2, 20)"):
            await app.post(one(text))
        yield Asking(app)


async def read(app: RunningApp) -> tuple[int, bool]:
    """The value, as whoever asks the cache gets it, and whether it was in it."""
    call: Call = await app.post(one(READ), cache_control="max-age=60")
    return call.json()["rows"][0]["value"], "hit" in call.headers["cache-status"]


async def hold_row(watch: Watch) -> None:
    await watch.run("BEGIN")
    await watch.run("SELECT FROM t WHERE id = 1 FOR UPDATE")


async def test_answer_that_was_fetched_while_a_change_ran_ends_with_it(asking: Asking) -> None:
    async with watching(asking.app.database) as watch:
        await hold_row(watch)
        errand, answer = asking.begin(WRITE)
        assert errand is not None, "nobody uses the cache yet"
        await watch.until(1, WAITS_FOR_LOCK)
        assert [await read(asking.app) for _ in range(2)] == [(10, False), (10, True)]
        await watch.run("COMMIT")
        async with asyncio.timeout(DEADLINE):
            reply = await answer
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["rowCount"] == 1
    assert await read(asking.app) == (11, False)


async def test_answer_that_was_fetched_while_a_change_failed_is_kept(asking: Asking) -> None:
    async with watching(asking.app.database) as watch:
        await hold_row(watch)
        _, answer = asking.begin(one("UPDATE t SET id = 2 WHERE id = 1"))
        await watch.until(1, WAITS_FOR_LOCK)
        await read(asking.app)
        await watch.run("COMMIT")
        async with asyncio.timeout(DEADLINE):
            reply = await answer
    assert isinstance(reply, Reply)
    assert reply.status == 400
    assert await read(asking.app) == (10, True)


async def test_change_whose_own_answer_could_not_be_written_ends_what_rests_on_it(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_types(*args: object) -> None:
        raise PostgresError({"C": "42501", "M": "permission denied for table pg_type"})

    app = asking.app
    assert [await read(app) for _ in range(2)] == [(10, False), (10, True)]
    with monkeypatch.context() as patched:
        patched.setattr(carrier, "array_types", no_types)
        call = await app.post(WRITE)
    assert (call.status, call.headers["sqlhttp-ran"]) == (400, "yes")
    assert await read(app) == (11, False)


async def test_change_whose_program_left_ends_answers_also_later_since_it_may_commit_before_the_cancel(
    asking: Asking,
) -> None:
    assert asking.errands.changes is not None
    asking.errands.changes.settle_after = SETTLES
    async with watching(asking.app.database) as watch:
        await hold_row(watch)
        errand, _ = asking.begin(WRITE)
        await watch.until(1, WAITS_FOR_LOCK)
        await read(asking.app)
        errand.cancel()
        assert await read(asking.app) == (10, False)
        await watch.run("COMMIT")
        assert await read(asking.app) == (10, True)
        await watch.until(0, WAITS_FOR_LOCK)
    await until_fetched_anew(asking.app)


async def until_fetched_anew(app: RunningApp) -> None:
    """Wait until the answer that was kept before is none any more."""
    async with asyncio.timeout(DEADLINE):
        while (await read(app))[1]:  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(SETTLES / 10)


async def test_change_is_the_services_as_soon_as_anybody_has_asked_the_cache(asking: Asking) -> None:
    await read(asking.app)
    assert await asking.of_quick(WRITE) == LEFT_TO_SERVICE
    assert isinstance(await asking.of_service(WRITE), Reply)
    assert await read(asking.app) == (11, False)


async def test_read_whose_plan_is_known_stays_quick_beside_the_cache(asking: Asking) -> None:
    await read(asking.app)
    await asking.of_service(one(READ))
    assert isinstance(await asking.of_quick(one(READ)), Reply)
    assert await read(asking.app) == (10, True)
