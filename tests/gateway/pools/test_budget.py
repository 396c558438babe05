"""Units for connections over all pools, and the line for them."""

import asyncio
from typing import Any

import pytest

from sqlhttp_gateway.errors import WaitTimeout
from sqlhttp_gateway.pools import budget as budget_module
from sqlhttp_gateway.pools.budget import Budget, Claim

LONG = 60.0  # seconds; never waited for
CLAIM = Claim("p", "")


class Place:
    """A budget, and how often it asked for room."""

    def __init__(self, limit: int) -> None:
        self.evictions = 0
        self.budget = Budget(limit, self._evict)

    def _evict(self) -> bool:
        self.evictions += 1
        return False

    def stand(self, timeout: float = LONG, *, pool: str = "p", tenant: str = "") -> "asyncio.Future[Any]":
        """One more in line."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Any] = loop.create_future()
        self.budget.wait(turn, Claim(pool, tenant), loop.time(), timeout)
        return turn


@pytest.fixture
async def place() -> Place:
    return Place(2)


async def test_units_are_counted_up_to_the_limit(place: Place) -> None:
    assert [place.budget.try_reserve("p") for _ in range(3)] == [True, True, False]
    assert place.budget.used == 2
    place.budget.give_back("p")
    assert place.budget.used == 1
    assert place.evictions == 0, "nobody waited"


async def test_whoever_stands_in_line_asks_for_room_once(place: Place) -> None:
    place.stand()
    place.stand()
    assert place.evictions == 2


async def test_units_go_to_the_first_in_line(place: Place) -> None:
    while place.budget.try_reserve("p"):
        pass
    first, second = place.stand(), place.stand()
    place.budget.give_back("p")
    assert (first.done(), second.done()) == (True, False)
    place.budget.give_back("p")
    assert second.result() is None
    assert place.budget.used == 2


async def test_free_unit_is_not_for_newcomers_while_others_wait(place: Place) -> None:
    place.stand()
    assert not place.budget.try_reserve("p")


async def test_turn_that_was_fulfilled_otherwise_or_cancelled_is_passed_over(place: Place) -> None:
    while place.budget.try_reserve("p"):
        pass
    served, gone, waits = place.stand(), place.stand(), place.stand()
    served.set_result("a connection of its own pool")
    gone.cancel()
    assert place.budget.waiting_since is not None
    place.budget.give_back("p")
    assert waits.done()
    assert place.budget.waiting_since is None


async def test_whoever_leaves_is_not_waited_for(place: Place) -> None:
    while place.budget.try_reserve("p"):
        pass
    turn = place.stand()
    place.budget.leave(turn)
    place.budget.leave(turn)
    assert place.budget.waiting_since is None
    place.budget.give_back("p")
    assert not turn.done()
    assert place.budget.used == 1


async def test_waiting_since_is_the_arrival_of_the_first_that_still_waits(place: Place) -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    place.budget.wait(first, CLAIM, 10.0, LONG + loop.time())
    place.budget.wait(second, CLAIM, 20.0, LONG + loop.time())
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


# ── between pools ────────────────────────────────────────────────────────────────────────────────────────────────────


def take(place: Place, pool: str, units: int) -> None:
    for _ in range(units):
        assert place.budget.try_reserve(pool)


async def test_unit_goes_to_the_pool_with_the_fewest_whoever_came_first() -> None:
    place = Place(4)
    take(place, "crowd", 3)
    take(place, "few", 1)
    crowd = [place.stand(pool="crowd") for _ in range(3)]
    late = place.stand(pool="none")
    place.budget.give_back("crowd")
    assert late.done()
    assert not any(turn.done() for turn in crowd)


async def test_pools_with_as_many_units_are_served_in_turn_and_so_are_tenants_of_one() -> None:
    place = Place(2)
    take(place, "p", 2)
    first, second = place.stand(tenant="a"), place.stand(tenant="a")
    other = place.stand(tenant="b")
    place.budget.give_back("p")
    place.budget.give_back("p")
    assert (first.done(), second.done(), other.done()) == (True, False, True)


async def test_pool_with_many_connections_owes_one_to_a_newcomer_at_once() -> None:
    """Else one role's crowd would keep all of them for as long as its own requests wait longer than anybody's."""
    loop = asyncio.get_running_loop()
    place = Place(4)
    take(place, "crowd", 4)
    assert not place.budget.owes("crowd", loop.time() - 5)
    place.stand(pool="none")
    assert place.budget.owes("crowd", loop.time() - 5)


async def test_pool_with_as_few_connections_keeps_them_for_those_who_wait_longer() -> None:
    loop = asyncio.get_running_loop()
    place = Place(2)
    take(place, "one", 1)
    take(place, "other", 1)
    place.stand(pool="other")
    assert not place.budget.owes("one", loop.time() - 5)
    assert place.budget.owes("one", loop.time() + 5)
    assert place.budget.owes("one", None), "nobody waits for it there"


async def test_only_connection_is_given_up_after_a_moment_to_a_pool_that_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    place = Place(1)
    take(place, "one", 1)
    place.stand(pool="none")
    assert not place.budget.owes("one", loop.time() - 5)
    monkeypatch.setattr(budget_module, "_LAST_ONE_AFTER", -1.0)
    assert place.budget.owes("one", loop.time() - 5)


async def test_own_requests_in_line_are_a_reason_only_when_they_want_a_new_one() -> None:
    """Those that take what comes back are the first of their pool; a log-in that proves a password is not."""
    loop = asyncio.get_running_loop()
    place = Place(2)
    take(place, "p", 2)
    since = loop.time()
    place.stand(pool="p")
    assert not place.budget.owes("p", since)
    assert place.budget.owes("p", None)


# ── another size ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_larger_budget_serves_those_who_wait_and_a_smaller_one_is_owed_what_is_too_much() -> None:
    loop = asyncio.get_running_loop()
    place = Place(1)
    take(place, "p", 1)
    turns = [place.stand() for _ in range(3)]
    place.budget.resize(3)
    assert [turn.done() for turn in turns] == [True, True, False]
    place.budget.resize(1)
    assert place.budget.is_tight
    assert place.budget.owes("p", loop.time() - 5)
    for _ in range(2):
        place.budget.give_back("p")
    assert not turns[2].done(), "one is still in use, which is all there may be"
    place.budget.give_back("p")
    assert turns[2].done()
