"""A batch in one write and one read leaves as clean a connection as any, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, HasRun, PostgresError, StatementTimeout
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.plain_batch import batch_results, start_batch
from sqlhttp_gateway.model import Batch, Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import BEHIND_SEVERAL_LOOKING, CLEAN_REPLIES, LOOK_EVERY, STARTED
from sqlhttp_gateway.pools.several import Several
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.cut_answers import Cut
from tests.support.leases import Leases, leases, until

WIDE = Limits(10_000_000, 60.0)


class Asked:
    """A batch that was begun on a lease of its own."""

    def __init__(self, lease: Lease, *texts: str, limits: Limits = WIDE, is_foreseen: bool = True) -> None:
        self.lease = lease
        self.limits = limits
        self.batch = Batch(tuple(map(Statement, texts)))
        self.over = asyncio.Event()
        modes = [True] * len(texts)
        self.begun = start_batch(lease, self.batch, self.over.set, array_modes=modes, limits=limits)
        assert isinstance(self.begun, Several) == is_foreseen

    async def outcome(self) -> list[Result] | GatewayError | None:
        """What came of it."""
        async with asyncio.timeout(20):
            await self.over.wait()
        try:
            return batch_results(self.lease, self.batch, self.begun, self.limits)
        except GatewayError as error:
            return error


@asynccontextmanager
async def foreseen(database: Database, *texts: str) -> AsyncIterator[Leases]:
    """A pool of one connection that has run these statements often enough to foresee them."""
    async with leases(database, pool={"max_size": 1}) as lending:
        for _ in range(2):
            asked = Asked(await lending.lease(), *texts, is_foreseen=False)
            assert isinstance(await asked.outcome(), list)
            asked.lease.release()
            await lending.settled()
        yield lending


def values(results: list[Result] | GatewayError | None) -> list[list[tuple[bytes | None, ...]]]:
    assert isinstance(results, list), results
    return [list(rows_of(result.rows)) for result in results]


ROWS = "SELECT n, 'x' FROM generate_series(1, 2) AS n"
BOTH = [[(b"1",)], [(b"1", b"x"), (b"2", b"x")]]


async def test_connection_is_free_the_moment_the_answer_is_here(database: Database) -> None:
    async with foreseen(database, "SELECT 1", ROWS) as lending:
        lease = await lending.lease()
        Cut(lease.backend)
        asked = Asked(lease, "SELECT 1", ROWS)
        assert values(await asked.outcome()) == BOTH
        assert isinstance(asked.begun, Several)
        assert asked.begun.exchange is None, "it was compared"
        lease.release()
        assert lending.pool.idle == 1
        assert lending.pool.gate.in_use == 0


@pytest.mark.parametrize("cuts", [(1,), (40,), (120, 121, 122), (-len(CLEAN_REPLIES[0]),), (-1,)])
async def test_answer_in_pieces_is_read_all_the_same(database: Database, cuts: tuple[int, ...]) -> None:
    async with foreseen(database, "SELECT 1", ROWS) as lending:
        lease = await lending.lease()
        Cut(lease.backend, *cuts)
        asked = Asked(lease, "SELECT 1", ROWS)
        assert values(await asked.outcome()) == BOTH
        assert isinstance(asked.begun, Several)
        assert asked.begun.exchange is not None
        assert asked.begun.exchange.reading is asked.begun._reading is not None
        lease.release()
        assert lending.pool.idle == 1, "its scrub has come with it"


async def test_nothing_of_one_batch_is_there_for_the_next(database: Database) -> None:
    dirt = [
        "SELECT set_config('work_mem', '1MB', false)",
        "SELECT set_config('role', 'pg_monitor', false)",
        "SELECT pg_advisory_lock(7)::text",
    ]
    looks = [
        "SELECT current_setting('work_mem')",
        "SELECT current_user",
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'",
    ]
    async with foreseen(database, *dirt) as lending:
        for _ in range(2):
            asked = Asked(await lending.lease(), *looks, is_foreseen=False)
            assert values(await asked.outcome()) == [[(b"4MB",)], [(b"postgres",)], [(b"0",)]]
            asked.lease.release()
            await lending.settled()
            asked = Asked(await lending.lease(), *dirt)
            assert isinstance(await asked.outcome(), list)
            asked.lease.release()
            await lending.settled()


async def test_statement_that_fails_takes_all_of_the_batch_with_it(database: Database) -> None:
    database.psql("CREATE TABLE t (n int); CREATE TABLE given (n int); INSERT INTO given VALUES (1)")
    texts = "INSERT INTO t SELECT n FROM given", "INSERT INTO t SELECT 1 / n FROM given"
    async with foreseen(database, *texts) as lending:
        database.psql("UPDATE given SET n = 0")
        asked = Asked(await lending.lease(), *texts)
        error = await asked.outcome()
        assert isinstance(error, PostgresError)
        assert error.code == "22012"
        asked.lease.release()
        await lending.settled()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT count(*) FROM t") == "4", "two from each batch that went well"


DEFERRED = """
CREATE TABLE given (n int);
INSERT INTO given VALUES (1);
CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
"""


async def test_what_a_deferred_constraint_refuses_is_the_batchs_own_error(database: Database) -> None:
    texts = "SELECT pg_advisory_lock(7)::text", "INSERT INTO t SELECT n FROM given WHERE n > 1"
    database.psql(DEFERRED)
    async with foreseen(database, *texts) as lending:
        database.psql("UPDATE given SET n = 2; INSERT INTO t VALUES (2)")
        asked = Asked(await lending.lease(), *texts)
        error = await asked.outcome()
        assert isinstance(error, PostgresError)
        assert error.code == "23505"
        asked.lease.release()
        assert lending.pool.idle == 0, "the scrub was skipped with it"
        await lending.settled()
        assert lending.pool.idle == 1
        assert await lending.value("SELECT count(*) FROM t") == "1"
        assert await lending.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


SLOW = "SELECT pg_sleep(coalesce((SELECT max(n) FROM t), 0))"


@pytest.fixture
async def slow(database: Database) -> AsyncIterator[Leases]:
    """A batch of two that is foreseen and takes a minute each from now on."""
    database.psql("CREATE TABLE t (n int)")
    async with foreseen(database, SLOW, SLOW) as lending:
        database.psql("INSERT INTO t VALUES (60)")
        yield lending


async def test_holder_who_leaves_stops_the_batch_and_the_connection_is_clean_again(slow: Leases) -> None:
    asked = Asked(await slow.lease(), SLOW, SLOW)
    asked.lease.release()
    await slow.settled()
    assert not asked.over.is_set()
    assert slow.pool.idle == 1
    assert await slow.value("SELECT 1") == "1"


async def test_batch_that_runs_too_long_is_refused_by_what_all_of_it_may_take(slow: Leases) -> None:
    asked = Asked(await slow.lease(), SLOW, SLOW, limits=Limits(10_000_000, 0.01))
    error = await asked.outcome()
    assert isinstance(error, StatementTimeout)
    assert "2 statements ran longer than 0.02 s together" in error.message
    asked.lease.release()
    await slow.settled()


async def test_connection_that_breaks_is_told(slow: Leases) -> None:
    asked = Asked(await slow.lease(), SLOW, SLOW)
    asked.lease.backend.abort()
    assert isinstance(await asked.outcome(), ConnectionBroken)
    asked.lease.release()
    await until(lambda: not slow.registry.connections)


@pytest.mark.parametrize("max_bytes", range(500, 850, 50))
async def test_answers_that_are_too_large_together_are_refused(database: Database, max_bytes: int) -> None:
    texts = "SELECT repeat('x', 100)", "SELECT repeat('x', 100) AS longer"
    refused = []
    for cuts in ((), (50,)):
        async with foreseen(database, *texts) as lending:
            lease = await lending.lease()
            Cut(lease.backend, *cuts)
            asked = Asked(lease, *texts, limits=Limits(max_bytes, 60.0))
            outcome = await asked.outcome()
            lease.release()
            await lending.settled()
        refused.append(isinstance(outcome, GatewayError))
        if isinstance(outcome, GatewayError):
            assert f"too large (max is {max_bytes} bytes); of the transaction: it was" in outcome.message
            assert outcome.ran in (HasRun.YES, HasRun.NO)
    assert refused in ([True, True], [False, False])
    assert max_bytes > 550 or refused[0]
    assert max_bytes < 800 or not refused[0]


async def test_now_and_then_the_scrub_looks_for_what_a_function_has_prepared(database: Database) -> None:
    async with foreseen(database, "SELECT 1") as lending:
        for _ in range(2 * LOOK_EVERY):
            lease = await lending.lease()
            Cut(lease.backend)
            asked = Asked(lease, "SELECT 1")
            assert values(await asked.outcome()) == [[(b"1",)]]
            lease.release()
            assert lending.pool.idle == 1, "the answer to a scrub that looks is as usual"


@pytest.mark.uncompiled
async def test_one_scrub_in_so_many_looks_and_no_more(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    start = Lease.start_whole

    def recorded(self: Lease, frames: bytes, *rest: Any, **named: Any) -> None:
        looked.append(frames.endswith(BEHIND_SEVERAL_LOOKING[0]))
        start(self, frames, *rest, **named)

    monkeypatch.setattr(Lease, "start_whole", recorded)
    async with foreseen(database, "SELECT 1", ROWS) as lending:
        for _ in range(LOOK_EVERY):
            asked = Asked(await lending.lease(), "SELECT 1", ROWS)
            assert values(await asked.outcome()) == BOTH
            asked.lease.release()
            await lending.settled()
    assert looked.count(True) == 1


@pytest.mark.uncompiled
@pytest.mark.parametrize(
    ("data", "is_read"),
    [(STARTED + b"end", True), (b"?" * len(STARTED) + b"end", False), (STARTED + b"no end", False)],
)
def test_answer_is_compared_from_its_first_byte_to_its_last(data: bytes, is_read: bool) -> None:
    said = []
    lease: Any = SimpleNamespace(ended_whole=lambda: said.append("ended"))
    foreseen = SimpleNamespace(read_part=lambda data, position, count_names: (None, position, 0))
    prepared: Any = SimpleNamespace(foreseen=foreseen)
    several = Several(lease, [prepared], lambda: said.append("then"), max_bytes=0, count_names=False, reading=None)
    several._end = b"end"
    assert several.receive(data) is is_read
    assert said == (["ended", "then"] if is_read else [])
