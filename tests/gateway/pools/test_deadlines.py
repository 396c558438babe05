"""Time is the loop's own here, moved by a loop that never waits."""

import asyncio
from collections.abc import Callable

import pytest

from sqlhttp_gateway.pools.deadlines import Deadlines


class Clock:
    """As much of an event loop as Deadlines needs, with a clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Timer":
        timer = Timer(when, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            if not timer.is_cancelled:
                timer.callback()


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback, self.is_cancelled = when, callback, False

    def cancel(self) -> None:
        self.is_cancelled = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def deadlines(clock: Clock, expired: list[str]) -> Deadlines[str]:
    return Deadlines(clock, expired.append)  # type: ignore[arg-type]  # the part of a loop that is used


def test_item_expires_at_its_deadline_and_not_before(
    deadlines: Deadlines[str], clock: Clock, expired: list[str]
) -> None:
    deadlines.set("a", 105.0)
    clock.advance(4.9)
    assert expired == []
    assert "a" in deadlines
    clock.advance(0.1)
    assert expired == ["a"]
    clock.advance(100)
    assert expired == ["a"]


def test_item_that_was_dropped_never_expires(deadlines: Deadlines[str], clock: Clock, expired: list[str]) -> None:
    deadlines.set("a", 101.0)
    deadlines.drop("a")
    deadlines.drop("unknown")
    assert "a" not in deadlines
    clock.advance(10)
    assert expired == []
    assert len(deadlines) == 0


def test_later_deadline_takes_the_place_of_the_first(
    deadlines: Deadlines[str], clock: Clock, expired: list[str]
) -> None:
    deadlines.set("a", 101.0)
    deadlines.set("a", 103.0)
    clock.advance(2)
    assert expired == []
    clock.advance(1)
    assert expired == ["a"]


def test_earlier_deadline_that_comes_later_is_kept(deadlines: Deadlines[str], clock: Clock, expired: list[str]) -> None:
    deadlines.set("slow", 160.0)
    deadlines.set("quick", 101.0)
    clock.advance(1)
    assert expired == ["quick"]
    clock.advance(59)
    assert expired == ["quick", "slow"]


def test_thousand_deadlines_have_one_timer(deadlines: Deadlines[str], clock: Clock) -> None:
    for number in range(1000):
        deadlines.set(str(number), 160.0 + number)
        deadlines.drop(str(number))
    assert len([timer for timer in clock.timers if not timer.is_cancelled]) == 1


def test_item_set_anew_while_it_expires_expires_again(clock: Clock) -> None:
    expired: list[float] = []

    def expire(item: str) -> None:
        expired.append(clock.now)
        if len(expired) < 3:
            deadlines.set(item, clock.now + 5)

    deadlines: Deadlines[str] = Deadlines(clock, expire)  # type: ignore[arg-type]
    deadlines.set("a", 101.0)
    for _ in range(20):
        clock.advance(1)
    assert expired == [101.0, 106.0, 111.0]


def test_closed_deadlines_expire_nothing(deadlines: Deadlines[str], clock: Clock, expired: list[str]) -> None:
    deadlines.set("a", 101.0)
    deadlines.close()
    clock.advance(10)
    assert expired == []


async def test_real_loop_calls_back() -> None:
    called: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    deadlines: Deadlines[str] = Deadlines(asyncio.get_running_loop(), called.set_result)
    deadlines.set("a", asyncio.get_running_loop().time())
    assert await asyncio.wait_for(called, 5) == "a"
