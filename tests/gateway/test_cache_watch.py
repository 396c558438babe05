"""`sqlhttp cache watch`, on a real Postgres."""

import argparse

import pytest

from sqlhttp_gateway.cache_watch import cache
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings import Settings, load_settings
from tests.support.cluster import Database


def arguments(action: str, table: str) -> argparse.Namespace:
    return argparse.Namespace(action=action, table=table, target="default", database=None)


@pytest.fixture
def settings(database: Database) -> Settings:
    database.psql('CREATE SCHEMA "My App"; CREATE TABLE "My App"."Users" (id int)')
    return load_settings(database_url=database.url)


async def heard(database: Database, *statements: str) -> list[str]:
    listener, payloads = await database.connect(), list[str]()
    try:
        await listener.add_listener("sqlhttp_invalidate", lambda *said: payloads.append(said[-1]))
        for statement in statements:
            database.psql(statement)
            await listener.execute("SELECT 1")  # what was notified before comes with its answer
        return payloads
    finally:
        await listener.close()


async def run(settings: Settings, action: str, table: str) -> int:
    import asyncio

    return await asyncio.to_thread(cache, settings, arguments(action, table))  # it has a loop of its own


async def test_watched_table_tells_of_every_kind_of_change(database: Database, settings: Settings) -> None:
    table = '"My App"."Users"'
    assert await run(settings, "watch", table) == 0
    assert await run(settings, "watch", table) == 0, "once more changes nothing"
    changes = (f"INSERT INTO {table} VALUES (1)", f"UPDATE {table} SET id = 2", f"DELETE FROM {table}")
    assert await heard(database, *changes, f"TRUNCATE {table}") == ["relation My App.Users"] * 4
    assert await run(settings, "unwatch", table) == 0
    assert await heard(database, *changes) == []


async def test_table_that_is_watched_stays_so_while_it_is_watched_once_more(
    database: Database, settings: Settings
) -> None:
    """Nor does that wait for whoever reads it, as taking the trigger away for a moment would."""
    table = '"My App"."Users"'
    assert await run(settings, "watch", table) == 0
    reader = await database.connect()
    try:
        async with reader.transaction():
            await reader.execute(f"SELECT * FROM {table}")
            assert await run(settings, "watch", table) == 0
    finally:
        await reader.close()
    database.psql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    assert await run(settings, "watch", table) == 0
    assert await heard(database, f"INSERT INTO {table} VALUES (1)") == ["relation My App.Users"]


async def test_partitions_that_are_written_by_their_own_names_tell_as_well(
    database: Database, settings: Settings
) -> None:
    database.psql(
        "CREATE TABLE orders (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE old PARTITION OF orders FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);"
        'CREATE TABLE "Very Old" PARTITION OF old FOR VALUES FROM (0) TO (5)'
    )
    assert await run(settings, "watch", "orders") == 0
    changes = ("INSERT INTO orders VALUES (1)", 'INSERT INTO "Very Old" VALUES (2)', "DELETE FROM old")
    told = ["relation public.orders", "relation public.Very Old", "relation public.old"]
    assert await heard(database, *changes) == told
    assert await run(settings, "unwatch", "orders") == 0
    assert await heard(database, *changes) == []


async def test_table_that_is_not_there_is_told(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        await run(settings, "watch", "nowhere")
