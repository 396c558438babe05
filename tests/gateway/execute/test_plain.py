"""A plain statement is parsed once, bound from then on, and foreseen when its answer has been seen."""

import asyncio

import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.plain import Plain, Started, plain_result, start_plain
from sqlhttp_gateway.model import Result, Statement
from sqlhttp_gateway.pools.single import Single
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.leases import Leases, leases, run

LIMITS = Limits(10_000_000, 60.0)


async def asked(lending: Leases, text: str, *params: bytes) -> tuple[Started, Result | None]:
    """How the statement went its way, and what came of it."""
    lease = await lending.lease()
    over = asyncio.Event()
    statement = Statement(text, params)
    try:
        started = start_plain(lease, statement, over.set, array_mode=True, limits=LIMITS)
        async with asyncio.timeout(20):
            await over.wait()
        return started, plain_result(lease, statement, started, LIMITS)
    finally:
        lease.release()
        await lending.settled()


async def test_statement_is_parsed_then_bound_then_foreseen(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        ways = []
        for number in (b"1", b"2", b"3"):
            started, result = await asked(lending, "SELECT $1::int", number)
            assert result is not None
            assert list(rows_of(result.rows)) == [(number,)]
            ways.append((type(started), getattr(started, "prepared", None) is not None))
        assert ways == [(Plain, False), (Plain, True), (Single, True)]


async def test_statement_whose_columns_changed_is_left_for_another_try_and_forgotten(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        for _ in range(3):
            await asked(lending, "SELECT * FROM changing")
        await lending.run("ALTER TABLE changing ADD COLUMN b int")
        assert (await asked(lending, "SELECT * FROM changing"))[1] is None
        started, result = await asked(lending, "SELECT * FROM changing")
        assert isinstance(started, Plain)
        assert result is not None


async def test_error_of_the_statement_itself_is_raised_and_what_was_parsed_is_kept(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        with pytest.raises(PostgresError) as refused:
            await asked(lending, "SELECT 1 / $1::int", b"0")
        assert refused.value.code == "22012"
        started, _ = await asked(lending, "SELECT 1 / $1::int", b"1")
        assert isinstance(started, Plain)
        assert started.prepared is not None


async def test_statement_that_others_prepared_on_the_connection_is_only_bound(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        await run(lease, "SELECT 7")
        lease.release()
        await lending.settled()
        started, _ = await asked(lending, "SELECT 7")
        assert isinstance(started, Plain)
        assert started.prepared is not None
