"""Units for connections over all pools, and the line for them."""

import asyncio
from typing import Any

import pytest

from sqlhttp_gateway.errors import WaitTimeout
from sqlhttp_gateway.pools.budget import Budget, Turn

LONG = 60.0  # seconds; never waited for


class Place:
    """A budget, and how often it asked for room."""

    def __init__(self, limit: int) -> None:
        self.evictions = 0
        self.budget = Budget(limit, self._evict)

    def _evict(self) -> bool:
        self.evictions += 1
        return False

    def stand(self, timeout: float = LONG) -> Turn:
        """One more in line."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Any] = loop.create_future()
        self.budget.wait(turn, loop.time(), timeout)
        return turn


@pytest.fixture
async def place() -> Place:
    return Place(2)


async def test_units_are_counted_up_to_the_limit(place: Place) -> None:
    assert [place.budget.try_reserve() for _ in range(3)] == [True, True, False]
    assert place.budget.used == 2
    place.budget.give_back()
    assert place.budget.used == 1
    assert place.evictions == 0, "nobody waited"


async def test_whoever_stands_in_line_asks_for_room_once(place: Place) -> None:
    place.stand()
    place.stand()
    assert place.evictions == 2


async def test_units_go_to_the_first_in_line(place: Place) -> None:
    while place.budget.try_reserve():
        pass
    first, second = place.stand(), place.stand()
    place.budget.give_back()
    assert (first.done(), second.done()) == (True, False)
    place.budget.give_back()
    assert second.result() is None
    assert place.budget.used == 2


async def test_free_unit_is_not_for_newcomers_while_others_wait(place: Place) -> None:
    place.stand()
    assert not place.budget.try_reserve()


async def test_turn_that_was_fulfilled_otherwise_or_cancelled_is_passed_over(place: Place) -> None:
    while place.budget.try_reserve():
        pass
    served, gone, waits = place.stand(), place.stand(), place.stand()
    served.set_result("a connection of its own pool")
    gone.cancel()
    assert place.budget.waiting_since is not None
    place.budget.give_back()
    assert waits.done()
    assert place.budget.waiting_since is None


async def test_whoever_leaves_is_not_waited_for(place: Place) -> None:
    while place.budget.try_reserve():
        pass
    turn = place.stand()
    place.budget.leave(turn)
    place.budget.leave(turn)
    assert place.budget.waiting_since is None
    place.budget.give_back()
    assert not turn.done()
    assert place.budget.used == 1


async def test_waiting_since_is_the_arrival_of_the_first_that_still_waits(place: Place) -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    place.budget.wait(first, 10.0, LONG + loop.time())
    place.budget.wait(second, 20.0, LONG + loop.time())
    assert place.budget.waiting_since == 10.0
    first.set_result(None)
    assert place.budget.waiting_since == 20.0


async def test_expired_wait_names_the_setting(place: Place) -> None:
    turn = place.stand(0.01)
    with pytest.raises(WaitTimeout) as caught:
        await turn
    assert "0.01 s" in caught.value.message
    assert "all 2 of this gateway are in use (pool.max_total)" in caught.value.message
    assert caught.value.retry_after == 1
    assert place.budget.waiting_since is None
