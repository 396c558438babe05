"""What the callers of one order see: how long each call took, what went wrong, and whether to go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from tests.bench.measure import percentile

CALL_TIMEOUT = 30.0  # seconds

Call = Callable[[], Awaitable[None]]


class Tally:
    """What the callers of one order have seen so far, and whether they go on."""

    def __init__(self, seconds: float, most: int) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.fault = ""
        self._left = most
        self._began = time.perf_counter()
        self._end = self._began + seconds
        self._cpu = time.process_time()

    def may_begin(self) -> bool:
        """Whether one more call may be made; counts it."""
        if self._left <= 0 or time.perf_counter() >= self._end:
            return False
        self._left -= 1
        return True

    def note_error(self, text: str) -> None:
        self.errors += 1
        self.fault = self.fault or text

    def summary(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "seconds": seconds,
            "errors": self.errors,
            "fault": self.fault,
            "p50": percentile(ordered, 50) * 1e6 if ordered else None,
            "p99": percentile(ordered, 99) * 1e6 if ordered else None,
            "client_cpu": cpu / len(ordered) * 1e6 if ordered else None,
        }


async def repeat(call: Call, callers: int, tally: Tally, *, timed: bool = True) -> None:
    """`callers` tasks that call until the tally ends them; `timed` calls are noted here, others note themselves."""

    async def caller() -> None:
        while tally.may_begin():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    await call()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                tally.note_error(f"{type(error).__name__}: {error}")
            else:
                if timed:
                    tally.latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
