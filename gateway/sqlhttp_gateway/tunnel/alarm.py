"""The timer behind a tunnel's clocks: one for each tunnel, and seldom set, though the limits move with every message.

What the limits are and when they run, `clocks` says.
"""

import asyncio
from collections.abc import Callable

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.tunnel.clocks import Clocks


class Alarm:
    """Tells when one of the limits is passed."""

    __slots__ = ("_clocks", "_loop", "_on_passed", "_timer", "_timer_at")

    def __init__(self, clocks: Clocks, on_passed: Callable[[GatewayError], None]) -> None:
        self._clocks = clocks
        self._on_passed = on_passed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's handle of less than half a millisecond does not know it

    def set(self) -> None:
        """The limits may be others than when this was called last."""
        # The timer is only ever moved forward: when it comes too early it is set anew.
        when = self._clocks.deadline()
        if when is None or (self._timer is not None and self._timer_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._look), when

    def stop(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        error = self._clocks.passed(self._loop.time())
        if error is not None:
            self._on_passed(error)
        else:
            self.set()
