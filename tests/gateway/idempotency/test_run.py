"""A write and its key in one transaction, over a lease."""

import hashlib
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.errors import (
    ClaimsFailed,
    ConnectionBroken,
    IdempotencyUnavailable,
    KeyInFlight,
    KeyReused,
    KeyUnanswered,
    PostgresError,
    UnsupportedStatement,
)
from sqlhttp_gateway.idempotency import table
from sqlhttp_gateway.idempotency.run import Answered, TableGone, run_once
from sqlhttp_gateway.idempotency.store import install
from sqlhttp_gateway.model import Batch, Options, Prologue, Result, Statement
from tests.support.cluster import Database
from tests.support.leases import Leases, leases

ID, FINGERPRINT, SECRET = b"\1" * 32, b"\2" * 32, b"\3" * 32
TAG = hashlib.sha256(SECRET).digest()[:8]


@pytest.fixture
async def connections(database: Database) -> AsyncIterator[Leases]:
    database.psql("CREATE TABLE t (i int)")
    async with leases(database, pool={"max_size": 2}) as made:
        lease = await made.lease()
        await install(lease)
        lease.release()
        database.psql(f"UPDATE sqlhttp.idempotency_secret SET secret = '\\x{SECRET.hex()}'")
        yield made


async def once(
    connections: Leases,
    *texts: str,
    fingerprint: bytes = FINGERPRINT,
    tag: bytes = TAG,
    prologue: Prologue | None = None,
) -> int:
    """Rows of all results, told under the key."""

    async def keep(results: list[Result]) -> tuple[int, Statement]:
        return sum(result.row_count for result in results), table.keeping(ID, b"answer")

    lease = await connections.lease()
    taking = table.taking(ID, fingerprint, tag=tag, lifetime=60.0, patience=0.05)
    request = Batch(tuple(map(Statement, texts))) if len(texts) > 1 else Statement(texts[0])
    try:
        return await run_once(
            lease, request, Options(), connections.limits, taking=taking, keep=keep, prologue=prologue
        )
    finally:
        lease.release()


async def test_results_are_the_requests_own_and_what_is_kept_is_committed(connections: Leases) -> None:
    assert await once(connections, "INSERT INTO t VALUES (1), (2) RETURNING i", "SELECT i FROM t") == 4
    with pytest.raises(Answered):
        await once(connections, "INSERT INTO t VALUES (1), (2) RETURNING i", "SELECT i FROM t")
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "2"
    with pytest.raises(KeyReused):
        await once(connections, "SELECT 1", fingerprint=b"other")


async def test_key_that_was_made_with_another_secret_is_not_taken(connections: Leases) -> None:
    with pytest.raises(TableGone):
        await once(connections, "INSERT INTO t VALUES (1)", tag=b"former ")
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "0"


async def test_failed_statement_leaves_key_and_table_as_they_were(connections: Leases) -> None:
    with pytest.raises(PostgresError, match="division by zero"):
        await once(connections, "INSERT INTO t VALUES (1)", "SELECT 1/0")
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "0"
    assert await once(connections, "INSERT INTO t VALUES (1) RETURNING i") == 1


async def test_one_that_waits_too_long_is_told_that_the_other_runs(connections: Leases) -> None:
    other = await connections.database.connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT sqlhttp.begin_once($1, $2, $3, 60, 1000)", ID, FINGERPRINT, TAG)
    with pytest.raises(KeyInFlight) as caught:
        await once(connections, "INSERT INTO t VALUES (1)")
    assert caught.value.retry_after == 1
    await transaction.rollback()
    await other.close()
    await once(connections, "INSERT INTO t VALUES (1)")


async def test_key_without_an_answer_says_so_for_ever(connections: Leases) -> None:
    given = ", ".join(f"'\\x{each.hex()}'" for each in (ID, FINGERPRINT, TAG))
    connections.database.psql(f"SELECT sqlhttp.begin_once({given}, 60, 1)")
    with pytest.raises(KeyUnanswered):
        await once(connections, "INSERT INTO t VALUES (1)")


async def test_what_a_prologue_meets_is_told_apart_from_what_the_key_meets(connections: Leases) -> None:
    with pytest.raises(ClaimsFailed, match="division by zero"):
        await once(connections, "SELECT 1", prologue=Prologue((Statement("SELECT 1/0"),)))
    assert await once(connections, "SELECT 1", prologue=Prologue((Statement("SELECT 2"),))) == 1


async def test_role_that_may_take_no_key_hears_that_the_operator_has_to_mend_it(connections: Leases) -> None:
    connections.database.psql("REVOKE USAGE ON SCHEMA sqlhttp FROM PUBLIC")
    with pytest.raises(IdempotencyUnavailable, match="permission denied for schema sqlhttp"):
        await once(connections, "SELECT 1", prologue=Prologue((Statement("SET LOCAL ROLE pg_monitor"),)))
    lease = await connections.lease()
    await install(lease)
    lease.release()
    assert await once(connections, "SELECT 1", prologue=Prologue((Statement("SET LOCAL ROLE pg_monitor"),))) == 1


async def test_table_that_was_dropped_is_told_before_anything_runs(connections: Leases) -> None:
    connections.database.psql("DROP SCHEMA sqlhttp CASCADE")
    with pytest.raises(TableGone):
        await once(connections, "INSERT INTO t VALUES (1)")
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "0"


@pytest.mark.parametrize("text", ["COMMIT", "COPY t FROM STDIN"])
async def test_what_cannot_be_kept_together_with_a_key_is_refused_beforehand(connections: Leases, text: str) -> None:
    with pytest.raises(UnsupportedStatement):
        await once(connections, "INSERT INTO t VALUES (1)", text)
    assert connections.database.psql("SELECT count(*) FROM sqlhttp.idempotency_keys").strip() == "0"


async def test_commit_that_is_hidden_from_us_is_told_as_unknown(
    connections: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlhttp_gateway.idempotency.run.ends_transaction", lambda request: False)
    with pytest.raises(KeyUnanswered):
        await once(connections, "INSERT INTO t VALUES (1)", "COMMIT")
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "1"


async def test_backend_that_dies_in_the_middle_leaves_nothing(connections: Leases) -> None:
    with pytest.raises((ConnectionBroken, PostgresError)):
        await once(
            connections,
            "INSERT INTO t VALUES (1)",
            "SELECT pg_terminate_backend(pg_backend_pid())",
            "SELECT pg_sleep(9)",
        )
    assert connections.database.psql("SELECT count(*) FROM t").strip() == "0"
    assert await once(connections, "INSERT INTO t VALUES (1) RETURNING i") == 1
