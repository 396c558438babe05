"""Several tenants in one line."""

import asyncio
from typing import Any

import pytest

from sqlhttp_gateway.pools.line import Line, Place


@pytest.fixture
async def line() -> Line[str]:
    return Line()


def join(line: Line[str], *tenants: str) -> "list[asyncio.Future[Any]]":
    """One more in line for each of these."""
    loop = asyncio.get_running_loop()
    turns = []
    for number, tenant in enumerate(tenants):
        turn: asyncio.Future[Any] = loop.create_future()
        line.join(turn, Place(tenant, float(number), 1.0))
        turns.append(turn)
    return turns


def served(line: Line[str], turns: "list[asyncio.Future[Any]]") -> list[int]:
    """All that wait, by their numbers, in the order in which they are served."""
    order = []
    while (turn := line.next()) is not None:
        order.append(turns.index(turn))
    return order


async def test_one_tenant_is_served_first_in_first_out(line: Line[str]) -> None:
    turns = join(line, *"aaaa")
    assert served(line, turns) == [0, 1, 2, 3]


async def test_tenants_are_served_in_turn_and_each_in_the_order_of_arrival(line: Line[str]) -> None:
    turns = join(line, *"aaaabbc")
    assert served(line, turns) == [0, 4, 6, 1, 5, 2, 3]


async def test_newcomer_of_another_tenant_waits_for_one_of_the_crowd_at_most(line: Line[str]) -> None:
    crowd = join(line, *"a" * 500)
    assert line.next() is crowd[0]
    [newcomer] = join(line, "b")
    assert [line.next(), line.next()] == [crowd[1], newcomer]


async def test_whoever_comes_back_at_once_waits_behind_the_others(line: Line[str]) -> None:
    join(line, *"bc")
    order = []
    join(line, "a")
    for _ in range(6):
        turn = next(iter(line.firsts())).tenant
        order.append(turn)
        assert line.next() is not None
        join(line, turn)
    assert order == list("bcabca")


async def test_those_who_were_told_already_cost_nobody_a_turn(line: Line[str]) -> None:
    turns = join(line, *"aabb")
    turns[0].cancel()
    turns[2].cancel()
    assert served(line, turns) == [1, 3]
    assert len(line) == 0
    assert line.tenants == 0


async def test_tenant_without_anybody_in_line_is_forgotten(line: Line[str]) -> None:
    turns = join(line, *"ab")
    assert line.leave(turns[0]) == Place("a", 0.0, 1.0)
    assert line.leave(turns[0]) is None
    assert (line.tenants, line.length("a"), line.length("b")) == (1, 0, 1)
    assert line.take("b") is turns[1]
    assert line.tenants == 0


async def test_what_is_known_of_those_who_wait(line: Line[str]) -> None:
    turns = join(line, *"abaa")
    assert (len(line), list(line), turns[3] in line, line.ahead(turns[3])) == (4, turns, True, 2)
    assert line.last_of_longest() is turns[3]
    assert line.since == 0.0
    turns[0].cancel()
    assert line.since == 1.0
    assert [place.since for place in line.firsts()] == [2.0, 1.0]
    assert line.clear() == turns
    assert (line.since, line.last_of_longest(), line.next(), list(line.firsts())) == (None, None, None, [])


async def test_whose_turn_it_is_can_be_seen_without_serving_anybody(line: Line[str]) -> None:
    assert line.peek() is None
    turns = join(line, *"aab")
    turns[0].cancel()
    assert line.peek() is turns[1]
    assert line.peek() is turns[1]
    assert line.next() is turns[1]
    assert line.peek() is turns[2]
