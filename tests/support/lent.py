"""A registry of pools that is played, for what stands in front of it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sqlhttp_gateway.errors import GatewayError


class FakeLease:
    """Something to be released."""

    on_release: Callable[[], None] | None = None

    def release(self) -> None:
        if self.on_release is not None:
            self.on_release()


class FakeRegistry:
    """Lends what is `idle`, and lets the others wait for `come` or `refuse`."""

    def __init__(self) -> None:
        self.pool: Any = SimpleNamespace(
            loop=asyncio.get_running_loop(),
            gate=SimpleNamespace(stood_still=0.0, has_room=False),
            key=SimpleNamespace(database="main"),
            upstream=SimpleNamespace(pool=SimpleNamespace(wait_timeout=60.0, pause_limit=60.0)),
        )
        self.idle: list[FakeLease] = []
        self.asked: list[str] = []
        """Who has waited."""
        self.timeouts: list[float] = []
        """How long each of them would have."""
        self.was_asked_to_resume = asyncio.Event()
        self._waiting: list[asyncio.Future[FakeLease]] = []

    def try_lease(self, pool: Any) -> FakeLease | None:
        return self.idle.pop() if self.idle else None

    async def lease(self, pool: Any, password: Any, *, timeout: float, tenant: str) -> FakeLease:
        self.asked.append(tenant)
        self.timeouts.append(timeout)
        if self.idle:
            return self.idle.pop()
        waiting: asyncio.Future[FakeLease] = self.pool.loop.create_future()
        self._waiting.append(waiting)
        return await waiting

    async def resumed(self, database: str, *, timeout: float) -> None:
        self.was_asked_to_resume.set()

    def come(self, lease: FakeLease) -> None:
        """A connection for the first of those who wait."""
        self._waiting.pop(0).set_result(lease)

    def refuse(self, error: GatewayError) -> None:
        """None for the first of those who wait."""
        self._waiting.pop(0).set_exception(error)
