"""Requests to cancel: made again, and followed to their end. Time is moved by hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.pools.cancelling import CancelRequests, cancel_once, cancel_until, pauses
from tests.support.clock import LoopClock, fake_time, turns


class Server:
    """Gets the requests; the test answers each, refuses it, or does neither."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[None]] = []
        self.refuses = False

    async def request(self) -> None:
        answer = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        if self.refuses:
            raise ConnectionRefusedError
        await answer


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    with fake_time() as clock:
        yield clock


async def pass_by(clock: LoopClock, seconds: float) -> None:
    """Let time pass in small steps, and everything that becomes due happen."""
    for _ in range(round(seconds / 0.05)):
        clock.advance(0.05)
        await turns()


def test_the_first_four_come_within_the_second_in_which_a_statement_is_to_end() -> None:
    each = pauses()
    assert sum(next(each) for _ in range(3)) == pytest.approx(1.0)
    assert [next(each) for _ in range(3)] == [1.0] * 3


async def test_one_that_is_not_answered_is_followed_by_another(server: Server, clock: LoopClock) -> None:
    async with CancelRequests(server.request) as requests:
        delivering = asyncio.ensure_future(requests.deliver())
        await turns()
        assert len(server.asked) == 1
        await pass_by(clock, 0.25)
        assert len(server.asked) == 2
        await pass_by(clock, 0.3)
        assert len(server.asked) == 3
        assert not delivering.done()
        server.asked[1].set_result(None)
        await delivering


async def test_one_that_is_answered_is_followed_by_none(server: Server, clock: LoopClock) -> None:
    async with CancelRequests(server.request) as requests:
        delivering = asyncio.ensure_future(requests.deliver())
        await turns()
        server.asked[0].set_result(None)
        await delivering
        await requests.settle()
        await pass_by(clock, 5.0)
    assert len(server.asked) == 1


async def test_they_are_settled_when_the_last_that_is_on_its_way_has_come(server: Server) -> None:
    async with CancelRequests(server.request) as requests:
        for _ in range(3):
            requests.make()
        settling = asyncio.ensure_future(requests.settle())
        await turns()
        for number in (1, 2):
            server.asked[number].set_result(None)
            await turns()
            assert not settling.done()
        server.asked[0].set_exception(ConnectionResetError())
        await settling


async def test_those_that_cannot_be_sent_are_repeated_and_in_vain_after_a_second(
    server: Server, clock: LoopClock
) -> None:
    server.refuses = True
    async with CancelRequests(server.request) as requests:
        delivering = asyncio.ensure_future(requests.deliver())
        await pass_by(clock, 0.9)
        assert (len(server.asked), requests.are_in_vain) == (3, False)
        await pass_by(clock, 0.4)
        assert (len(server.asked), requests.are_in_vain) == (4, True)
        server.refuses = False
        await pass_by(clock, 1.0)
        assert not requests.are_in_vain, "one is on its way"
        server.asked[-1].set_result(None)
        await delivering
        assert not requests.are_in_vain


async def test_what_is_on_its_way_at_the_end_is_dropped(server: Server) -> None:
    async with CancelRequests(server.request) as requests:
        requests.make()
        await turns()
    assert server.asked[0].cancelled()


async def test_what_is_dropped_at_the_end_has_closed_its_connection_by_then() -> None:
    closed = False

    async def request() -> None:
        nonlocal closed
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed = True

    async with CancelRequests(request) as requests:
        requests.make()
        await turns()
    assert closed


async def test_one_cancel_is_over_when_no_signal_can_come_any_more(server: Server, clock: LoopClock) -> None:
    cancelling = asyncio.ensure_future(cancel_once(server.request, timeout=5.0))
    await pass_by(clock, 0.25)
    server.asked[1].set_result(None)
    await turns()
    assert not cancelling.done()
    server.asked[0].set_exception(ConnectionResetError())
    assert await cancelling is True


async def test_one_cancel_that_need_not_settle_is_over_with_the_first_that_is_delivered(
    server: Server, clock: LoopClock
) -> None:
    cancelling = asyncio.ensure_future(cancel_once(server.request, timeout=5.0, settles=False))
    await pass_by(clock, 0.25)
    server.asked[1].set_result(None)
    assert await cancelling is True
    assert server.asked[0].cancelled()


async def test_cancel_that_cannot_be_delivered_in_time_is_given_up(server: Server, clock: LoopClock) -> None:
    cancelling = asyncio.ensure_future(cancel_once(server.request, timeout=1.0))
    await pass_by(clock, 1.1)
    assert await cancelling is False
    assert all(answer.cancelled() for answer in server.asked)


async def test_cancels_follow_each_other_until_what_runs_is_over(server: Server, clock: LoopClock) -> None:
    running = [asyncio.get_running_loop().create_future()]
    cancelling = asyncio.ensure_future(cancel_until(lambda: running[-1], server.request, timeout=5.0))
    await pass_by(clock, 0.05)
    server.asked[0].set_result(None)
    await pass_by(clock, 0.2)
    server.asked[1].set_result(None)
    running[-1].cancel()  # its holder has gone; somebody else waits for the same
    running.append(asyncio.get_running_loop().create_future())
    await pass_by(clock, 0.3)
    assert len(server.asked) == 3
    running[-1].set_result(None)
    await turns()
    assert not cancelling.done(), "a signal is on its way"
    server.asked[2].set_result(None)
    assert await cancelling is True


async def test_cancels_that_nobody_takes_are_given_up(server: Server, clock: LoopClock) -> None:
    running = asyncio.get_running_loop().create_future()
    server.refuses = True
    cancelling = asyncio.ensure_future(cancel_until(lambda: running, server.request, timeout=5.0))
    await pass_by(clock, 2.1)
    assert await cancelling is True, "none could be sent, so none can come"
    server.refuses = False
    cancelling = asyncio.ensure_future(cancel_until(lambda: running, server.request, timeout=1.0))
    await pass_by(clock, 1.1)
    assert await cancelling is False
