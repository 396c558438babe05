"""Batches that nobody waits for are those that `execute` would run in one write, and come to the same."""

import asyncio

import orjson
import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.plain_batch import Begun, batch_results, is_plain_batch, start_batch
from sqlhttp_gateway.model import Batch, Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.several import Several
from tests.support.cluster import Database
from tests.support.leases import Leases, leases, run

WIDE = Limits(10_000_000, 60.0)


def batch(*texts: str) -> Batch:
    return Batch(tuple(map(Statement, texts)))


async def outcome(lease: Lease, asked: Batch) -> tuple[Begun, list[Result] | None]:
    over = asyncio.Event()
    modes = [True] * len(asked.statements)
    begun = start_batch(lease, asked, over.set, array_modes=modes, limits=WIDE)
    async with asyncio.timeout(20):
        await over.wait()
    return begun, batch_results(lease, asked, begun, WIDE)


async def on_lease(lending: Leases, asked: Batch) -> tuple[Begun, list[Result] | None]:
    lease = await lending.lease()
    try:
        return await outcome(lease, asked)
    finally:
        lease.release()
        await lending.settled()


@pytest.mark.parametrize(
    ("texts", "is_plain"),
    [
        (["SELECT 1"], True),
        (["SELECT 1", "VALUES (1)", "TABLE t"], True),
        (["INSERT INTO t VALUES (1)", "DELETE FROM t"], True),
        (["SELECT 1"] * 100, True),
        (["SELECT 1"] * 101, False),
        ([], False),
        (["SELECT 1", "DELETE FROM t"], False),  # its COMMIT waits for what is selected
        (["DELETE FROM t RETURNING n"], False),
        (["WITH a AS (DELETE FROM t RETURNING n) SELECT * FROM a"], False),
        (["SELECT 1", "COMMIT"], False),
        (["SELECT 1", "SET work_mem = '1MB'"], False),
        (["CALL p()"], False),
        (["DO $$ BEGIN END $$"], False),
        (["CREATE TABLE t (n int)"], False),
        (["COPY t FROM STDIN"], False),
        (["SELECT 1", ""], False),
    ],
)
def test_batch_is_plain_that_ends_as_a_whole_and_need_not_be_looked_at_before(texts: list[str], is_plain: bool) -> None:
    assert is_plain_batch(batch(*texts)) is is_plain


async def test_text_that_stands_there_twice_is_parsed_once(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        await outcome(lease, batch("SELECT 1", "SELECT 2", "SELECT 1"))
        assert (lease.parsed, lease.reused) == (2, 1)
        assert len(lease.backend.statements) == 2
        lease.release()


async def test_texts_that_are_not_kept_are_each_their_own(database: Database) -> None:
    async with leases(database, pool={"max_size": 1, "statement_cache_size": 0}) as lending:
        for _ in range(2):
            _, results = await on_lease(lending, batch("SELECT 1", "SELECT 2", "SELECT 1"))
            assert results is not None
            assert [result.rows[-1:] for result in results] == [b"1", b"2", b"1"]


async def test_third_time_is_compared(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        asked = batch("SELECT 1", "SELECT 2")
        found = [await on_lease(lending, asked) for _ in range(4)]
        assert [isinstance(begun, Several) for begun, _ in found] == [False, False, True, True]
        assert len({str(results) for _, results in found}) == 1


async def test_statement_that_is_out_of_date_is_worth_another_try(database: Database) -> None:
    database.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    async with leases(database, pool={"max_size": 1}) as lending:
        asked = batch("SELECT 1", "SELECT * FROM t")
        for _ in range(3):
            await on_lease(lending, asked)
        database.psql("ALTER TABLE t ADD more text DEFAULT 'x'")
        _, results = await on_lease(lending, asked)
        assert results is None
        _, results = await on_lease(lending, asked)
        assert results is not None
        assert results[1].rows.endswith(b"\0\0\0\x01x")


async def test_results_are_those_of_execute(database: Database) -> None:
    database.psql("CREATE TABLE t AS SELECT n, 'name ' || n AS name FROM generate_series(1, 500) AS n")
    texts = ["SELECT * FROM t ORDER BY n", "SELECT FROM t", "VALUES (1, NULL)", "SELECT * FROM t WHERE n = 0"]
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        by_execute = await run(lease, *texts, limits=WIDE)
        lease.release()
        await lending.settled()
        for _ in range(3):
            _, results = await on_lease(lending, batch(*texts))
            assert results is not None
            assert [each._replace(read=None) for each in results] == [each._replace(read=None) for each in by_execute]


async def test_rows_that_come_in_many_pieces_are_read_as_they_come_and_stay_text(database: Database) -> None:
    many = "SELECT n, repeat('x', 100) FROM generate_series(1, 3000) AS n"
    async with leases(database, pool={"max_size": 1}) as lending:
        for _ in range(3):  # parsed, prepared, foreseen
            _, results = await on_lease(lending, batch("SELECT 1", many))
            assert results is not None
            assert results[1].read is not None
            rows = orjson.loads(b"".join(results[1].read.json()))
            assert [row[0] for row in rows] == [str(number) for number in range(1, 3001)]


async def test_text_that_could_not_be_parsed_does_not_pass_for_prepared(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        lease = await lending.lease()
        with pytest.raises(PostgresError, match="nowhere"):
            await outcome(lease, batch("SELECT nowhere", "SELECT 1"))
        assert len(lease.backend.statements) == 0
        lease.release()
        await lending.settled()
