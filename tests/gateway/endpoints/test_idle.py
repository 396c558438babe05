import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sqlhttp_gateway.endpoints.idle import IdleLooks


class Loop:
    """A loop whose time goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.25
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None:
        self.timers.append((when, callback, arguments))

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback, arguments in due:
            callback(*arguments)


class Connection:
    def __init__(self) -> None:
        self.looks = 0

    def look_idle(self) -> None:
        self.looks += 1


@pytest.fixture
def loop() -> Loop:
    return Loop()


def after(looks: IdleLooks, loop: Loop, wait: float, connection: Connection) -> Any:
    return looks.after(wait, connection, loop)  # type: ignore[arg-type]  # it has what is used of one


def test_look_comes_when_the_wait_is_over_and_at_most_a_second_later(loop: Loop) -> None:
    looks, connection = IdleLooks(), Connection()
    after(looks, loop, 75.0, connection)
    loop.go_on(74.99)
    assert connection.looks == 0
    loop.go_on(1.01)
    assert connection.looks == 1
    loop.go_on(1000.0)
    assert connection.looks == 1


def test_short_wait_is_not_a_second_too_long(loop: Loop) -> None:
    looks, connection = IdleLooks(), Connection()
    after(looks, loop, 0.5, connection)
    loop.go_on(0.551)
    assert connection.looks == 1


def test_connections_of_one_second_have_one_timer(loop: Loop) -> None:
    looks, connections = IdleLooks(), [Connection() for _ in range(100)]
    for connection in connections:
        loop.now += 0.001
        after(looks, loop, 75.0, connection)
    assert len(loop.timers) == 1
    loop.go_on(76.0)
    assert [connection.looks for connection in connections] == [1] * 100


def test_connection_that_was_discarded_is_not_looked_at(loop: Loop) -> None:
    looks, gone, there = IdleLooks(), Connection(), Connection()
    due = after(looks, loop, 75.0, gone)
    after(looks, loop, 75.0, there)
    due.discard(gone)
    loop.go_on(76.0)
    assert (gone.looks, there.looks) == (0, 1)


def test_connection_may_be_looked_at_again_from_its_look(loop: Loop) -> None:
    looks = IdleLooks()

    class Busy(Connection):
        def look_idle(self) -> None:
            super().look_idle()
            after(looks, loop, 10.0, self)

    connection = Busy()
    after(looks, loop, 75.0, connection)
    loop.go_on(76.0)
    loop.go_on(11.0)
    assert connection.looks == 2


async def test_a_real_loop_will_do() -> None:
    looked = asyncio.Event()

    class Connected:
        def look_idle(self) -> None:
            looked.set()

    IdleLooks().after(0.01, Connected(), asyncio.get_running_loop())
    async with asyncio.timeout(10):
        await looked.wait()
