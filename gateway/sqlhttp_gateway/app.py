"""The application: which path is whose, what begins and ends with the lifespan, and settings that are read again."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sqlhttp_gateway.assembly import Assembly
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.certificate import Certificate, load
from sqlhttp_gateway.endpoints.access import ADMIN_SOCKET
from sqlhttp_gateway.endpoints.cache import PATH as INVALIDATE_PATH
from sqlhttp_gateway.endpoints.cache import invalidate
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.metrics import metrics
from sqlhttp_gateway.endpoints.openapi import PATH as DESCRIPTION_PATH
from sqlhttp_gateway.endpoints.openapi import openapi_of
from sqlhttp_gateway.endpoints.origins import refuse_page
from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.endpoints.probes import livez, readyz
from sqlhttp_gateway.endpoints.single_write import send_reply
from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.endpoints.status import status
from sqlhttp_gateway.endpoints.tunnel import PATHS as TUNNEL_PATHS
from sqlhttp_gateway.endpoints.tunnel import TunnelEndpoint
from sqlhttp_gateway.errors import ConfigurationError, MethodNotAllowed
from sqlhttp_gateway.events import Observer, Reloaded
from sqlhttp_gateway.neon.headers import REQUEST_ID
from sqlhttp_gateway.neon.response import NOT_SUPPORTED
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.reload import changes, in_effect
from sqlhttp_gateway.reply import error_reply, new_request_id
from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.standing import Standing

SQL_PATH = "/sql"


class Gateway:
    """The ASGI application: `/sql` straight to its endpoint, everything else through Starlette's router."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._origins = standing.origins
        self._assembly: Assembly | None = None
        """What there is only in the lifespan, and behind it for whoever looks back."""
        self._sql: SqlEndpoint | None = None
        self._tunnel: TunnelEndpoint | None = None
        self._owners = standing.owners
        """Of those that are there before the lifespan, and in it of all."""
        self._drain_until: float | None = None
        probes = [_Path("/livez", livez), _Path("/readyz", readyz)]
        inside = [_Path("/metrics", metrics), _Path("/status", status)]
        programs = [_Path(INVALIDATE_PATH, invalidate, methods=["POST", "OPTIONS"])]
        admin = standing.settings.admin
        has_own_address = admin.port is not None or admin.unix_socket is not None
        public = programs + (probes if has_own_address else probes + inside)
        self._router = _router_of(public, others=(SQL_PATH,), lifespan=self._lifespan)
        self._admin = _router_of(probes + inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._origins.admits(scope):
            await refuse_page(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == SQL_PATH and scope["method"] in {"POST", "QUERY", "OPTIONS"}:
            assert self._sql is not None, "the lifespan has not begun"
            await self._sql(scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"] in TUNNEL_PATHS:
            assert self._tunnel is not None, "the lifespan has not begun"
            await self._tunnel(scope, receive, send)
        else:
            await self._router(scope, receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of the admin address."""
        scope[ADMIN_SOCKET] = scope.get("client") is None
        await self._admin(scope, receive, send)

    @property
    def lane(self) -> SqlEndpoint | None:
        """What answers `POST /sql` below ASGI, for requests that this application would send there in any case."""
        return self._sql

    @property
    def settings(self) -> Settings:
        """Those that are in effect."""
        return self._standing.settings

    @property
    def connections(self) -> Connections:
        """Those of programs, at whichever door."""
        return self._standing.connections

    @property
    def peers(self) -> Peers:
        """Whose word about a program's address is taken, and who may come in."""
        return self._standing.peers

    @property
    def certificate(self) -> Certificate | None:
        """That of both ports; None: they speak no TLS."""
        return self._standing.certificate

    def begin_drain(self) -> None:
        """Say at /readyz that new work should go elsewhere; what comes all the same is still answered."""
        if self._assembly is not None:
            self._assembly.begin_drain()

    def begin_grace(self) -> Callable[[], float]:
        """From now on what runs has `drain.grace` seconds, all in all; how many of them are left is the answer's."""
        self._drain_until = asyncio.get_running_loop().time() + self.settings.drain.grace
        return self._grace_left

    async def drain_tunnels(self) -> None:
        """Let programs in a transaction finish it, for as long as there is grace, and end all tunnels."""
        if self._assembly is not None:
            await self._assembly.drain_tunnels()

    def _grace_left(self) -> float:
        if self._drain_until is None:
            self.begin_grace()
        assert self._drain_until is not None
        return max(0.0, self._drain_until - asyncio.get_running_loop().time())

    async def reload(self, read: Callable[[], Settings]) -> None:
        """Take up what `read` finds, if it can be used as a whole; requests that run go on.

        What came of it is told by one worker for all. `read` raises ConfigurationError when there is nothing to find.
        """
        standing = self._standing
        certificate, observe = standing.certificate, standing.observe_once
        try:
            wanted = await asyncio.to_thread(read)  # thousands of keys take a while
            settings = in_effect(standing.settings, wanted)
            targets = Targets(settings)
            loaded = await asyncio.to_thread(load, settings.listen) if certificate is not None else None
        # Where no file or thread is to be had just now, whoever serves goes on, too.
        except (ConfigurationError, OSError, RuntimeError) as error:
            observe(Reloaded(faults=tuple(str(error).splitlines())))
            return
        found = changes(standing.settings, wanted)
        standing.settings = settings
        standing.targets.become(targets)
        if certificate is not None and loaded is not None:
            certificate.take(loaded, settings.listen)
        self._owners.reconfigure(settings)
        observe(Reloaded(live=found.live, restart=found.restart))

    @asynccontextmanager
    async def _lifespan(self, app: Router) -> AsyncIterator[dict[str, Any]]:
        self._assembly = assembly = Assembly(self._standing, grace_left=self._grace_left)
        self._sql, self._tunnel = assembly.sql, assembly.tunnel
        self._owners = assembly.owners()
        async with self._owners.running():
            yield assembly.state


class _Path(Route):
    """A path that tells of a wrong method in the form of all other errors."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.methods is not None, "an endpoint that is a function has some"
        if scope["method"] in self.methods:
            await self.app(scope, receive, send)
            return
        allowed = ", ".join(sorted(self.methods))
        error = MethodNotAllowed(f"{self.path} takes {allowed} and nothing else")
        reply = error_reply(error, new_request_id())
        await send_reply(send, reply._replace(headers=(*reply.headers, (b"allow", allowed.encode()))))


def _router_of(routes: list[_Path], *, others: tuple[str, ...] = (), lifespan: Any = None) -> Router:
    """These routes and the description of them, and of `others` that are served at the same address."""
    paths = {DESCRIPTION_PATH, *others, *(route.path for route in routes)}
    # Without Starlette's application around it: what that adds are pages for exceptions, which are uvicorn's to answer.
    return Router(
        [*routes, _Path(DESCRIPTION_PATH, openapi_of(paths))],
        redirect_slashes=False,
        default=_unsupported,
        lifespan=lifespan,
    )


def create_app(
    settings: Settings,
    *,
    observe: Observer | None = None,
    place: Place | None = None,
    postgres: Sequence[socket.socket] = (),
    stamps: Stamps | None = None,
) -> Gateway:
    """The gateway as an ASGI application. `place` says which of several workers this is; None: the only one. They
    share the `stamps` of the cache. `postgres` are the bound sockets of the TCP door, which otherwise binds its port
    itself as it starts.

    Raises:
        ConfigurationError: a connection string or a certificate cannot be used, or an extra is missing.
    """
    return Gateway(Standing(settings, observe=observe, place=place, postgres=postgres, stamps=stamps))


def check_usable(settings: Settings) -> None:
    """Whether a gateway could begin with these, as far as files and connection strings go.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    Targets(settings)
    if settings.listen.tls_certificate is not None:
        load(settings.listen)


async def _unsupported(scope: Scope, receive: Receive, send: Send) -> None:
    """Neon answers what it does not know with 400 and this text, whatever the path or method."""
    if scope["type"] == "http":
        headers = {REQUEST_ID.decode(): new_request_id()}
        response = Response(NOT_SUPPORTED, status_code=400, headers=headers, media_type="application/json")
        await response(scope, receive, send)
    else:
        await WebSocketClose()(scope, receive, send)
