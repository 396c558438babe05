"""GET /livez: the process runs. GET /readyz: it can serve, which means that Postgres answers and no drain has begun."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.neon.headers import REQUEST_ID
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.reply import new_request_id

_BELIEVED_FOR = 1.0
"""Seconds that an answer of Postgres is believed, so that a probe cannot load it."""


class Readiness:
    """Whether new work is welcome."""

    def __init__(self, registry: PoolRegistry, targets: Targets) -> None:
        self._registry = registry
        self._targets = targets
        self._believed_until = 0.0
        self._asking: asyncio.Task[None] | None = None
        self.is_draining = False

    async def check(self) -> None:
        """Return if the default target answers.

        Raises:
            GatewayError: it does not, or no connection came free in time.
        """
        if asyncio.get_running_loop().time() < self._believed_until:
            return
        # Probes of several balancers share one question.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
            self._asking.add_done_callback(_look_at)
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        upstream = self._targets.default
        admin = upstream.admin
        if self._registry.is_paused(admin.database):
            return  # requests wait and none fails: a balancer that sent them elsewhere would do the opposite
        pool = self._registry.pool(PoolKey(upstream.target.name, admin.database, admin.role), upstream)
        lease = self._registry.try_lease(pool) or await self._registry.lease(pool, lambda: admin.password or b"")
        try:
            await ask(lease, "SELECT 1")
        finally:
            lease.release()
        self._believed_until = asyncio.get_running_loop().time() + _BELIEVED_FOR


def _look_at(asking: asyncio.Task[None]) -> None:
    """All who waited for it may have left; asyncio would complain that nobody looked at its exception."""
    if not asking.cancelled():
        asking.exception()


async def livez(request: Request) -> Response:
    """200 as long as the event loop turns."""
    return _answer(200, status="live")


async def readyz(request: Request) -> Response:
    """200 when a statement could be run now, else 503 with the reason."""
    readiness: Readiness = request.state.readiness
    if readiness.is_draining:
        return _answer(503, status="draining")
    try:
        await readiness.check()
    except GatewayError as error:
        return _answer(503, status="unready", reason=error.message)
    return _answer(200, status="ready")


def _answer(status_code: int, **body: str) -> Response:
    headers = {REQUEST_ID.decode(): new_request_id(), "cache-control": "no-store"}
    return JSONResponse(body, status_code=status_code, headers=headers)
