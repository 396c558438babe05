"""Two gateways that share their answers through a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from sqlhttp_gateway.cached import CachedAnswers
from tests.support.cluster import Database
from tests.support.redis_server import RedisServer, running_redis
from tests.support.running_app import RunningApp, running_app

HIT, SHARED = "sqlhttp; hit", "detail=shared"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def pair(database: Database, redis: RedisServer) -> AsyncIterator[tuple[RunningApp, RunningApp]]:
    database.psql("CREATE TABLE t (id int PRIMARY KEY, value int); INSERT INTO t VALUES (1, 10)")
    async with AsyncExitStack() as stack:
        cache = {"shared_url": redis.url, "shared_timeout": 0.5, "shared_staleness": 0.3}
        apps = [await stack.enter_async_context(running_app(database, cache=cache)) for _ in range(2)]
        for app in apps:
            await connected(app)
            await app.hear_changes()
        yield apps[0], apps[1]


def cached_of(app: RunningApp) -> CachedAnswers:
    assert app.app._sql is not None
    consulting = app.app._sql._service._consulting
    assert consulting is not None
    return consulting.cached


async def connected(app: RunningApp, *, wanted: bool = True) -> None:
    shared = cached_of(app).shared
    assert shared is not None
    async with asyncio.timeout(15):
        while shared.is_connected is not wanted:  # noqa: ASYNC110 - it is the server that is waited for
            await asyncio.sleep(0.01)


async def ask(app: RunningApp) -> tuple[int, str]:
    call = await app.post({"query": "SELECT value FROM t"}, cache_control="max-age=600")
    assert call.status == 200, call.body
    return call.json()["rows"][0]["value"], call.headers["cache-status"]


async def asked_until(app: RunningApp, word: str) -> tuple[int, str]:
    async with asyncio.timeout(10):
        while word not in (found := await ask(app))[1]:  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.01)
    return found


async def test_answer_that_one_gateway_fetched_is_the_others_too(pair: tuple[RunningApp, RunningApp]) -> None:
    """The first fetch of a gateway does not count: until it listens to the database it trusts nobody's answer."""
    _, other = pair
    for app in pair:
        await asked_until(app, HIT)
    other.events.clear()
    memory = cached_of(other).cache
    async with asyncio.timeout(10):
        while True:
            memory.forget_all()
            value, status = await ask(other)
            if SHARED in status:
                break
    assert value == 10
    assert HIT in status
    told = other.answered()[-1]
    assert (told.executed, told.waited, told.rows) == (0, 0, 1), "it took no connection"


async def test_write_through_one_gateway_is_seen_through_the_other_when_it_is_acknowledged(
    pair: tuple[RunningApp, RunningApp],
) -> None:
    """In the other's memory a moment later, by pub/sub; from the shared store never again."""
    one, other = pair
    for app in pair:
        await asked_until(app, HIT)
    for value in range(11, 16):
        assert (await one.post({"query": f"UPDATE t SET value = {value}"})).status == 200
        assert (await ask(one))[0] == value
        async with asyncio.timeout(5):
            while (await ask(other))[0] != value:  # noqa: ASYNC110 - each look is a request
                await asyncio.sleep(0.001)


async def test_no_request_fails_while_redis_dies_and_comes_back(
    pair: tuple[RunningApp, RunningApp], redis: RedisServer
) -> None:
    one, other = pair
    over = asyncio.Event()
    slowest = 0.0

    loads = [0, 0]

    async def load(number: int) -> None:
        nonlocal slowest
        app, loop = pair[number], asyncio.get_running_loop()
        while not over.is_set():
            began = loop.time()
            await ask(app)  # asserts that it is answered with 200
            assert (await app.post({"query": "UPDATE t SET value = value + 1"})).status == 200
            slowest = max(slowest, loop.time() - began)
            loads[number] += 1
            await asyncio.sleep(0)

    async def more() -> None:
        """Until each gateway has answered ten more."""
        wanted = [count + 10 for count in loads]
        async with asyncio.timeout(20):
            while any(count < most for count, most in zip(loads, wanted, strict=True)):  # noqa: ASYNC110 - it is not told
                await asyncio.sleep(0)

    running = [asyncio.create_task(load(number)) for number in range(2)]
    await more()
    for _ in range(2):
        redis.kill()
        for app in pair:
            await connected(app, wanted=False)
        await more()
        redis.start()
        for app in pair:
            await connected(app)
    over.set()
    await asyncio.gather(*running)
    assert slowest < 5
    assert (await ask(one))[0] == (await asked_until(other, "sqlhttp"))[0]


async def test_full_redis_takes_no_answers_and_ends_those_that_it_has(
    pair: tuple[RunningApp, RunningApp], redis: RedisServer
) -> None:
    """It is still there, so that nothing is forgotten because of it; and changes are heard as ever."""
    one, other = pair
    for app in pair:
        await asked_until(app, HIT)
    redis.fill()
    for number in range(3):
        call = await one.post({"query": f"SELECT value + {number} FROM t"}, cache_control="max-age=600")
        assert "stored" in call.headers["cache-status"]
        for app in pair:
            shared = cached_of(app).shared
            assert shared is not None
            assert shared.is_connected
    assert (await one.post({"query": "UPDATE t SET value = 11"})).status == 200
    async with asyncio.timeout(5):
        while (await ask(other))[0] != 11:  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.001)
    cached_of(other).cache.forget_all()
    assert (await ask(other))[0] == 11, "the shared store has the old one no more"


async def test_without_redis_an_answer_of_ones_own_memory_is_given_for_the_stated_time_alone(
    pair: tuple[RunningApp, RunningApp], redis: RedisServer
) -> None:
    one, other = pair
    await asked_until(other, HIT)
    redis.kill()
    for app in pair:
        await connected(app, wanted=False)
    assert (await one.post({"query": "UPDATE t SET value = 99"})).status == 200
    async with asyncio.timeout(0.3 + 10):
        while (await ask(other))[0] != 99:  # noqa: ASYNC110 - each look is a request
            await asyncio.sleep(0.01)
