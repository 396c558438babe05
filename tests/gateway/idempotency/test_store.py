"""Where keys are kept: tables that are made at first need, by whoever comes first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.errors import IdempotencyUnavailable, KeyInFlight, ResponseTooLarge, WaitTimeout
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.idempotency.keys import Key
from sqlhttp_gateway.idempotency.store import KeyStore, install
from sqlhttp_gateway.model import Options, PoolKey
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import IdempotencySettings, load_settings
from tests.support.clock import turns
from tests.support.cluster import Database
from tests.support.leases import leases


@pytest.mark.parametrize("level", ["read committed", "serializable"])
async def test_stores_that_come_at_the_same_moment_make_one_table_with_one_secret(
    database: Database, level: str
) -> None:
    """Whatever the database's default is for those who do not say."""
    database.psql(f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{level}'")
    async with leases(database, pool={"max_size": 8}) as connections:
        own = OwnAccess(connections.registry)
        stores = [KeyStore(own, IdempotencySettings()) for _ in range(8)]
        keys = await asyncio.gather(
            *(store.find(b"k", b"{}", Options(), connections.pool, tenant="") for store in stores)
        )
    assert len(set(keys)) == 1


class Waiting(OwnAccess):
    """No database is to be had before the test says so, or that there is none; who wants which is noted."""

    def __init__(self) -> None:
        self.wanted: dict[str | None, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def lease(self, upstream: Upstream, *, database: str | None = None) -> AsyncIterator[Lease]:
        assert database not in self.wanted, "one look is enough"
        self.wanted[database] = asyncio.get_running_loop().create_future()
        await self.wanted[database]
        raise WaitTimeout(f"{database} is there no more")
        yield


async def test_those_who_wait_for_a_database_share_one_wait_and_hold_up_nobody_at_another() -> None:
    registry = PoolRegistry(max_total=1, cancel_timeout=1.0, observe=unobserved)
    upstream = Targets(load_settings(database_url="postgres://a:b@nowhere/one")).default
    own = Waiting()
    store = KeyStore(own, IdempotencySettings())

    def finding(database: str) -> "asyncio.Task[Key]":
        pool = registry.pool(PoolKey("default", database, "a"), upstream)
        return asyncio.create_task(store.find(b"k", b"{}", Options(), pool, tenant=""))

    leaver, *ones = [finding("one") for _ in range(4)]
    other = finding("another")
    await turns()
    assert list(own.wanted) == ["one", "another"]
    own.wanted["another"].set_result(None)
    with pytest.raises(WaitTimeout, match="another"):
        await other
    leaver.cancel()
    await turns()
    assert not any(each.done() for each in ones)
    own.wanted["one"].set_result(None)
    assert [type(each) for each in await asyncio.gather(*ones, return_exceptions=True)] == [WaitTimeout] * 3
    own.wanted.clear()
    again = finding("one")
    await turns()
    assert list(own.wanted) == ["one"], "the next one looks again"
    again.cancel()
    own.wanted["one"].set_result(None)
    await turns()


async def test_installing_again_keeps_keys_and_secret(database: Database) -> None:
    async with leases(database) as connections:
        lease = await connections.lease()
        await install(lease)
        before = database.psql("SELECT secret FROM sqlhttp.idempotency_secret")
        await install(lease)
        lease.release()
    assert database.psql("SELECT secret FROM sqlhttp.idempotency_secret") == before != ""


async def test_answer_is_found_by_key_and_request_together(database: Database) -> None:
    async with leases(database) as connections:
        store = KeyStore(OwnAccess(connections.registry), IdempotencySettings())
        key = await store.find(b"k", b"{}", Options(), connections.pool, tenant="")
        other = await store.find(b"k", b"[]", Options(), connections.pool, tenant="")
        database.psql(
            "INSERT INTO sqlhttp.idempotency_keys VALUES "
            f"('\\x{key.id.hex()}', '\\x{key.fingerprint.hex()}', '\\x00ff', now())"
        )
        assert await store.answer(connections.pool, key) == b"\x00\xff"
        with pytest.raises(KeyInFlight):
            await store.answer(connections.pool, other)


async def test_answer_of_the_largest_size_is_kept_and_one_byte_more_is_refused() -> None:
    own = OwnAccess(PoolRegistry(max_total=1, cancel_timeout=1.0, observe=unobserved))
    store = KeyStore(own, IdempotencySettings(max_answer_bytes=10))
    store.keeping(Key(b"", b""), b"x" * 10)
    with pytest.raises(ResponseTooLarge, match="11 bytes"):
        store.keeping(Key(b"", b""), b"x" * 11)


async def test_trap_in_the_place_of_the_table_is_refused(database: Database) -> None:
    database.psql("CREATE SCHEMA sqlhttp; CREATE VIEW sqlhttp.idempotency_keys AS SELECT 1 AS id")
    async with leases(database) as connections:
        lease = await connections.lease()
        with pytest.raises(IdempotencyUnavailable, match="idempotency_keys"):
            await install(lease)
        lease.release()
