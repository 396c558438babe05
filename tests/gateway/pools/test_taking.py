"""Connections that go on as they are, to those who take them so, on a real Postgres."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Self

import pytest

from sqlhttp_gateway.errors import QueueFull, ShuttingDown, TargetUnavailable, WaitTimeout
from sqlhttp_gateway.events import Leaked
from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.taking import Taking
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Database
from tests.support.complaints import no_complaints
from tests.support.leases import Leases, leases, until, value

ONE = {"max_size": 1}
PID = "SELECT pg_backend_pid()"


class Program:
    """Takes a connection and keeps what it is told."""

    def __init__(self, lending: Leases) -> None:
        self.found: list[Lease | BaseException] = []
        self.said = b""
        self.taking: Taking = lending.registry.take(
            lending.pool, lambda: lending.database.password.encode(), self.found.append
        )

    @classmethod
    async def that_sets(cls, lending: Leases, text: bytes) -> Self:
        """One that has a connection already, on which it has run this."""
        program = cls.__new__(cls)
        program.found, program.said = [await lending.lease()], b""
        await program.ask(encode_query(text))
        return program

    @property
    def lease(self) -> Lease:
        [lease] = self.found
        assert isinstance(lease, Lease)
        return lease

    def receive(self, data: bytes) -> None:
        self.said += data

    async def ask(self, data: bytes) -> bytes:
        """Lend the connection to this program, and let it ask."""
        self.lease.lend(self, lambda error: None)
        self.lease.backend.write(data)
        await until(lambda: self.said.endswith(b"Z\0\0\0\5I"))
        return self.said


async def ready(lending: Leases) -> str | None:
    """A connection that has the statements of the scrub."""
    await lending.settled()
    pid = await lending.value(PID)
    await lending.settled()
    return pid


async def test_where_nobody_has_a_connection_one_is_opened(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        program = Program(lending)
        assert program.found == []
        await until(lambda: bool(program.found))
        assert program.lease.ahead is None
        assert await value(program.lease, PID)
        program.lease.release()


async def test_connection_comes_as_its_last_holder_left_it_with_what_makes_it_clean(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        pid = await ready(lending)
        holder = (await Program.that_sets(lending, b"SET work_mem = '77MB'")).lease
        program = Program(lending)
        holder.take_back(has_parsed=False)
        holder.release()
        await until(lambda: bool(program.found))
        lease = program.lease
        assert (lease.ahead, str(lease.backend.pid), lending.pool.gate.in_use) == (scrub.AHEAD, pid, 1)
        asked = b"SELECT current_setting('work_mem') AS still"
        said = await program.ask(lease.ahead.scrub + lease.ahead.commit + encode_query(asked))
        assert said.startswith(scrub.AHEAD.scrubbed + scrub.AHEAD.committed)
        assert b"77MB" not in said
        lease.was_cleansed()
        lease.take_back()
        lease.release()
        await lending.settled()
        assert await lending.value(PID) == pid


async def test_texts_that_are_new_to_the_connection_are_looked_behind(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await ready(lending)
        holder = await lending.lease()
        program = Program(lending)
        holder.lend(program, lambda error: None)
        holder.take_back(has_parsed=True)
        holder.release()
        await until(lambda: bool(program.found))
        assert program.lease.ahead is scrub.AHEAD_LOOKING
        program.lease.release()


async def test_connection_that_was_taken_and_not_used_is_clean_for_the_next(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        pid = await ready(lending)
        holder = (await Program.that_sets(lending, b"SET work_mem = '77MB'")).lease
        program = Program(lending)
        holder.take_back()
        holder.release()
        await until(lambda: bool(program.found))
        program.lease.release()
        assert await lending.value("SHOW work_mem") != "77MB"
        assert await lending.value(PID) == pid


async def test_whoever_leaves_while_a_connection_is_opened_leaves_the_permit(database: Database) -> None:
    """At whichever turn of the loop that is: also in the one in which opening it was begun."""
    for turns in range(12):
        async with leases(database, pool=ONE) as lending:
            program = Program(lending)
            for _ in range(turns):
                await asyncio.sleep(0)
            program.taking.leave()
            await lending.settled()
            await until(lambda lending=lending: not lending.pool.gate.in_use)  # type: ignore[misc]
            assert program.found == []


async def test_whoever_leaves_while_all_pools_together_have_no_room_waits_no_more(database: Database) -> None:
    async with leases(database, pool={**ONE, "max_total": 1, "wait_timeout": 600}) as lending:
        other = lending.pool_of(replace(database, name="postgres"))
        holder = await lending.lease(other)
        program = Program(lending)
        await until(lambda: bool(lending.pool.gate.in_use))
        await until(lambda: len(lending.pool.reserving) == 1)
        with no_complaints():
            program.taking.leave()
            await until(lambda: not lending.pool.gate.in_use)
        assert not lending.pool.reserving
        holder.release()
        await lending.settled(other)
        assert program.found == []


async def test_wait_for_room_over_all_pools_is_a_part_of_the_one_wait(database: Database) -> None:
    async with leases(database, pool={**ONE, "max_total": 1, "wait_timeout": 0.05}) as lending:
        holder = await lending.lease(lending.pool_of(replace(database, name="postgres")))
        program = Program(lending)
        await until(lambda: bool(program.found))
        assert isinstance(program.found[0], WaitTimeout)
        assert not lending.pool.gate.in_use
        holder.release()


@pytest.mark.parametrize("error", [None, WaitTimeout("no connection")])
async def test_whoever_leaves_in_the_tick_in_which_opening_ends_is_told_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: WaitTimeout | None
) -> None:
    acquire: Callable[..., Awaitable[Backend]] = Pool.acquire_admitted

    async def and_leave(pool: Pool, *given: Any, **named: Any) -> Backend:
        backend = await acquire(pool, *given, **named)
        program.taking.leave()
        if error is not None:
            pool.release(backend)
            raise error
        return backend

    monkeypatch.setattr(Pool, "acquire_admitted", and_leave)
    async with leases(database, pool=ONE) as lending:
        program = Program(lending)
        await until(lambda: lending.pool.idle == 1)
        await lending.settled()
        assert program.found == []


async def test_why_none_can_be_opened_is_told(database: Database) -> None:
    async with leases(replace(database, host="127.0.0.1", port=1), pool=ONE) as lending:
        program = Program(lending)
        await until(lambda: bool(program.found))
        assert isinstance(program.found[0], TargetUnavailable)
        assert not lending.pool.gate.in_use


async def test_idle_connection_is_taken_at_once(database: Database) -> None:
    async with leases(database, pool={"max_size": 2}) as lending:
        pid = await ready(lending)
        program = Program(lending)
        assert program.found == []
        await asyncio.sleep(0)
        assert str(program.lease.backend.pid) == pid
        program.lease.release()


async def test_permit_that_comes_alone_to_whoever_leaves_in_that_tick_opens_nothing(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        holder = await lending.lease()
        program = Program(lending)
        holder.drop("unclean")
        while not program.taking._taker.done():  # noqa: ASYNC110 - there is nothing to wait for that is as quick
            await asyncio.sleep(0)  # every turn of the loop, so that it is this one
        program.taking.leave()
        await until(lambda: not lending.pool.gate.in_use and not lending.registry.connections)
        assert program.found == []


async def test_connection_that_its_server_ends_in_the_tick_in_which_it_comes_is_replaced(database: Database) -> None:
    """By what comes next: also when somebody else stands in line, who goes first."""
    async with leases(database, pool=ONE) as lending:
        await ready(lending)
        holder = await lending.lease()
        program, other = Program(lending), Program(lending)
        holder.lend(program, lambda error: None)
        holder.take_back()
        holder.release()
        holder.backend.abort()
        await until(lambda: bool(other.found))
        assert program.found == []
        other.lease.release()
        await until(lambda: bool(program.found))
        assert program.lease.backend is not holder.backend
        assert not lending.told(Leaked), "the one that was of no use was given back"
        assert not program.lease.backend.closing
        assert lending.pool.gate.in_use == 1
        program.lease.release()


async def test_whoever_leaves_in_the_tick_in_which_it_comes_keeps_nothing(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await ready(lending)
        holder = await lending.lease()
        program = Program(lending)
        holder.lend(program, lambda error: None)
        holder.take_back()
        holder.release()
        assert program.found == []
        program.taking.leave()
        await lending.settled()
        assert program.found == []
        assert lending.pool.idle == 1


async def test_whoever_leaves_the_line_or_while_one_is_opened_keeps_nothing(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        opening = Program(lending)
        await until(lambda: lending.pool.opening == 1)
        waiting = Program(lending)
        opening.taking.leave()
        waiting.taking.leave()
        assert not lending.pool.gate.waiting, "the place in line is somebody else's at once"
        await lending.settled()
        assert (opening.found, waiting.found) == ([], [])


async def test_why_there_is_none_is_told_and_never_at_once(database: Database) -> None:
    async with leases(database, pool={**ONE, "max_waiting": 1, "wait_timeout": 0.05}) as lending:
        lease = await lending.lease()
        patient, refused = Program(lending), Program(lending)
        assert refused.found == []
        await until(lambda: bool(patient.found) and bool(refused.found))
        assert [type(program.found[0]) for program in (patient, refused)] == [WaitTimeout, QueueFull]
        lease.release()
        lending.pool.stop()
        late = Program(lending)
        await until(lambda: bool(late.found))
        assert isinstance(late.found[0], ShuttingDown)


async def test_request_before_it_in_line_gets_the_connection_first_and_clean(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await ready(lending)
        holder = await Program.that_sets(lending, b"SET search_path = elsewhere")
        request = asyncio.create_task(lending.lease())
        await until(lambda: lending.pool.gate.waiting == 1)
        program = Program(lending)
        holder.lease.take_back()
        holder.lease.release()
        lease = await request
        assert program.found == [], "it came after the request"
        assert await value(lease, "SHOW search_path") == '"$user", public'
        lease.release()
        await until(lambda: bool(program.found))
        program.lease.release()


async def test_connection_whose_time_is_over_goes_to_nobody(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        pid = await ready(lending)
        holder = await lending.lease()
        program = Program(lending)
        holder.lend(program, lambda error: None)
        holder.take_back()
        holder.backend.expires_at = 0.0
        holder.release()
        await until(lambda: bool(program.found))
        assert program.lease.ahead is None
        assert str(program.lease.backend.pid) != pid
        program.lease.release()


async def test_connection_that_is_refused_to_be_clean_is_cleaned_for_the_same_holder(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await ready(lending)
        holder = await lending.lease()
        user = Program.__new__(Program)
        user.found, user.said = [holder], b""
        await user.ask(encode_query(b"PREPARE left_here AS SELECT 1"))
        program = Program(lending)
        holder.take_back(has_parsed=True)
        holder.release()
        await until(lambda: bool(program.found))
        lease = program.lease
        assert lease.ahead is not None
        said = await program.ask(lease.ahead.scrub + lease.ahead.commit + b"S\0\0\0\4")
        assert b"division by zero" in said
        lease.take_back(in_transaction=True, is_deep=True)
        assert await lease.cleanse()
        assert lease.ahead is None
        assert await value(lease, "SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == "0"
        lease.release()
