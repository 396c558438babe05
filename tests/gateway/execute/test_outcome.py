"""What is done over again when nothing of it can have stayed, and what is told when that is not so."""

import asyncio

import pytest

from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.outcome import NothingRan
from sqlhttp_gateway.model import Statement
from tests.support.cluster import Database
from tests.support.leases import ask, leases, parameters, refusal, run
from tests.support.watch import watching

ONE = {"max_size": 1}
LIMITS = Limits(10_000_000, 60.0)
READ = "SELECT * FROM changing"


# ── statements that are out of date ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["ADD COLUMN c int", "DROP COLUMN b", "ALTER COLUMN a TYPE text"])
async def test_statement_whose_result_changed_is_parsed_anew_without_a_word(database: Database, change: str) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int, b text)")
        backend = await lending.value("SELECT pg_backend_pid()")
        for _ in range(2):
            await lending.run(READ)
        await lending.run(f"ALTER TABLE changing {change}")
        for _ in range(2):
            await lending.run(READ)
        assert await lending.value("SELECT pg_backend_pid()") == backend


async def test_healing_leaves_no_statement_behind_on_the_server(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        await lending.run(READ)
        question = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
        for number in range(5):
            await lending.run(f"ALTER TABLE changing ADD COLUMN c{number} int")
            await lending.run(READ)
            assert await ask(lending, parameters(question, READ)) == [[(b"1",)]]


async def test_healing_one_statement_does_not_cost_the_others(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        for text in (READ, "SELECT 1", "SELECT 2"):
            await lending.run(text)
        await lending.run("ALTER TABLE changing ADD COLUMN c int")
        await lending.run(READ)
        lease = await lending.lease()
        await run(lease, "SELECT 1")
        await run(lease, "SELECT 2")
        assert (lease.parsed, lease.reused) == (0, 2)
        lease.release()


async def test_parameter_whose_type_changed_is_found_out(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        insert, find = "INSERT INTO changing VALUES ($1)", "SELECT count(*) FROM changing WHERE a = $1"
        for text in (insert, find):
            await ask(lending, parameters(text, "1"))
        await lending.run("ALTER TABLE changing ALTER COLUMN a TYPE text")
        await ask(lending, parameters(insert, "abc"))
        assert await ask(lending, parameters(find, "abc")) == [[(b"1",)]]


async def test_callers_own_mistake_is_told_as_if_it_were_the_first_time(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for _ in range(3):
            error = await refusal(ask(lending, parameters("SELECT $1::int", "abc")))
            assert isinstance(error, PostgresError)
            assert error.code == "22P02"
            assert type(error) is PostgresError
        assert await ask(lending, parameters("SELECT $1::int", "7")) == [[(b"7",)]]


async def test_batch_with_a_stale_statement_runs_again_as_a_whole(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        insert = "INSERT INTO changing VALUES (1)"
        await lending.run(READ)
        await lending.run("ALTER TABLE changing ADD COLUMN c int")
        assert len(await lending.run(insert, READ, insert)) == 3
        assert await lending.value("SELECT count(*) FROM changing") == "2"


async def test_batch_does_not_run_twice_for_a_bad_parameter_behind_other_statements(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE SEQUENCE runs")
        count, cast = "SELECT nextval('runs')", "SELECT $1::int"
        await ask(lending, parameters(cast, "1"))
        assert await refusal(ask(lending, Statement(count), parameters(cast, "abc")))
        assert await lending.value("SELECT last_value FROM runs") == "1"


async def test_nothing_is_done_again_once_the_caller_has_committed(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE changing (a int)")
        await lending.run("CREATE TABLE counted (i int)")
        await lending.run(READ)
        await lending.run("ALTER TABLE changing ADD COLUMN c int")
        texts = ("INSERT INTO counted VALUES (1)", "COMMIT", READ)
        error = await refusal(lending.run(*texts))
        assert isinstance(error, PostgresError)
        assert error.code == "0A000"
        assert await lending.value("SELECT count(*) FROM counted") == "1"
        # The statement is known to be stale now, so that the same batch works from here on.
        assert len(await lending.run(*texts)) == 3
        assert await lending.value("SELECT count(*) FROM counted") == "2"


async def test_statement_that_somebody_deallocated_is_parsed_anew(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run(
            "CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
        )
        await lending.run("SELECT 1")
        assert len(await lending.run("SELECT forget()", "SELECT 1")) == 2
        await lending.run("SELECT forget()")
        await lending.run("SELECT 1")


async def test_statement_that_was_parsed_is_kept_although_it_failed_later(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for _ in range(2):
            assert await refusal(lending.run("SELECT 1/(random() * 0)::int"))
        lease = await lending.lease()
        assert await refusal(run(lease, "SELECT 1/(random() * 0)::int"))
        assert lease.reused == 1
        lease.release()


async def test_statement_that_could_not_be_parsed_is_not_taken_for_prepared(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for _ in range(3):
            error = await refusal(lending.run("SELECT 1", "selct", "SELECT 2"))
            assert isinstance(error, PostgresError)
            assert error.code == "42601"
        assert len(await lending.run("SELECT 1", "SELECT 2")) == 2


async def test_text_that_comes_twice_in_a_batch_is_one_statement_afterwards(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for _ in range(3):
            await ask(lending, *(parameters("SELECT $1::int", str(number)) for number in range(3)))
        question = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
        assert await ask(lending, parameters(question, "SELECT $1::int")) == [[(b"1",)]]


async def test_statement_with_other_parameters_than_it_has_is_told_of_without_a_name(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for _ in range(2):  # parsed in the same exchange, then prepared before
            for batch in ([], [Statement("SELECT 1")]):
                error = await refusal(ask(lending, *batch, parameters("SELECT $1::int, $2::int", "1")))
                assert isinstance(error, PostgresError)
                assert error.code == "08P01"
                assert error.message == ('bind message supplies 1 parameters, but prepared statement "" requires 2')


# ── connections that are over ────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_that_ended_before_it_was_used_is_told_as_nothing_ran(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        lease.backend.data_received(b"E\0\0\0\x1aSFATAL\0VFATAL\0C57P01\0\0")
        with pytest.raises(NothingRan):
            await run(lease, "SELECT 1")
        lease.release()
        assert await lending.value("SELECT 1") == "1"


async def test_goodbye_that_crosses_the_request_is_told_as_nothing_ran(database: Database) -> None:
    """The request was written before the gateway had read that the server ends."""
    async with leases(database, pool=ONE) as lending, watching(database) as watch:
        await lending.run("SELECT 1")
        lease = await lending.lease()
        lease.backend._transport.pause_reading()
        await watch.run(f"SELECT pg_terminate_backend({lease.backend.pid}, 5000)")
        task = asyncio.create_task(run(lease, "SELECT 1"))
        await asyncio.sleep(0)
        lease.backend._transport.resume_reading()
        with pytest.raises((NothingRan, GatewayError)) as caught:
            await task
        assert isinstance(caught.value, NothingRan) or caught.value.may_have_run
        lease.release()
