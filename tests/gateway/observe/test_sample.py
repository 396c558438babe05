import asyncio

from sqlhttp_gateway.observe.sample import QUERY, Sample, sample_from_rows
from tests.support.cluster import Cluster, Database

ROWS: list[tuple[bytes | None, ...]] = [
    (b"setting", b"max_connections", b"100"),
    (b"setting", b"superuser_reserved_connections", b"3"),
    (b"setting", b"reserved_connections", b"5"),
    (b"state", b"active", b"4"),
    (b"state", b"idle in transaction", b"2"),
    (b"state", b"idle in transaction (aborted)", b"1"),
    (b"application", b"psql", b"7"),
    (b"waiting", b"Lock", b"2"),
    (b"count", b"long_queries", b"1"),
    (b"age", b"query", b"31.5"),
    (b"age", b"transaction", b"99.25"),
    (b"age", b"idle_in_transaction", b"12.0"),
]


def test_rows_become_a_sample() -> None:
    sample = sample_from_rows(ROWS, at=5.0)
    assert sample == Sample(
        at=5.0,
        max_connections=100,
        reserved=8,
        by_state={"active": 4, "idle in transaction": 2, "idle in transaction (aborted)": 1},
        by_application={"psql": 7},
        waiting={"Lock": 2},
        long_queries=1,
        longest_query=31.5,
        longest_transaction=99.25,
        longest_idle_in_transaction=12.0,
    )
    assert (sample.limit, sample.connections, sample.idle_in_transaction) == (92, 8, 3)


def test_setting_that_an_older_postgres_does_not_have_counts_for_nothing() -> None:
    rows = [(b"setting", b"reserved_connections", None) if row[1] == b"reserved_connections" else row for row in ROWS]
    assert sample_from_rows(rows, at=5.0).reserved == 3


def test_age_of_what_does_not_exist_is_zero() -> None:
    rows = [(kind, name, None) if kind == b"age" else (kind, name, number) for kind, name, number in ROWS]
    assert sample_from_rows(rows, at=5.0).longest_query == 0.0


def test_only_twenty_applications_keep_their_names() -> None:
    rows: list[tuple[bytes | None, ...]] = [
        (b"application", b"app %d" % number, b"%d" % number) for number in range(30)
    ]
    most = sample_from_rows(rows, at=5.0).by_application
    assert len(most) == 21
    assert most["app 29"] == 29
    assert most["other"] == sum(range(10))


async def test_postgres_itself_answers_the_question(database: Database) -> None:
    watcher, idle, busy, locked = [await database.connect() for _ in range(4)]
    await idle.execute("SET application_name = 'a shop'; CREATE TABLE stock ()")
    await idle.execute("BEGIN; LOCK TABLE stock")
    running = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
    waiting = asyncio.create_task(locked.execute("SELECT FROM stock"))
    try:
        async with asyncio.timeout(10):
            while True:
                rows = await watcher.fetch(QUERY, 0.01)
                encoded = [tuple(value.encode() if value is not None else None for value in row) for row in rows]
                sample = sample_from_rows(encoded, at=1.0)
                if sample.long_queries == 2 and sample.waiting.get("Lock") and sample.waiting.get("Timeout"):
                    break
        assert sample.limit == 97
        assert sample.by_application["a shop"] == 1
        assert sample.by_state["idle in transaction"] == 1
        assert sample.by_state["active"] >= 2
        assert sample.longest_query > 0
        assert sample.longest_idle_in_transaction > 0
    finally:
        for connection in (watcher, idle, busy, locked):
            connection.terminate()
        await asyncio.gather(running, waiting, return_exceptions=True)


async def test_role_that_may_not_look_sees_how_many_there_are_but_not_what_they_do(
    postgres: Cluster, database: Database
) -> None:
    owner = await database.connect()
    role = f"watcher_of_{database.name}"
    try:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        watcher = await database.as_role(role, "secret").connect()
        try:
            rows = await watcher.fetch(QUERY, 30.0)
        finally:
            await watcher.close()
        encoded = [tuple(value.encode() if value is not None else None for value in row) for row in rows]
        sample = sample_from_rows(encoded, at=1.0)
        assert sample.by_state["hidden"] >= 1
        assert "active" not in sample.by_state
    finally:
        await owner.execute(f"DROP ROLE {role}")
        await owner.close()
