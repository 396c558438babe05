"""The Python client with an Idempotency-Key, on a network that loses answers."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlhttp import ConnectionLost, KeyReused, Retry, neon
from tests.support.bad_network import Fault, Kind, Way, bad_network
from tests.support.cluster import Database
from tests.support.gateway import Gateway

AFTER_THE_REQUEST = Fault(Kind.RESET, Way.TO_CLIENT)
"""The whole request arrives and its answer does not."""


@pytest.fixture
def orders(database: Database) -> Database:
    database.psql("CREATE TABLE orders (id serial, what text)")
    return database


def count(database: Database) -> str:
    return database.psql("SELECT count(*) FROM orders").strip()


def test_lost_answer_of_a_write_is_fetched_by_a_retry_that_runs_nothing(gateway: Gateway, orders: Database) -> None:
    with bad_network("127.0.0.1", gateway.port, lambda number: AFTER_THE_REQUEST if number < 2 else Fault()) as network:
        sql = neon(orders.url, endpoint=f"http://127.0.0.1:{network.port}/sql", idempotency_key="auto")
        assert sql("insert into orders (what) values ($1) returning id", "tea") == [{"id": 1}]
        assert network.made == 3
        assert count(orders) == "1"
        sql.transaction(
            [sql.q("insert into orders (what) values ('a')"), sql.q("insert into orders (what) values ('b')")]
        )
    assert count(orders) == "3"


def test_without_a_key_the_outcome_of_a_write_is_unknown_and_it_is_not_sent_again(
    gateway: Gateway, orders: Database
) -> None:
    with bad_network("127.0.0.1", gateway.port, lambda number: AFTER_THE_REQUEST) as network:
        sql = neon(orders.url, endpoint=f"http://127.0.0.1:{network.port}/sql")
        with pytest.raises(ConnectionLost):
            sql("insert into orders (what) values ('tea')")
        assert network.made == 1


def test_key_of_ones_own_joins_calls_that_are_made_apart(gateway: Gateway, orders: Database) -> None:
    sql = neon(orders.url, endpoint=gateway.sql)
    text = "insert into orders (what) values ($1) returning id"
    for _ in range(2):
        assert sql.query(text, ["tea"], idempotency_key="order-1") == [{"id": 1}]
    with pytest.raises(KeyReused):
        sql.query(text, ["milk"], idempotency_key="order-1")
    assert count(orders) == "1"


def test_call_that_finds_another_in_flight_comes_again_until_it_has_the_answer(
    start_gateway: Callable[..., Gateway], orders: Database
) -> None:
    gateway = start_gateway(idempotency={"wait": 0.0})
    text = "insert into orders (what) select $1 from pg_sleep(0.5) returning id"

    def place(number: int) -> object:
        sql = neon(orders.url, endpoint=gateway.sql, retry=Retry(attempts=10))
        return sql.query(text, ["tea"], idempotency_key="order-1")

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(place, range(3))) == [[{"id": 1}]] * 3
    assert count(orders) == "1"
