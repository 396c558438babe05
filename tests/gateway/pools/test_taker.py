"""A place in line that is told in the loop's next turn."""

import asyncio
from typing import Any

from sqlhttp_gateway.errors import WaitTimeout
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.taker import Found, Taker, Unclean


async def test_what_comes_is_told_in_the_next_turn_of_the_loop() -> None:
    told: list[Found] = []
    found: Any = Unclean(object(), object())  # type: ignore[arg-type]
    taker = Taker(asyncio.get_running_loop(), told.append)
    assert not taker.done()
    taker.set_result(found)
    assert (taker.done(), told) == (True, [])
    await asyncio.sleep(0)
    assert told == [found]


async def test_why_nothing_comes_is_told_too() -> None:
    told: list[Found] = []
    taker = Taker(asyncio.get_running_loop(), told.append)
    error = WaitTimeout("no connection within 5 s")
    taker.set_exception(error)
    assert (taker.done(), told) == (True, [])
    await asyncio.sleep(0)
    assert told == [error]


async def test_gate_tells_a_taker_as_it_tells_everybody() -> None:
    told: list[Found] = []
    gate: Gate[Any] = Gate(1, max_waiting=5, name="a test")
    assert gate.try_enter()
    gate.stand(Taker(asyncio.get_running_loop(), told.append), 5.0)
    gate.leave()
    await asyncio.sleep(0)
    assert (told, gate.in_use) == ([None], 1)
