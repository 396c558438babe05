"""Who may keep a connection for a moment, and who lets go first."""

import asyncio

from sqlhttp_gateway.pools.lingering import Lingering
from tests.support.clock import fake_time


class One:
    """Somebody who lingers."""

    def __init__(self, gone: list["One"]) -> None:
        self._gone = gone

    def let_go(self) -> None:
        self._gone.append(self)


def some(count: int) -> tuple[list[One], list[One]]:
    gone: list[One] = []
    return [One(gone) for _ in range(count)], gone


async def test_whoever_has_lingered_longest_lets_go_first() -> None:
    lingering = Lingering(asyncio.get_running_loop())
    (first, second, third), gone = some(3)
    for each in (first, second, third):
        lingering.enter(each, 10)
    lingering.leave(first)
    lingering.enter(first, 10)
    assert lingering.reclaim()
    assert (gone, len(lingering)) == ([second], 2)
    lingering.reclaim_all()
    assert (gone, len(lingering)) == ([second, third, first], 0)
    assert not lingering.reclaim()


async def test_whoever_has_left_is_not_told() -> None:
    lingering = Lingering(asyncio.get_running_loop())
    (one,), gone = some(1)
    lingering.enter(one, 10)
    lingering.leave(one)
    lingering.leave(one)
    assert not lingering.reclaim()
    assert gone == []


async def test_one_that_began_a_moment_ago_may_be_left_alone() -> None:
    lingering = Lingering(asyncio.get_running_loop())
    (one,), gone = some(1)
    with fake_time() as clock:
        lingering.enter(one, 10)
        assert not lingering.reclaim(older_than=5)
        clock.advance(6)
        assert lingering.reclaim(older_than=5)
        assert gone == [one]


async def test_time_is_over_for_each_in_its_turn() -> None:
    lingering = Lingering(asyncio.get_running_loop())
    (first, second), gone = some(2)
    lingering.enter(first, 0.01)
    lingering.enter(second, 0.01)
    lingering.leave(first)
    lingering.enter(first, 0.01)
    async with asyncio.timeout(5):
        while len(gone) < 2:  # noqa: ASYNC110 - nobody tells the test
            await asyncio.sleep(0)
    assert gone == [second, first]
