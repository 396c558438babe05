"""Opens the connections of one pool, and tells the breaker of their server what came of it.

Whether one may be opened, and what becomes of it then, is the pool's affair.
"""

from collections.abc import Callable
from time import perf_counter

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.connect import connect
from sqlhttp_gateway.pools.targets import Upstream

CLOSE_TIMEOUT = 10.0
"""Seconds that Postgres has to end a backend that was told to terminate, until it is asked again."""

Password = Callable[[], bytes]
"""Asked only when a connection has to be opened."""


class Opener:
    """Connects to one database as one role, by `upstream` as it is then."""

    def __init__(
        self, key: PoolKey, upstream: Upstream, breaker: Breaker | None, *, on_lost: Callable[[Backend], None]
    ) -> None:
        """`on_lost` is told when the socket of a connection is gone, whoever closed it."""
        self.upstream = upstream
        self.under_way = 0
        """Connections that are being opened."""
        self._key = key
        self._breaker = breaker
        self._on_lost = on_lost

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

    async def _probe(self) -> None:
        """Open a connection as the gateway's own role and close it; for this moment it is one beside the bounds.

        Raises what `connect` raises.
        """
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
