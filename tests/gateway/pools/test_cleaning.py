"""A connection whose state nobody knows is made clean, or told to be unfit, within its time."""

import asyncio
from typing import Any

import pytest

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.cleaning import clean_deeply
from sqlhttp_gateway.pools.scrub import Scrub
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Database
from tests.support.leases import DEADLINE, leases, value

LEFT = """SELECT concat_ws(' ', current_setting('work_mem'),
(SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()))"""


def send(backend: Backend, text: bytes) -> asyncio.Future[None]:
    """Run this past everything that keeps account of the connection; done when it is over."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(error: GatewayError | None) -> None:
        over.set_result(None)

    backend.send(encode_query(text), (Scrub(), end))
    return over


async def test_what_a_session_has_left_is_gone(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        await send(lease.backend, b"SET work_mem = '77kB'; PREPARE one AS SELECT 1; SELECT pg_advisory_lock(1)")
        assert await value(lease, LEFT) == "77kB 1 1"
        assert await clean_deeply(lease.backend, is_idle=True, timeout=DEADLINE)
        assert await value(lease, LEFT) == "4MB 0 0"
        lease.release()


async def test_open_transaction_is_rolled_back_even_if_the_caller_took_it_for_none(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        for is_idle in (False, True):
            await send(lease.backend, b"BEGIN; CREATE TABLE t (); SET LOCAL work_mem = '77kB'")
            assert await clean_deeply(lease.backend, is_idle=is_idle, timeout=DEADLINE)
            assert await value(lease, "SELECT to_regclass('t') IS NULL") == "t"
        lease.release()


async def test_connection_that_answers_too_late_is_not_clean(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        send(lease.backend, b"SELECT pg_sleep(600)")
        assert not await clean_deeply(lease.backend, is_idle=True, timeout=0.05)
        lease.drop("unclean")


async def test_connection_that_is_closed_is_not_asked(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        lease.backend.abort()
        assert lease.backend.closing
        assert not await clean_deeply(lease.backend, is_idle=True, timeout=DEADLINE)
        lease.release()


async def test_statements_that_postgres_drops_are_known_no_more(database: Database) -> None:
    async with leases(database) as lending:
        lease = await lending.lease()
        for _ in range(2):
            await value(lease, "SELECT 1")
        assert lease.backend.statements.prepared("SELECT 1") is not None
        assert await clean_deeply(lease.backend, is_idle=True, timeout=DEADLINE)
        assert lease.backend.statements.prepared("SELECT 1") is None
        assert await value(lease, "SELECT 1") == "1"
        lease.release()


async def test_connection_that_ends_with_the_answer_is_not_clean(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Backend.send

    def send_and_end(self: Backend, frames: bytes, *expected: Any) -> None:
        *others, (reader, finish) = expected

        def end(error: GatewayError | None) -> None:
            finish(error)
            self.abort()

        send(self, frames, *others, (reader, end))

    async with leases(database) as lending:
        lease = await lending.lease()
        monkeypatch.setattr(Backend, "send", send_and_end)
        assert not await clean_deeply(lease.backend, is_idle=True, timeout=DEADLINE)
        monkeypatch.undo()
        lease.release()
