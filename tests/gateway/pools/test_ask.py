"""Questions of the gateway's own: rows as tuples, errors as they are, and a connection that stays clean."""

import pytest

from sqlhttp_gateway.errors import PostgresError, ResponseTooLarge, StatementTimeout
from sqlhttp_gateway.pools import ask as ask_module
from sqlhttp_gateway.pools.ask import ask
from tests.support.cluster import Database
from tests.support.leases import leases, refusal

ONE = {"max_size": 1}


async def test_rows_are_tuples_of_bytes(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        assert await ask(lease, "SELECT $1::int + i, NULL, '' FROM generate_series(1, 2) i", (b"40",)) == [
            (b"41", None, b""),
            (b"42", None, b""),
        ]
        assert await ask(lease, "SELECT 1 WHERE false") == []
        lease.release()


async def test_question_is_parsed_once_on_a_connection(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        text = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement = $1"
        seen = []
        for _ in range(3):
            lease = await lending.lease()
            [[count]] = await ask(lease, text, (text.encode(),))
            seen.append(count)
            lease.release()
        assert seen == [b"1", b"2", b"3"]


async def test_error_is_raised_and_the_connection_kept(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        error = await refusal(ask(lease, "SELECT * FROM nowhere"))
        assert isinstance(error, PostgresError)
        assert error.code == "42P01"
        assert await ask(lease, "SELECT 1") == [(b"1",)]
        lease.release()


async def test_question_is_bounded_in_time_and_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_module, "ANSWER_TIMEOUT", 0.05)
    async with leases(database, pool=ONE) as lending:
        for text, kind in (
            ("SELECT pg_sleep(60)", StatementTimeout),
            ("SELECT repeat('x', 2000000)", ResponseTooLarge),
        ):
            lease = await lending.lease()
            assert isinstance(await refusal(ask(lease, text)), kind)
            lease.release()
        assert await lending.value("SELECT 1") == "1"


async def test_nothing_of_a_question_is_left_behind(database: Database) -> None:
    async with leases(database, pool=ONE) as lending:
        lease = await lending.lease()
        await ask(lease, "SELECT set_config('work_mem', '77MB', false)")
        lease.release()
        assert await lending.value("SHOW work_mem") == "4MB"
