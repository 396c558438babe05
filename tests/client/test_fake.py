"""A client for tests that asks nobody."""

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest

from sqlhttp import Json, errors
from sqlhttp._fake import FakeNeon, Said


@pytest.fixture
def fake() -> FakeNeon:
    return FakeNeon()


def test_rows_come_out_as_the_test_gave_them(fake: FakeNeon) -> None:
    row: dict[str, Any] = {
        "a": True,
        "b": b"\x00",
        "c": 7,
        "d": "text",
        "e": 1.5,
        "f": date(2020, 1, 1),
        "g": time(1),
        "h": datetime(2020, 1, 1, tzinfo=UTC),
        "i": timedelta(days=1),
        "j": Decimal("1.10"),
        "k": UUID(int=1),
        "l": {"a": [1]},
        "m": ip_address("::1"),
        "n": ip_network("10.0.0.0/8"),
        "o": None,
        "p": [[1, None], [3, 4]],
        "q": ["a", None],
        "r": [],
        "s": [True, None],
        "t": -timedelta(microseconds=1),
    }
    fake.answer("from t", [row])
    assert fake.sql("select * from t") == [row]


def test_json_comes_out_as_its_value(fake: FakeNeon) -> None:
    fake.answer("t", [{"a": Json([1, 2])}])
    assert fake.sql("t") == [{"a": [1, 2]}]


def test_what_was_asked_is_kept(fake: FakeNeon) -> None:
    fake.answer("", row_count=2, command="UPDATE")
    assert fake.sql.execute("update t set a = $1", None) == 2
    fake.sql.transaction([fake.sql.q("one"), fake.sql.q("two $1", 2)])
    assert fake.asked == [Said("update t set a = $1", (None,)), Said("one", ()), Said("two $1", ("2",))]


def test_the_answer_given_last_goes_first(fake: FakeNeon) -> None:
    fake.answer("from t", [{"a": 1}])
    fake.answer("from t where", [{"a": 2}])
    assert fake.sql.val("select from t") == 1
    assert fake.sql.val("select from t where x") == 2


def test_errors_are_of_their_class(fake: FakeNeon) -> None:
    fake.answer("select", [{"a": 1}])
    fake.fail("insert", "23505", "duplicate key", constraint="users_pkey")
    with pytest.raises(errors.UniqueViolation, match="duplicate key") as caught:
        fake.sql("insert into users values (1)")
    assert caught.value.constraint == "users_pkey"
    with pytest.raises(errors.UniqueViolation):
        fake.sql.transaction([fake.sql.q("select 1"), fake.sql.q("insert 1")])


def test_a_statement_without_an_answer_fails_the_test(fake: FakeNeon) -> None:
    with pytest.raises(AssertionError, match=r"no answer .* select 1"):
        fake.sql("select 1")


async def test_the_asynchronous_client_is_answered_too(fake: FakeNeon) -> None:
    fake.answer("select", [{"a": 1}])
    async with fake.async_sql as sql:
        assert await sql("select 1") == [{"a": 1}]


def test_closing_closes_nothing(fake: FakeNeon) -> None:
    fake.answer("select", [{"a": 1}])
    with fake.sql as sql:
        assert sql("select 1") == [{"a": 1}]
    assert sql("select 1") == [{"a": 1}]
    assert fake.sql("select 1") == [{"a": 1}]


# ── over a WebSocket that is not there ───────────────────────────────────────────────────────────────────────────────


def test_a_transaction_is_answered_like_single_statements(fake: FakeNeon) -> None:
    fake.answer("from users", [{"id": 1}])
    fake.answer("insert", row_count=1, command="INSERT")
    with fake.sql.begin(read_only=True) as tx:
        assert tx("select * from users where id = $1", 1) == [{"id": 1}]
        assert tx.execute("insert into users values (2)") == 1
    assert [said.text for said in fake.asked] == [
        "BEGIN READ ONLY",
        "select * from users where id = $1",
        "insert into users values (2)",
        "COMMIT",
    ]


def test_what_fails_in_a_transaction_rolls_it_back(fake: FakeNeon) -> None:
    fake.fail("insert", "23505")
    fake.answer("select", [{"a": 1}])
    with pytest.raises(errors.UniqueViolation), fake.sql.begin() as tx:
        tx("insert into users values (1)")
    assert fake.asked[-1].text == "ROLLBACK"
    with fake.sql.begin() as tx:
        with pytest.raises(errors.UniqueViolation), tx.savepoint():
            tx("insert into users values (1)")
        assert tx.val("select 1") == 1
    assert fake.asked[-1].text == "COMMIT"
    with pytest.raises(errors.InFailedSqlTransaction), fake.sql.begin() as tx, suppress(errors.UniqueViolation):
        tx("insert into users values (1)")


def test_a_session_and_its_transactions(fake: FakeNeon) -> None:
    fake.answer("select", [{"a": 1}])
    with fake.sql.session() as session:
        assert session.val("select 1") == 1
        assert session.begin(lambda tx: tx.val("select 1")) == 1
        assert session.val("select 1") == 1


def test_notifications_are_those_of_the_test(fake: FakeNeon) -> None:
    fake.notify("other", "0")
    fake.notify("jobs", "1")
    assert [notification.payload for notification in fake.sql.listen("jobs", timeout=5)] == ["1"]


async def test_all_of_it_can_be_awaited(fake: FakeNeon) -> None:
    fake.answer("select", [{"a": 1}])
    fake.notify('j"s', "1")
    async with fake.async_sql.begin() as tx:
        assert await tx.val("select 1") == 1
    assert [said.text for said in fake.asked] == ["BEGIN", "select 1", "COMMIT"]
    assert [notification.payload async for notification in fake.async_sql.listen('j"s')] == ["1"]
