"""The running loop's clock, moved by hand."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class LoopClock:
    """What `loop.time()` says. Timers that have become due run at the loop's next turn."""

    def __init__(self, now: float) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self.now += seconds


@contextmanager
def fake_time() -> Iterator[LoopClock]:
    """The loop's time stands still for the length of the block, but for `advance`.

    It begins with the true time and never goes back, so that timers from before, and those that are left, still run.
    """
    loop = asyncio.get_running_loop()
    true = loop.time
    clock = LoopClock(true())
    loop.time = lambda: clock.now  # type: ignore[method-assign]  # the very point
    try:
        yield clock
    finally:
        ahead = max(0.0, clock.now - true())
        loop.time = lambda: true() + ahead  # type: ignore[method-assign]


async def turns(count: int = 5) -> None:
    """Let the loop turn, so that whatever is ready runs."""
    for _ in range(count):
        await asyncio.sleep(0)
