"""Positions asked around a request, of real servers."""

import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.model import Batch, Prologue, Statement
from sqlhttp_gateway.pools.positions import REPLAYED, WRITTEN, Positions
from sqlhttp_gateway.wire.lsn import lsn_from_text
from tests.support.fleet import Fleet
from tests.support.leases import RAW, Leases, leases

LIMITS = Limits(10_000_000, 60.0)
SYSTEM = 77
READS = Prologue((Statement("SELECT"),), read_only=True)


async def run(lending: Leases, *texts: str, positions: Positions, prologue: Prologue | None = None) -> int:
    """How many results there were."""
    request = Statement(texts[0]) if len(texts) == 1 else Batch(tuple(map(Statement, texts)))
    lease = await lending.lease()
    try:
        return len(await execute(lease, request, RAW, LIMITS, prologue, positions))
    finally:
        lease.release()


@pytest.mark.parametrize(
    "texts", [("SELECT 1",), ("SELECT 1", "SELECT 2"), ("SELECT pg_logical_emit_message(true, 'a', 'b')", "SELECT 2")]
)
async def test_primary_says_where_its_log_stands_behind_the_request(fleet: Fleet, texts: tuple[str, ...]) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        for _ in range(2):  # parsed, then prepared
            positions = Positions(system=SYSTEM)
            assert await run(lending, *texts, positions=positions) == len(texts)
            assert positions.bookmark is not None
            assert positions.bookmark.timeline == 1
        after = fleet.primary.maintenance.psql("SELECT pg_current_wal_flush_lsn()").strip()
        assert 0 < positions.bookmark.position <= lsn_from_text(after)


async def test_position_behind_a_write_is_beyond_its_commit(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        for _ in range(20):
            before = lsn_from_text(str(await lending.value("SELECT pg_current_wal_insert_lsn()")))
            positions = Positions(system=SYSTEM)
            await run(lending, "SELECT pg_logical_emit_message(true, 'a', 'b')", positions=positions)
            assert positions.bookmark is not None
            assert positions.bookmark.position > before


async def test_refused_write_has_a_position_too(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        positions = Positions(system=SYSTEM)
        with pytest.raises(PostgresError):
            await run(lending, "SELECT 1/0", positions=positions)
        assert positions.bookmark is not None


async def test_what_may_open_a_transaction_is_asked_afterwards(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        positions = Positions(system=SYSTEM)
        lease = await lending.lease()
        await execute(lease, Statement("DO 'BEGIN END'"), RAW, LIMITS, None, positions)
        assert positions.asks_behind
        await positions.ask(lease)
        lease.release()
        assert not positions.asks_behind


@pytest.mark.parametrize("texts", [("SELECT 1",), ("SELECT 1", "SELECT 2")])
async def test_standby_says_whether_it_has_replayed_enough_before_it_reads(
    fleet: Fleet, texts: tuple[str, ...]
) -> None:
    fleet.wait_replayed()
    async with leases(fleet.replicas[0].maintenance) as lending:
        now = lsn_from_text(str(await lending.value("SELECT pg_last_wal_replay_lsn()")))
        for after, is_reached in ((now, True), (now + (1 << 40), False), (now, True)):
            positions = Positions(system=SYSTEM, standby=3, after=after)
            assert await run(lending, *texts, positions=positions, prologue=READS) == len(texts)
            assert positions.is_reached is is_reached
            assert positions.bookmark is not None
            assert positions.bookmark[:2] == (SYSTEM, 3)
            assert positions.bookmark.position >= now


async def test_primary_is_no_standby_that_has_replayed_enough(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        positions = Positions(system=SYSTEM, standby=1, after=1)
        await run(lending, "SELECT 1", positions=positions, prologue=READS)
        assert not positions.is_reached
        assert positions.bookmark is None


async def test_question_that_fails_is_parsed_anew_and_fails_nothing_else(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        for texts in (("SELECT 1",), ("SELECT 1", "SELECT 2")):
            await run(lending, *texts, positions=Positions(system=SYSTEM))
            for missing in (1, 0):
                lease = await lending.lease()
                if missing:
                    name = lease.backend.statements.find(WRITTEN)
                    assert name is not None
                    await execute(lease, Statement(f"DEALLOCATE {name.decode()}"), RAW, LIMITS)
                    lease.backend.statements.add(WRITTEN, name)
                lease.release()
                positions = Positions(system=SYSTEM)
                assert await run(lending, *texts, positions=positions) == len(texts)
                assert positions.bookmark is not None or missing


async def test_every_connection_prepares_the_questions_once(fleet: Fleet) -> None:
    fleet.wait_replayed()
    async with leases(fleet.replicas[0].maintenance, pool={"max_size": 1}) as lending:
        for _ in range(3):
            await run(lending, "SELECT 1", positions=Positions(system=SYSTEM, standby=1, after=1), prologue=READS)
        count = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement = $1"
        assert await lending.value(count, REPLAYED) == "1"


async def test_mark_in_front_is_of_before_the_request_and_smaller_while_somebody_writes(fleet: Fleet) -> None:
    async with leases(fleet.primary.maintenance) as lending:
        before = Positions(system=SYSTEM)
        await run(lending, "SELECT pg_logical_emit_message(true, 'a', 'b')", positions=before)
        assert before.bookmark is not None
        marked = Positions(system=SYSTEM, marks=True)
        assert await run(lending, "SELECT 1", positions=marked, prologue=READS) == 1
        assert marked.since is not None
        assert marked.bookmark is not None
        assert marked.since.covers(before.bookmark)
        assert marked.bookmark.covers(marked.since)
        other = await fleet.primary.maintenance.connect()
        try:
            async with other.transaction():
                await other.execute("SELECT pg_current_xact_id()")
                now = Positions(system=SYSTEM)
                await run(lending, "SELECT 1", positions=now)
                again = Positions(system=SYSTEM, marks=True)
                await run(lending, "SELECT 1", positions=again, prologue=READS)
        finally:
            await other.close()
        assert again.since is not None
        assert now.bookmark is not None
        assert again.since.position == now.bookmark.position - 1, "its commit may be in the log, and not yet visible"
