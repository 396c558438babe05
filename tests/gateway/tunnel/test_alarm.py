"""One timer for limits that move: it comes when one is passed, and neither before nor after the end."""

from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.errors import GatewayError, IdleSessionTimeout, TransactionTimeout
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.alarm import Alarm
from sqlhttp_gateway.tunnel.clocks import Clocks
from tests.support.clock import LoopClock, fake_time, turns

LIMITS = TunnelSettings(client_idle_timeout=100.0, transaction_timeout=30.0, idle_in_transaction_timeout=0.0)


class Watched:
    """A program's clocks with their alarm."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.passed: list[GatewayError] = []
        self.clocks = Clocks(LIMITS, clock.now)
        self.alarm = Alarm(self.clocks, self.passed.append)

    def see(self, *, in_transaction: bool = False) -> None:
        """The program does this from now on."""
        self.clocks.see(self.clock.now, is_busy=False, in_transaction=in_transaction, is_pinned=False)
        self.alarm.set()

    async def pass_by(self, seconds: float) -> list[type[GatewayError]]:
        """What was told when so much time has passed."""
        self.clock.advance(seconds)
        await turns()
        return [type(error) for error in self.passed]


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    with fake_time() as clock:
        watched = Watched(clock)
        yield watched
        watched.alarm.stop()


async def test_limit_is_told_once_when_it_is_passed(watched: Watched) -> None:
    watched.see()
    assert await watched.pass_by(99.0) == []
    assert await watched.pass_by(2.0) == [IdleSessionTimeout]
    assert await watched.pass_by(200.0) == [IdleSessionTimeout]


async def test_limit_that_was_put_off_is_told_later(watched: Watched) -> None:
    watched.see()
    assert await watched.pass_by(99.0) == []
    watched.clocks.touch(watched.clock.now)
    assert await watched.pass_by(2.0) == []
    assert await watched.pass_by(96.0) == []
    assert await watched.pass_by(2.0) == [IdleSessionTimeout]


async def test_limit_that_comes_sooner_than_the_last_is_told_in_time(watched: Watched) -> None:
    watched.see()
    watched.see(in_transaction=True)
    assert await watched.pass_by(31.0) == [TransactionTimeout]


async def test_nothing_is_told_after_the_end(watched: Watched) -> None:
    watched.see()
    watched.alarm.stop()
    assert await watched.pass_by(200.0) == []
