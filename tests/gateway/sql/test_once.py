"""A write with a key is carried out once; so are the words in which that is told."""

from collections.abc import AsyncIterator

import pytest

from tests.support.cluster import Database
from tests.support.running_app import RunningApp, running_app

WRITE = {"query": "INSERT INTO t VALUES (1) RETURNING i"}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    database.psql("CREATE TABLE t (i int)")
    async with running_app(database) as running:
        yield running


def written(database: Database) -> int:
    return int(database.psql("SELECT count(*) FROM t"))


async def test_second_one_gets_the_firsts_bytes_and_a_word_that_they_are(app: RunningApp, database: Database) -> None:
    first = await app.post(WRITE, idempotency_key="one")
    again = await app.post(WRITE, idempotency_key="one")
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert written(database) == 1
    assert [event.outcome for event in app.answered()] == ["ok", "ok"]


async def test_key_of_a_request_that_reads_only_is_not_kept(app: RunningApp, database: Database) -> None:
    batch = {"queries": [{"query": "SELECT count(*) FROM t"}]}
    assert (await app.post(batch, idempotency_key="two", neon_batch_read_only="true")).status == 200
    assert database.psql("SELECT to_regnamespace('sqlhttp') IS NULL") == "t\n"


async def test_table_that_was_dropped_is_made_again_and_the_write_is_done(app: RunningApp, database: Database) -> None:
    await app.post(WRITE, idempotency_key="one")
    database.psql("DROP SCHEMA sqlhttp CASCADE")
    assert (await app.post(WRITE, idempotency_key="three")).status == 200
    assert written(database) == 2


async def test_write_that_failed_leaves_its_key_free(app: RunningApp, database: Database) -> None:
    failing = {"query": "INSERT INTO missing VALUES (1)"}
    assert (await app.post(failing, idempotency_key="one")).json()["code"] == "42P01"
    database.psql("CREATE TABLE missing (i int)")
    assert (await app.post(failing, idempotency_key="one")).status == 200


async def test_two_databases_behind_one_address_are_told_to_the_operator(
    app: RunningApp, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads the secret is led elsewhere than what takes the key."""
    monkeypatch.setattr("sqlhttp_gateway.idempotency.table.READ_SECRET", "SELECT repeat('00', 32)")
    call = await app.post(WRITE, idempotency_key="one")
    assert (call.status, call.json()["code"], call.headers["sqlhttp-ran"]) == (500, "F0000", "no")
    assert "not the one" in call.json()["message"]
    assert written(database) == 0
