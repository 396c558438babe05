"""One write for a statement or a batch, and what is done over again when nothing of it can have stayed."""

import asyncio
import time

import pytest

from sqlhttp_gateway.errors import GatewayError, PostgresError, ResponseTooLarge, UnsupportedStatement
from sqlhttp_gateway.execute import _PLAIN, _STREAMS, Limits, NothingRan, execute
from sqlhttp_gateway.model import Batch, IsolationLevel, Options, Statement, TransactionOptions
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.leases import RAW, Leases, leases, refusal, run
from tests.support.watch import watching

ONE = {"max_size": 1}
LIMITS = Limits(10_000_000, 60.0)
READ = "SELECT * FROM changing"


def parameters(text: str, *params: str | None) -> Statement:
    return Statement(text, tuple(None if param is None else param.encode() for param in params))


async def ask(lending: Leases, *statements: Statement) -> list[list[tuple[bytes | None, ...]]]:
    """The rows of each statement; several are a batch."""
    lease = await lending.lease()
    try:
        request = statements[0] if len(statements) == 1 else Batch(statements)
        return [list(rows_of(result.rows)) for result in await execute(lease, request, RAW, LIMITS)]
    finally:
        lease.release()


class Written:
    """What a lease's connection was sent."""

    def __init__(self, lease: Lease) -> None:
        self.frames: list[bytes] = []
        self._transport = lease.backend._transport
        lease.backend._transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        self.frames.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


# ── pure ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        " \n\tselect(1)",
        "INSERT INTO t",
        "with x as",
        "VALUES (1)",
        "TABLE t",
        "merge into t",
        "DELETE",
        "Update t",
    ],
)
def test_what_cannot_leave_a_transaction_open_has_its_scrub_in_the_same_write(text: str) -> None:
    assert _PLAIN.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "START TRANSACTION",
        "CALL p()",
        "DO $$$$",
        "selection",
        "SET x = 1",
        "/* */ SELECT 1",
        "(SELECT 1)",
        "",
        "EXPLAIN",
    ],
)
def test_anything_else_is_scrubbed_after_a_look_at_its_end(text: str) -> None:
    assert not _PLAIN.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY t FROM STDIN",
        "copy (select 1) to stdout with (format csv)",
        " -- a comment\n COPY t TO\nSTDOUT",
        "/* a */ COPY t FROM  stdin",
    ],
)
def test_copy_that_needs_a_stream_is_recognized(text: str) -> None:
    assert _STREAMS.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY t TO '/tmp/x'",
        "COPY t FROM PROGRAM 'cat'",
        "SELECT 'copy t from stdin'",
        "-- copy\nINSERT INTO t VALUES ('\ncopy t from stdin')",
        "copying from stdin",
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not _STREAMS.match(text)


@pytest.mark.parametrize(
    "text", ["--\n" * 100_000, "/**/" * 100_000, "copy " + "from " * 100_000, "copy from" + " " * 100_000]
)
def test_no_text_takes_long_to_look_through(text: str) -> None:
    began = time.process_time()
    _STREAMS.match(text)
    _PLAIN.match(text)
    assert time.process_time() - began < 1.0


# ── one write ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_statement_is_one_write_and_only_bound_the_second_time(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        written = Written(lease)
        for _ in range(2):
            [result] = await run(lease, "SELECT 1, 'é'")
            assert list(rows_of(result.rows)) == [(b"1", "é".encode())]
        first, second = written.frames
        assert first.startswith(b"P")
        assert second.startswith(b"B")
        assert (lease.parsed, lease.reused) == (1, 1)
        lease.release()


async def test_batch_that_only_reads_is_one_write(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        written = Written(lease)
        results = await run(lease, "SELECT 1", "SELECT 2", "SELECT 3")
        assert [list(rows_of(result.rows)) for result in results] == [[(b"1",)], [(b"2",)], [(b"3",)]]
        assert len(written.frames) == 1
        lease.release()


async def test_empty_batch_has_no_results(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        assert await execute(lease, Batch(()), RAW, LIMITS) == []
        lease.release()


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (TransactionOptions(), (b"read committed", b"off", b"off")),
        (TransactionOptions(IsolationLevel.SERIALIZABLE, True, True), (b"serializable", b"on", b"on")),
        (TransactionOptions(IsolationLevel.REPEATABLE_READ), (b"repeatable read", b"off", b"off")),
        (TransactionOptions(read_only=True), (b"read committed", b"on", b"off")),
    ],
)
async def test_batch_runs_in_the_transaction_that_was_asked_for(
    database: Database, options: TransactionOptions, seen: tuple[bytes, ...]
) -> None:
    text = (
        "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
        " current_setting('transaction_deferrable')"
    )
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        request = Batch((Statement(text), Statement("SELECT 1")))
        first, _ = await execute(lease, request, Options(True, True, options), LIMITS)
        assert list(rows_of(first.rows)) == [seen]
        lease.release()


async def test_error_stops_the_rest_of_a_batch_and_rolls_it_back(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        error = await refusal(lending.run("INSERT INTO t VALUES (1)", "SELECT 1/0", "INSERT INTO t VALUES (2)"))
        assert isinstance(error, PostgresError)
        assert error.code == "22012"
        assert await lending.value("SELECT count(*) FROM t") == "0"


async def test_constraint_that_is_checked_at_the_end_fails_the_statement_and_the_batch(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        for texts in (("INSERT INTO t VALUES (1), (1)",), ("INSERT INTO t VALUES (1), (1)", "SELECT 1")):
            error = await refusal(lending.run(*texts))
            assert isinstance(error, PostgresError)
            assert error.code == "23505"
            assert await lending.value("SELECT count(*) FROM t") == "0"


async def test_number_of_parameters_is_postgres_own_affair(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        for params in ((), ("1", "2")):
            error = await refusal(ask(lending, parameters("SELECT $1::int", *params)))
            assert isinstance(error, PostgresError)
            assert error.code == "08P01"
            assert f"bind message supplies {len(params)} parameters" in error.message


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


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["COPY t FROM STDIN", "COPY t TO STDOUT"])
async def test_copy_is_refused_and_leaves_nothing_of_its_batch(database: Database, text: str) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        backend = await lending.value("SELECT pg_backend_pid()")
        for texts in ((text,), ("INSERT INTO t VALUES (1)", text, "INSERT INTO t VALUES (2)")):
            assert isinstance(await refusal(lending.run(*texts)), UnsupportedStatement)
        assert await lending.value("SELECT count(*) FROM t") == "0"
        assert await lending.value("SELECT pg_backend_pid()") == backend


@pytest.mark.parametrize("command", ["COPY t FROM STDIN", "COPY pg_class TO STDOUT"])
async def test_copy_that_is_not_recognized_beforehand_is_ended_all_the_same(database: Database, command: str) -> None:
    """A comment within a comment hides it from everybody but Postgres."""
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        backend = await lending.value("SELECT pg_backend_pid()")
        hidden = f"/* /* */ */ {command}"
        assert isinstance(await refusal(lending.run(hidden)), UnsupportedStatement)
        assert await lending.value("SELECT pg_backend_pid()") == backend
        # In a batch Postgres takes the next statement for a line of the table, and gives the connection up.
        assert isinstance(await refusal(lending.run("SELECT 1", hidden, "SELECT 2")), UnsupportedStatement)
        assert await lending.value("SELECT 1") == "1"


async def test_batch_that_is_too_large_and_wrote_is_rolled_back(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        large = "SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        limits = Limits(100_000, 60)
        error = await refusal(lending.run("INSERT INTO t VALUES (1)", large, limits=limits))
        assert isinstance(error, ResponseTooLarge)
        assert error.message.endswith("it was rolled back")
        assert await lending.value("SELECT count(*) FROM t") == "0"


async def test_names_count_where_rows_are_objects(database: Database) -> None:
    name = "n" * 60
    text = f"SELECT 1 AS {name} FROM generate_series(1, 1000)"
    limits = Limits(40_000, 60)
    async with leases(database, pool=ONE) as lending:
        for options, own, fits in (
            (Options(raw_text=True, array_mode=True), None, True),
            (Options(raw_text=True, array_mode=True), False, False),
            (Options(raw_text=True), None, False),
            (Options(raw_text=True), True, True),
        ):
            lease = await lending.lease()  # a new one each time: a refusal's cancel may still be on its way
            work = execute(lease, Statement(text, (), own), options, limits)
            if fits:
                assert (await work)[0].row_count == 1000
            else:
                assert isinstance(await refusal(work), ResponseTooLarge)
            lease.release()
        lease.release()


# ── behind a transaction pooler ──────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_named_and_the_scrub_is_in_the_callers_transaction_behind_a_pooler(
    database: Database,
) -> None:
    async with leases(database, database_url=f"{database.url}?pgbouncer=true", pool=ONE) as lending:
        question = "SELECT count(*) FROM pg_prepared_statements"
        for _ in range(3):
            lease = await lending.lease()
            written = Written(lease)
            [result] = await run(lease, question)
            assert list(rows_of(result.rows)) == [(b"0",)]
            lease.release()
            await lending.settled()
            assert len(written.frames) == 1
            lease.backend._transport = written._transport
        await lending.run("SET work_mem = '77MB'")
        assert await lending.value("SHOW work_mem") == "4MB"
        await lending.run("SET work_mem = '77MB'", "CREATE TEMP TABLE left_here (i int)")
        assert await lending.value("SHOW work_mem") == "4MB"
        assert await lending.value("SELECT to_regclass('left_here')::text") is None
