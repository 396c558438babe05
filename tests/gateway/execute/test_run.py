"""One write for a statement or a batch, and what is done over again when nothing of it can have stayed."""

import pytest

from sqlhttp_gateway.errors import PostgresError, ResponseTooLarge, UnsupportedStatement
from sqlhttp_gateway.execute import run as run_module
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.model import Batch, IsolationLevel, Options, Statement, TransactionOptions
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Database
from tests.support.leases import RAW, ask, leases, parameters, refusal, run

ONE = {"max_size": 1}
LIMITS = Limits(10_000_000, 60.0)
READ = "SELECT * FROM changing"


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


async def test_text_that_stands_in_a_batch_many_times_is_parsed_once(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        assert len(await run(lease, *["SELECT 1"] * 9)) == 9
        assert (lease.parsed, lease.reused) == (3, 8), "BEGIN and COMMIT are two of them"
        lease.release()


async def test_batch_of_more_texts_than_are_kept_leaves_none_on_the_server(database: Database) -> None:
    async with leases(database, pool={**ONE, "statement_cache_size": 4}) as lending:
        lease = await lending.lease()
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name ~ '^sqlhttp_[0-9]'"
        texts = [f"SELECT {number}" for number in range(20)]
        results = await run(lease, *texts, prepared)
        assert [list(rows_of(result.rows)) for result in results[:20]] == [[(b"%d" % number,)] for number in range(20)]
        assert list(rows_of(results[20].rows)) == [(b"0",)]
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
async def test_copy_that_is_not_recognized_beforehand_is_ended_all_the_same(
    database: Database, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "refuse_streams", lambda statements: None)
    async with leases(database, pool=ONE) as lending:
        await lending.run("CREATE TABLE t (i int)")
        backend = await lending.value("SELECT pg_backend_pid()")
        assert isinstance(await refusal(lending.run(command)), UnsupportedStatement)
        assert await lending.value("SELECT pg_backend_pid()") == backend
        # In a batch Postgres takes the next statement for a line of the table, and gives the connection up.
        assert isinstance(await refusal(lending.run("SELECT 1", command, "SELECT 2")), UnsupportedStatement)
        assert isinstance(await refusal(lending.run("SELECT 1", command)), UnsupportedStatement)
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


class Bounded(Written):
    """And whether the gateway's clock ran for each write."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        self.bounded: list[bool] = []
        self._lease = lease

    def write(self, data: bytes) -> None:
        self.bounded.append(self._lease in self._lease.pool.overdue)
        super().write(data)


async def test_each_write_of_a_batch_that_is_run_again_has_its_limit(database: Database) -> None:
    """The ROLLBACK between its two runs, too: a network may swallow that as well as anything."""
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await run(lease, "CREATE TABLE altered AS SELECT 1 AS n")
        await run(lease, "SELECT 2", "SELECT * FROM altered")
        await run(lease, "ALTER TABLE altered ADD m int")
        written = Bounded(lease)
        await run(lease, "SELECT 2", "SELECT * FROM altered")
        assert written.bounded == [True, True, True]
        lease.release()
