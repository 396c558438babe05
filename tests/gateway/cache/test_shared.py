"""Answers that gateways share, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from sqlhttp_gateway.cache.shared import Shared, SharedStore
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.model import Bookmark
from tests.support.redis_server import RedisServer, running_redis

ANSWER = Shared(b'{"rows":[]}', 3, 60.0, 5.0, 0.25, 0.0, (7, 8), Bookmark(2**64 - 1, 1, 300), None)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


class Gateway:
    def __init__(self, url: str, prefix: str) -> None:
        self.heard: list[int] = []
        self.lost = 0
        self.store = SharedStore(url, prefix=prefix, timeout=0.5, heard=self.heard.extend, lost=self._lose)

    def _lose(self) -> None:
        self.lost += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - it is the server that is waited for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(redis: RedisServer, prefix: str) -> AsyncIterator[Gateway]:
    made = Gateway(redis.url, prefix)
    made.store.start()
    try:
        await until(lambda: made.store.is_connected)
        yield made
    finally:
        await made.store.stop()


@pytest.fixture
async def pair(redis: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Gateway, Gateway]]:
    prefix = f"{request.node.name}:"
    async with gateway(redis, prefix) as one, gateway(redis, prefix) as other:
        yield one, other


async def put(gateway: Gateway, key: bytes = b"k", answer: Shared = ANSWER) -> None:
    generations = await gateway.store.generations(answer.buckets)
    assert generations is not None
    gateway.store.put(key, answer, generations)
    await until(lambda: not gateway.store._tasks)


async def test_what_one_gateway_stored_another_one_finds(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    assert await other.store.get(b"k") is None
    await put(one)
    found = await other.store.get(b"k")
    assert found is not None
    assert found._replace(age=0.0) == ANSWER
    assert 0 <= found.age < 5


async def test_what_one_gateway_ends_is_good_nowhere_when_it_is_done(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    await put(one)
    await other.store.end([8])
    assert await one.store.get(b"k") is None
    assert await other.store.get(b"k") is None
    await until(lambda: one.heard == [8])
    assert other.heard == [], "nobody has to be told what it said itself"


async def test_answer_whose_query_began_before_the_end_of_what_it_rests_on_is_not_good(
    pair: tuple[Gateway, Gateway],
) -> None:
    one, other = pair
    generations = await one.store.generations(ANSWER.buckets)
    assert generations is not None
    await other.store.end([7])
    one.store.put(b"k", ANSWER, generations)
    await until(lambda: not one.store._tasks)
    assert await other.store.get(b"k") is None


async def test_answer_is_gone_when_nobody_wants_it_any_more(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    await put(one, answer=ANSWER._replace(ttl=0.2, swr=0.0))
    assert await other.store.get(b"k") is not None
    async with asyncio.timeout(10):
        while await other.store.get(b"k") is not None:  # noqa: ASYNC110 - it is the server that is waited for
            await asyncio.sleep(0.01)


async def test_server_that_dies_fails_nothing_and_is_told_later_what_ended_meanwhile() -> None:
    with running_redis() as redis:
        async with gateway(redis, "p:") as one, gateway(redis, "p:") as other:
            await put(one)
            redis.kill()
            assert await one.store.get(b"k") is None
            await one.store.end([7])
            await until(lambda: not one.store.is_connected and not other.store.is_connected)
            assert await one.store.generations([1]) is None
            assert (one.lost, other.lost) == (1, 1)
            redis.start()
            await until(lambda: one.store.is_connected and other.store.is_connected)
            assert (one.lost, other.lost) == (2, 2)
            assert await other.store.get(b"k") is None
            await put(one)
            assert await other.store.get(b"k") is not None


async def test_server_that_has_lost_a_generation_never_makes_an_old_answer_good(pair: tuple[Gateway, Gateway]) -> None:
    one, other = pair
    await put(one)
    await one.store._redis.delete(f"{one.store._prefix}g:7")
    assert await other.store.get(b"k") is None


async def test_server_that_is_not_there_is_not_waited_for() -> None:
    store = SharedStore("redis://127.0.0.1:1/0", prefix="x", timeout=0.1, heard=lambda _: None, lost=lambda: None)
    store.start()
    try:
        async with asyncio.timeout(0.05):
            for _ in range(100):
                assert await store.get(b"k") is None
                await store.end([1])
    finally:
        await store.stop()


async def test_server_that_cannot_be_used_is_told_once_and_so_is_that_it_can_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or an operator with a wrong password would believe that answers are shared."""
    caplog.set_level("INFO")
    tries = 0

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    with running_redis() as own:
        async with gateway(own, "told:") as made:
            own.kill()
            await until(lambda: "cannot be used" in caplog.text)
            server = await asyncio.start_server(refusing, "127.0.0.1", own.port)
            await until(lambda: tries >= 3)
            server.close()
            await server.wait_closed()
            own.start()
            await until(lambda: made.store.is_connected)
    told = [record.getMessage() for record in caplog.records if "cache.shared_url" in record.getMessage()]
    assert ["cannot be used:" in each for each in told] == [True, False]
    assert "can be used again" in told[1]


def test_url_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match="shared_url"):
        SharedStore("nonsense", prefix="", timeout=1, heard=lambda _: None, lost=lambda: None)


@pytest.mark.parametrize("url", ["redis://app:qz/qz@host:6379/0", "redis://:qz#qz@host", "redis://:qz?qz@host"])
def test_url_that_cannot_be_used_shows_nothing_of_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="shared_url") as raised:
        SharedStore(url, prefix="", timeout=1.0, heard=lambda buckets: None, lost=lambda: None)
    assert "qz" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://host/0?timeout=3", 'no parameter "timeout"'),
        ("redis://host?ssl_cert_reqs=none", 'no parameter "ssl_cert_reqs"'),
        ("rediss://host?ssl_cert_reqs=perhaps", "has a value that cannot be used"),
        ("redis://host?protocol=9", "has a value that cannot be used"),
        ("redis://host?decode_responses=true", "decode_responses"),
        ("redis://app:12?qz=qz@host", "has to be written %3F"),
    ],
)
def test_parameter_that_no_connection_could_be_made_with_is_refused_by_its_name(url: str, why: str) -> None:
    """It would never connect, and nobody would be told."""
    with pytest.raises(ConfigurationError, match="shared_url cannot be used") as raised:
        SharedStore(url, prefix="", timeout=1.0, heard=lambda buckets: None, lost=lambda: None)
    assert why in str(raised.value)
    assert "qz" not in str(raised.value)
