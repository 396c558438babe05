import asyncio

import pytest

from sqlhttp_gateway.cache.flights import Flights


class Work:
    """A fetch that lands when the test lets it."""

    def __init__(self) -> None:
        self.gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.was_cancelled = False

    async def run(self) -> str:
        try:
            return await self.gate
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_all_who_join_get_what_one_fetch_brings() -> None:
    flights, work = Flights[str](10), Work()
    flight = flights.start(b"k", work.run(), began=1)
    joined = [asyncio.create_task(flight.landed()) for _ in range(100)]
    assert flights.find(b"k") is flight
    work.gate.set_result("rows")
    assert await asyncio.gather(*joined) == ["rows"] * 100
    assert flights.find(b"k") is None
    assert len(flights) == 0


async def test_whoever_began_may_leave_and_the_others_still_get_it() -> None:
    flights, work = Flights[str](10), Work()
    flight = flights.start(b"k", work.run(), began=1)
    first, second = asyncio.create_task(flight.landed()), asyncio.create_task(flight.landed())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gate.set_result("rows")
    assert await second == "rows"


async def test_fetch_that_nobody_waits_for_is_cancelled_and_not_joined_any_more() -> None:
    flights, work = Flights[str](10), Work()
    flight = flights.start(b"k", work.run(), began=1)
    only = asyncio.create_task(flight.landed())
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert flights.find(b"k") is None
    await asyncio.wait({flight.task})
    assert work.was_cancelled


async def test_refresh_goes_on_without_anybody() -> None:
    flights, work = Flights[str](10), Work()
    flight = flights.start(b"k", work.run(), began=1, is_refresh=True)
    only = asyncio.create_task(flight.landed())
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    work.gate.set_result("rows")
    assert await flight.task == "rows"


async def test_failure_is_everybodys_and_nobody_has_to_look_at_it() -> None:
    flights, work = Flights[str](10), Work()
    flight = flights.start(b"k", work.run(), began=1)
    waiting = asyncio.create_task(flight.landed())
    await asyncio.sleep(0)
    work.gate.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await waiting
    unseen = Work()
    flights.start(b"k", unseen.run(), began=1, is_refresh=True)
    await asyncio.sleep(0)
    unseen.gate.set_exception(ValueError("unseen"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(flights) == 0


async def test_there_is_room_for_so_many_and_stop_ends_them() -> None:
    flights = Flights[str](2)
    works = [Work(), Work()]
    for number, work in enumerate(works):
        assert not flights.is_full
        flights.start(b"%d" % number, work.run(), began=1)
    assert flights.is_full
    await asyncio.sleep(0)
    await flights.stop()
    assert all(work.was_cancelled for work in works)
    assert len(flights) == 0
