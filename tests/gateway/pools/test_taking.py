"""Connections that go on as they are, to those who take them so, on a real Postgres."""

import asyncio
from typing import Self

from sqlhttp_gateway.errors import QueueFull, ShuttingDown, WaitTimeout
from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.taking import Taking
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Database
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
