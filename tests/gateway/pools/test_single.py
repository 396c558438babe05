"""A plain statement in one write and one read leaves as clean a connection as any, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, PostgresError, StatementTimeout
from sqlhttp_gateway.execute import Limits, plain_result, start_plain
from sqlhttp_gateway.model import Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import CLEAN_REPLIES, LOOK_EVERY
from sqlhttp_gateway.pools.single import Single
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.cut_answers import Cut
from tests.support.leases import Leases, leases, until

WIDE = Limits(10_000_000, 60.0)


class Asked:
    """A statement that was begun on a lease of its own."""

    def __init__(self, lease: Lease, statement: Statement, limits: Limits = WIDE) -> None:
        self.lease = lease
        self.over = asyncio.Event()
        started = start_plain(lease, statement, self.over.set, array_mode=True, limits=limits)
        assert isinstance(started, Single), "it was not foreseen"
        self.single = started

    async def outcome(self) -> Result | GatewayError:
        """What came of it."""
        async with asyncio.timeout(20):
            await self.over.wait()
        if self.single.result is not None:
            assert self.single.exchange is None
            return self.single.result
        exchange = self.single.exchange
        assert exchange is not None
        return exchange.error or exchange.results[0]


@asynccontextmanager
async def foreseen(database: Database, *texts: str, **sections: Any) -> AsyncIterator[Leases]:
    """A pool of one connection that has run these statements, without parameters, often enough to foresee them."""
    async with leases(database, pool={"max_size": 1}, **sections) as lending:
        for _ in range(2):
            for text in texts:
                await known(lending, text)
        yield lending


async def known(lending: Leases, text: str) -> None:
    """Run a statement as if by a request."""
    lease = await lending.lease()
    over = asyncio.Event()
    statement = Statement(text)
    started = start_plain(lease, statement, over.set, array_mode=True, limits=WIDE)
    await over.wait()
    plain_result(lease, statement, started, WIDE)
    lease.release()
    await lending.settled()


def values(result: Result | GatewayError) -> list[tuple[bytes | None, ...]]:
    assert isinstance(result, Result), result
    return list(rows_of(result.rows))


async def test_connection_is_free_the_moment_the_answer_is_here(database: Database) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        lease = await lending.lease()
        Cut(lease.backend)
        asked = Asked(lease, Statement("SELECT 1"))
        assert values(await asked.outcome()) == [(b"1",)]
        lease.release()
        assert lending.pool.idle == 1
        assert lending.pool.gate.in_use == 0


@pytest.mark.parametrize("cuts", [(1,), (9,), (120, 121, 122), (-len(CLEAN_REPLIES[0]),), (-1,)])
async def test_answer_in_pieces_is_read_all_the_same(database: Database, cuts: tuple[int, ...]) -> None:
    text = "SELECT n, 'x' FROM generate_series(1, 3) AS n"
    async with foreseen(database, text) as lending:
        lease = await lending.lease()
        Cut(lease.backend, *cuts)
        asked = Asked(lease, Statement(text))
        assert values(await asked.outcome()) == [(b"1", b"x"), (b"2", b"x"), (b"3", b"x")]
        lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


@pytest.mark.parametrize(
    ("dirt", "look", "clean"),
    [
        ("SELECT set_config('work_mem', '1MB', false)", "SELECT current_setting('work_mem')", b"4MB"),
        ("SELECT set_config('a.b', 'mine', false)", "SELECT current_setting('a.b', true)", b""),
        ("SELECT set_config('role', 'pg_monitor', false)", "SELECT current_user", b"postgres"),
        ("SELECT pg_advisory_lock(7)::text", "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'", b"0"),
    ],
)
async def test_nothing_of_one_statement_is_there_for_the_next(
    database: Database, dirt: str, look: str, clean: bytes
) -> None:
    async with foreseen(database, dirt, look) as lending:
        for _ in range(3):
            asked = Asked(await lending.lease(), Statement(dirt))
            await asked.outcome()
            asked.lease.release()
            await lending.settled()
            asked = Asked(await lending.lease(), Statement(look))
            assert values(await asked.outcome()) == [(clean,)]
            asked.lease.release()
            await lending.settled()
        assert lending.pool.idle == 1


@pytest.mark.parametrize("cuts", [(), (-len(CLEAN_REPLIES[0]),), (9,)])
async def test_scrub_that_is_not_confirmed_is_followed_by_a_deep_one(database: Database, cuts: tuple[int, ...]) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        lease = await lending.lease()
        cut = Cut(lease.backend, *cuts, status=b"T")
        asked = Asked(lease, Statement("SELECT 1"))
        assert values(await asked.outcome()) == [(b"1",)]
        cut.heal()
        lease.release()
        assert lending.pool.idle == 0
        await lending.settled()
        assert lending.pool.idle == 1
        assert lease.backend.statements.prepared("SELECT 1") is None


async def test_error_is_told_and_the_connection_kept(database: Database) -> None:
    text = "SELECT 1 / (SELECT count(*) FROM t)"
    database.psql("CREATE TABLE t AS SELECT 1")
    async with foreseen(database, text) as lending:
        database.psql("DELETE FROM t")
        asked = Asked(await lending.lease(), Statement(text))
        error = await asked.outcome()
        assert isinstance(error, PostgresError)
        assert error.code == "22012"
        asked.lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


SLOW = "SELECT pg_sleep(coalesce((SELECT max(n) FROM t), 0))"


async def test_holder_who_leaves_stops_the_statement_and_the_connection_is_clean_again(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW, "SELECT 1") as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW))
        asked.lease.release()
        await lending.settled()
        assert not asked.over.is_set()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT 1") == "1"


async def test_statement_that_runs_too_long_is_refused(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW) as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW), Limits(10_000_000, 0.01))
        assert isinstance(await asked.outcome(), StatementTimeout)
        asked.lease.release()
        await lending.settled()


async def test_connection_that_breaks_is_told(database: Database) -> None:
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW) as lending:
        database.psql("INSERT INTO t VALUES (60)")
        asked = Asked(await lending.lease(), Statement(SLOW))
        asked.lease.backend.abort()
        assert isinstance(await asked.outcome(), ConnectionBroken)
        asked.lease.release()
        await until(lambda: not lending.registry.connections)


async def test_answer_that_is_too_large_is_refused(database: Database) -> None:
    text = "SELECT repeat('x', 1000)"
    async with foreseen(database, text) as lending:
        asked = Asked(await lending.lease(), Statement(text), Limits(500, 60.0))
        error = await asked.outcome()
        assert isinstance(error, GatewayError)
        assert "too large (max is 500 bytes)" in error.message
        asked.lease.release()
        await lending.settled()
        assert lending.pool.idle == 1


async def test_now_and_then_the_scrub_looks_for_what_a_function_has_prepared(database: Database) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        for _ in range(2 * LOOK_EVERY):
            lease = await lending.lease()
            Cut(lease.backend)
            asked = Asked(lease, Statement("SELECT 1"))
            assert values(await asked.outcome()) == [(b"1",)]
            lease.release()
            assert lending.pool.idle == 1, "the answer to a scrub that looks is as usual"
