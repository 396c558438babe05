"""A registry that lends backends which say what the test lets them say."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Done, Reader
from sqlhttp_gateway.pools.lingering import Lingering
from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.session import BackendSession

REPORTED = {"client_encoding": "UTF8", "server_version": "18.0"}


class FakeBackend:
    """Keeps what is written; `say` is what Postgres answers."""

    def __init__(self) -> None:
        self.tunnels = BackendSession(REPORTED, statement_cache_size=100)
        self.written = b""
        self.is_paused = False
        self.is_backed_up = False
        self.room = asyncio.Event()
        self.drains = 0
        """How often room was waited for."""

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    async def drain(self) -> None:
        self.drains += 1
        await self.room.wait()


class FakeLease:
    """`ends` is how it was given back."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.backend = FakeBackend()
        self.reader: Reader | None = None
        self.ends: list[str] = []
        self.cancels = 0
        self.ahead: Ahead | None = None
        self.cleansing: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """What `cleanse` answers."""
        self.cancel_result: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._lost: Done | None = None

    def say(self, data: bytes) -> None:
        """Postgres sends this."""
        assert self.reader is not None
        self.reader.receive(data)

    def break_off(self) -> None:
        """Postgres is gone."""
        assert self._lost is not None
        self._lost(ConnectionBroken("the connection to Postgres was lost"))

    def lend(self, reader: Reader, lost: Done) -> None:
        self.reader, self._lost = reader, lost

    def take_back(self, *, in_transaction: bool = False, is_deep: bool = False, has_parsed: bool = True) -> None:
        self.ends.append(f"take_back{' in_transaction' * in_transaction}{' deep' * is_deep}")

    def release(self) -> None:
        self.ends.append("release")

    def drop(self, reason: str) -> None:
        self.ends.append(f"drop {reason}")

    def was_cleansed(self) -> None:
        self.ahead = None
        self.ends.append("was_cleansed")

    async def cleanse(self) -> bool:
        self.ends.append("cleanse")
        if await self.cleansing:
            self.ahead = None
            return True
        return False

    async def request_cancel(self) -> bool:
        self.cancels += 1
        return await asyncio.shield(self.cancel_result)


class FakeRegistry:
    """Lends what was put in, at once or when it comes."""

    def __init__(self, *, max_size: int = 10) -> None:
        self.pool: Any = _Pool(max_size)
        self.leases: list[FakeLease] = []
        """All that were lent."""
        self.waiting = 0
        self._free: deque[FakeLease] = deque()
        self._error: GatewayError | None = None
        self._came = asyncio.Event()

    def add(self, ahead: Ahead | None = None) -> FakeLease:
        """One more backend."""
        lease = FakeLease(self.pool)
        lease.ahead = ahead
        self._free.append(lease)
        self._came.set()
        return lease

    def refuse(self, error: GatewayError) -> None:
        """Whoever waits is refused."""
        self._error = error
        self._came.set()

    def try_lease(self, pool: Any) -> FakeLease | None:
        if not self._free:
            return None
        self.leases.append(self._free.popleft())
        return self.leases[-1]

    def take(self, pool: Any, password: Any, done: Callable[[Any], None]) -> "FakeTaking":
        return FakeTaking(asyncio.ensure_future(self.lease(pool, password)), done)

    def listening_pool(self, pool: Any) -> Any:
        return pool

    async def lease(self, pool: Any, password: Any, *, timeout: float | None = None, tenant: str = "") -> FakeLease:
        self.waiting += 1
        try:
            while True:
                if self._error is not None:
                    raise self._error
                lease = self.try_lease(pool)
                if lease is not None:
                    return lease
                self._came.clear()
                await self._came.wait()
        finally:
            self.waiting -= 1


class FakeTaking:
    """Waits as everybody does."""

    def __init__(self, waiting: "asyncio.Future[FakeLease]", done: Callable[[Any], None]) -> None:
        self._waiting = waiting
        waiting.add_done_callback(lambda it: None if it.cancelled() else done(it.exception() or it.result()))

    def leave(self) -> None:
        self._waiting.cancel()


class _Pool:
    def __init__(self, max_size: int) -> None:
        self.lingering = Lingering(asyncio.get_running_loop())
        self.lets_linger = False
        self.key = PoolKey("default", "app", "ada")
        self.upstream = SimpleNamespace(pool=SimpleNamespace(max_size=max_size), is_pooler=False, group=None)

    def may_linger(self, backend: Any) -> bool:
        return self.lets_linger
