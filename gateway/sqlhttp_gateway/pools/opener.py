"""Opens the connections of one pool, and tells the breaker of their server what came of it.

Whether one may be opened, and what becomes of it then, is the pool's affair.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.connect import connect
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.frontend import encode_query

CLOSE_TIMEOUT = 10.0
"""Seconds that Postgres has to end a backend that was told to terminate, until it is asked again."""

_TERMINATE = (
    b"SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
    b" WHERE pid OPERATOR(pg_catalog.=) %d AND client_port OPERATOR(pg_catalog.=) %d"
)
"""With its port, as the number alone could be what a pooler or proxy calls another process."""

Password = Callable[[], bytes]
"""Asked only when a connection has to be opened."""


class Opener:
    """Connects to one database as one role, by `upstream` as it is then."""

    def __init__(
        self,
        key: PoolKey,
        upstream: Upstream,
        budget: Budget,
        breaker: Breaker | None,
        *,
        on_lost: Callable[[Backend], None],
    ) -> None:
        """`budget` is asked for room for the breaker's tries; for all else whoever wants it opened has done that.
        `on_lost` is told when the socket of a connection is gone, whoever closed it.
        """
        self.upstream = upstream
        self.under_way = 0
        """Connections that are being opened."""
        self._key = key
        self._budget = budget
        self._breaker = breaker
        self._is_beside = False
        """A try of the breaker's is under way for which the budget had no room."""
        self._on_lost = on_lost
        self._is_what_is_tried()

    def reconfigure(self, upstream: Upstream) -> None:
        """Connect by this from now on; so does whoever tries whether the server is back."""
        self.upstream = upstream
        self._is_what_is_tried()

    async def open(self, secret: bytes) -> Backend:
        """A connection that was logged in with this password.

        Raises what `connect` raises.
        """
        began = perf_counter()  # the loop's clock may tick in milliseconds
        self.under_way += 1
        key, breaker = self._key, self._breaker
        try:
            backend = await connect(
                self.upstream, database=key.database, role=key.role, password=secret, on_lost=self._on_lost
            )
        except GatewayError as error:
            if breaker is not None:
                breaker.failed(error, self._probe)
            raise
        finally:
            self.under_way -= 1
        if breaker is not None:
            breaker.succeeded()
        backend.connect_seconds = perf_counter() - began
        return backend

    async def terminate(self, backend: Backend, secret: bytes) -> None:
        """Have the server end the process of `backend`, by another connection of the role, which is closed at once;
        where the bound is reached it is let in beside it. Where another process could be meant, nothing is done.

        Raises:
            GatewayError, TimeoutError: that could not be said.
        """
        if self.upstream.is_pooler:
            return
        is_counted = self._budget.try_reserve(self._key)
        try:
            await self._say_terminate(_TERMINATE % (backend.pid, backend.client_port), secret)
        finally:
            if is_counted:
                self._budget.give_back(self._key)

    async def _say_terminate(self, text: bytes, secret: bytes) -> None:
        key = self._key
        other = await connect(
            self.upstream, database=key.database, role=key.role, password=secret, on_lost=lambda backend: None
        )
        try:
            said = asyncio.Event()
            other.send(encode_query(text), (Exchange(), lambda error: said.set()))
            async with asyncio.timeout(self.upstream.pool.connect_timeout):
                await said.wait()
                await other.close(CLOSE_TIMEOUT)
        finally:
            other.abort()

    def _is_what_is_tried(self) -> None:
        # One that failed, long ago perhaps, may belong to a pool that nobody has any more, and lead elsewhere.
        if self._breaker is not None:
            self._breaker.probe_by(self._probe)

    async def _probe(self) -> bool:
        """Open a connection as the gateway's own role and close it; False if there was no room to try.

        Where the bound is reached one such is let in beside it, or a server could stay given up for as long as those
        that fill it up are used elsewhere.

        Raises what `connect` raises.
        """
        is_counted = self._budget.try_reserve(self._key)
        if not is_counted:
            if self._is_beside:
                return False
            self._is_beside = True
        try:
            await self._log_in()
        finally:
            if is_counted:
                self._budget.give_back(self._key)
            else:
                self._is_beside = False
        return True

    async def _log_in(self) -> None:
        admin = self.upstream.admin
        backend = await connect(
            self.upstream,
            database=admin.database,
            role=admin.role,
            password=admin.password or b"",
            on_lost=lambda backend: None,
        )
        try:
            await backend.close(CLOSE_TIMEOUT)
        finally:
            backend.abort()
