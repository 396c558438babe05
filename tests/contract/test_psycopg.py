"""psycopg 3 (libpq) through the TCP door, in all its ways to talk, over fewer connections than there are programs."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

Connect = Callable[..., Any]


@pytest.fixture
def url(start_gateway: Callable[..., Gateway], database: Database) -> str:
    """Of the TCP door, in front of a pool of four."""
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port}, pool={"max_size": 4, "wait_timeout": 60})
    return Database("127.0.0.1", port, database.name).url


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield connection


def test_types_go_both_ways(connection: Any) -> None:
    values = (1, "naïve ☃", None, [1, 2], b"\0\xff", 1.5)
    row = connection.execute("SELECT %s::int, %s::text, %s::text, %s::int[], %s::bytea, %s::float8", values).fetchone()
    assert row == values
    binary = connection.cursor(binary=True)
    assert binary.execute("SELECT %b::int, %b::bytea", (7, b"\0x")).fetchone() == (7, b"\0x")


def test_statements_that_psycopg_prepares_hold_on_every_backend(url: str) -> None:
    """After five uses it prepares on the server, under names that every connection has alike."""

    def work(number: int) -> int:
        with psycopg.connect(url, autocommit=True) as connection:
            found = [
                connection.execute("SELECT %s::int * %s::int", (number, n), prepare=n > 1).fetchone()[0]
                for n in range(20)
            ]
        return sum(value == number * n for n, value in enumerate(found))

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(work, range(12))) == [20] * 12


def test_more_statements_than_it_keeps(connection: Any) -> None:
    """It deallocates the oldest, in SQL or with Close."""
    connection.prepared_max, connection.prepare_threshold = 3, 0
    for turn in range(3):
        for n in range(8):
            assert connection.execute(f"SELECT {n} + %s::int", (turn,)).fetchone() == (n + turn,)
    connection.commit()


def test_transactions_nest_as_savepoints(connection: Any) -> None:
    connection.execute("CREATE TABLE t (n int)")
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():  # noqa: PT012 - it leaves the block
            connection.execute("INSERT INTO t VALUES (2)")
            connection.execute("SELECT 1/0")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO t VALUES (3)")
    assert connection.execute("SELECT array_agg(n) FROM t").fetchone() == ([1],)


def test_two_phases(connection: Any, url: str) -> None:
    """Prepared transactions are refused by a Postgres that has none configured: in its own words."""
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute("BEGIN; CREATE TABLE t (n int); PREPARE TRANSACTION 'x'")
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_pipeline_mode(connection: Any) -> None:
    connection.autocommit = True
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))


def test_error_in_a_pipeline_passes_over_the_rest_of_it(connection: Any) -> None:
    connection.autocommit = True
    after = connection.cursor()
    # Told at the end, or by the statement behind it where the answer has come by then.
    with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:  # noqa: PT012
        before = connection.execute("SELECT 1")
        connection.execute("SELECT 1/%s::int", (0,))
        after.execute("SELECT 2")
        pipeline.sync()
    assert before.fetchone() == (1,)
    with pytest.raises(psycopg.Error):
        after.fetchone()
    assert connection.execute("SELECT 3").fetchone() == (3,)


def test_executemany_with_what_it_returns(connection: Any) -> None:
    connection.execute("CREATE TABLE t (n int, s text)")
    cursor = connection.cursor()
    cursor.executemany("INSERT INTO t VALUES (%s, %s) RETURNING n", [(n, str(n)) for n in range(500)], returning=True)
    found = [cursor.fetchone()[0]]
    while cursor.nextset():
        found.append(cursor.fetchone()[0])
    assert found == list(range(500))


def test_copy_both_ways(connection: Any) -> None:
    connection.execute("CREATE TABLE t (n int, s text)")
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        for n in range(20_000):
            copy.write_row((n, f"row {n}"))
    with connection.cursor().copy("COPY t TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 20_000
    with connection.cursor().copy("COPY (SELECT n, s FROM t ORDER BY n LIMIT 3) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(n, f"row {n}") for n in range(3)]


def test_copy_that_fails_leaves_nothing(connection: Any) -> None:
    connection.execute("CREATE TABLE t (n int)")
    connection.commit()
    copying = connection.cursor().copy("COPY t FROM STDIN")
    with pytest.raises(RuntimeError, match="given up"), copying as copy:  # noqa: PT012 - it leaves the block
        copy.write_row((1,))
        raise RuntimeError("given up")
    connection.rollback()
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write("no number\n")
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_cursors_of_the_server(connection: Any) -> None:
    with connection.cursor(name="mine", scrollable=True) as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT n FROM generate_series(1, %s) AS n", (50,))
        assert [row[0] for row in cursor] == list(range(1, 51))
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchmany(2) == [(1,), (2,)]
    with connection.cursor(name="kept", withhold=True) as cursor:  # beyond its transaction, so its backend is kept
        cursor.execute("SELECT n FROM generate_series(1, 5) AS n")
        connection.commit()
        assert cursor.fetchall() == [(n,) for n in range(1, 6)]


def test_rows_as_they_come(connection: Any) -> None:
    """libpq's single-row mode."""
    assert sum(row[0] for row in connection.cursor().stream("SELECT generate_series(1, 10000)")) == 50_005_000


def test_cancel_from_another_thread(connection: Any, database: Database) -> None:
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")
    timer.join()
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_notifications(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as listener, psycopg.connect(url, autocommit=True) as speaker:
        listener.execute("LISTEN talk")
        for n in range(10):
            speaker.execute("SELECT pg_notify('talk', %s)", (str(n),))
        heard = [notify.payload for notify in listener.notifies(timeout=10, stop_after=10)]
    assert heard == [str(n) for n in range(10)]


async def test_many_at_once_by_asyncio(url: str) -> None:
    async def work(number: int) -> int:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT set_config('my.number', %s, false)", (str(number),))
            await connection.commit()
            right = 0
            for _ in range(10):
                async with connection.transaction():
                    cursor = await connection.execute("SELECT current_setting('my.number')")
                    right += await cursor.fetchone() == (str(number),)
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s::int", (n,)) for n in range(5)]
            right += [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(5)]
            return right

    assert await asyncio.gather(*map(work, range(16))) == [11] * 16
