"""Asks Postgres how it does, over a connection of its own, which is there also when no other is to be had.

The connection belongs to the default target's configured role and is kept open between looks, so that it need not be
opened when Postgres is full. It stands beside `pool.max_total`, not below it. Of a target with several servers it is
the primary's; when that is another one, or the settings lead elsewhere, the next look opens a new one there.
"""

import time
from collections.abc import Callable

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.observe.sample import QUERY, Sample, sample_from_rows
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Upstream

APPLICATION_NAME = "sqlhttp watch"
_CANCEL_TIMEOUT = 1.0


class Activity:
    """Looks at pg_stat_activity of one target."""

    def __init__(self, serving: Callable[[], Upstream], *, long_query: float, keep: float, observe: Observer) -> None:
        """`serving`: the server to look at now. `long_query`: seconds after which a query is long. `keep`: seconds
        until the next look, at least.
        """
        self._serving = serving
        self._keep = keep
        self._long_query = f"{long_query:g}".encode()
        self._registry = PoolRegistry(max_total=1, cancel_timeout=_CANCEL_TIMEOUT, observe=observe)

    def start(self) -> None:
        """Begin to look after the connection; it is opened by the first look."""
        self._registry.start()

    def reconfigure(self, long_query: float) -> None:
        """Another length in seconds from which on a query is long."""
        self._long_query = f"{long_query:g}".encode()

    async def look(self) -> Sample:
        """How it is now; a sample with an error when Postgres cannot be asked."""
        at = time.time()
        upstream = self._alone(self._serving())
        admin = upstream.admin
        name = upstream.target.name
        # Connections to where nobody is to look any more are closed.
        self._registry.apply({name: upstream}, max_total=1, breaker=None)
        pool = self._registry.pool(PoolKey(name, admin.database, admin.role), upstream)
        try:
            lease = self._registry.try_lease(pool) or await self._registry.lease(pool, lambda: admin.password or b"")
            try:
                rows = await ask(lease, QUERY, (self._long_query,))
            finally:
                lease.release()
        except GatewayError as error:
            return Sample(at=at, error=error.message)
        return sample_from_rows(rows, at=at)

    async def close(self) -> None:
        """Close the connection."""
        await self._registry.drain(0.0)

    def _alone(self, upstream: Upstream) -> Upstream:
        """The same server, for one connection that says whose it is."""
        pool = upstream.pool.model_copy(
            update={
                "max_size": 1,
                "min_size": 0,
                "max_waiting": 1,
                "idle_timeout": max(upstream.pool.idle_timeout, 3 * self._keep),
            }
        )
        return Upstream(
            target=upstream.target,
            admin=upstream.admin,
            ssl=upstream.ssl,
            server_settings=upstream.server_settings | {"application_name": APPLICATION_NAME},
            pool=pool,
            is_pooler=upstream.is_pooler,
        )
