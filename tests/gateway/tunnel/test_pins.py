"""How many backends may stay with one program each."""

from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import PinsExhausted
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.tunnel.pins import Pins


def pool(max_size: int) -> Any:
    class Pool:
        key = PoolKey("default", "main", "ann")
        upstream = SimpleNamespace(pool=SimpleNamespace(max_size=max_size))

    return Pool()


@pytest.mark.parametrize(("max_pinned", "max_size", "limit"), [(5, 10, 5), (5, 3, 2), (5, 1, 1), (0, 10, 0)])
def test_one_connection_of_a_pool_is_left_for_others_if_there_is_more_than_one(
    max_pinned: int, max_size: int, limit: int
) -> None:
    pins, of = Pins(max_pinned), pool(max_size)
    for _ in range(limit):
        pins.enter(of)
    with pytest.raises(PinsExhausted, match=rf"^{limit} connections of database main, role ann .*tunnel\.max_pinned"):
        pins.enter(of)
    assert pins.pinned(of) == pins.limit(of) == limit


def test_pools_have_a_bound_each() -> None:
    pins, one, two = Pins(1), pool(10), pool(10)
    pins.enter(one)
    pins.enter(two)
    with pytest.raises(PinsExhausted):
        pins.enter(one)


def test_pin_that_ends_makes_room() -> None:
    pins, of = Pins(1), pool(10)
    pins.enter(of)
    pins.leave(of)
    assert pins.pinned(of) == 0
    pins.enter(of)
