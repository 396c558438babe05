"""One process that serves the gateway: its servers over the bound sockets, its signals, and the end.

uvicorn speaks HTTP; here is only how it is set up. What is served is `app.create_app`'s to say, what is listened on
that of `sockets`, and several processes are the business of `workers`.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from sqlhttp_gateway.app import create_app
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.certificate import TLS_GOODBYE, TLS_TIMEOUT
from sqlhttp_gateway.endpoints.http_class import http_options, tell_of_less
from sqlhttp_gateway.endpoints.proxied import Claims, GreetingServer, claiming, nobody
from sqlhttp_gateway.endpoints.upgrade import TunnelProtocol
from sqlhttp_gateway.memory import Memory
from sqlhttp_gateway.observe.logs import reconfigure_logging
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.sockets import Sockets

_GC_YOUNG = 10_000
"""Objects after which the garbage collector looks at the new ones; with Python's own 700 it does so several times while
one large result is encoded, and finds nothing, since a request leaves no cycles."""
_MEMORY_TICKS = 100
"""Ten seconds of ticks."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
RELOAD_SIGNAL = signal.SIGHUP
END_SIGNAL = signal.SIGUSR2
"""From the parent to a worker: end at once. A Ctrl-C, and some process managers, reach workers and parent alike, and
the parent hands on what it gets: how often a worker was told to stop says nothing of how often somebody said so."""
_LINGER = 0.5
"""Seconds that a connection which has sent nothing has left for its request, once its port is closed."""
_FORCE_POLL = 0.05
"""Seconds between two looks whether the end is wanted at once."""

log = logging.getLogger(__name__)


class GatewayServer(uvicorn.Server):
    """uvicorn, set up for the gateway."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sockets,
        *,
        ready: Callable[[], None] = lambda: None,
        place: Place | None = None,
        stamps: Stamps | None = None,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        """`ready` is called once, when requests are answered; `place` and `stamps` are those of a worker among several;
        with `read` there is something to do at SIGHUP.

        Raises:
            ConfigurationError: a connection string or a certificate in the settings cannot be used.
        """
        doors = [each for each in (sockets.postgres, sockets.postgres_unix) if each is not None]
        self._gateway = create_app(settings, place=place, postgres=doors, stamps=stamps)
        self._sockets = sockets
        self._is_worker = place is not None
        super().__init__(_config(self._gateway, settings))
        self._admin = _config(self._gateway.admin, settings)
        self._proxied = sockets.http if "http" in settings.listen.proxy_protocol else None
        self._https = settings.listen.https
        self._ready = ready
        self._read = read
        self._wants_reload = False
        self._close_ports: list[Callable[[], None]] = []
        self._late: set[asyncio.Task[Any]] = set()
        """Connections that were there when their port closed, and are being taken."""
        self._parent = os.getppid()
        self._memory: Memory | None = None

    @property
    def scheme(self) -> str:
        """What the URL of the HTTP port begins with."""
        return "https" if self._https and self._gateway.certificate is not None else "http"

    def serve_until_told(self) -> int:
        """Serve until a signal or `should_exit`; the exit status. Signals that come after the end are ignored."""
        self.take_signals()
        try:
            self.run()
        except SystemExit as stopped:  # uvicorn's way to say that the application did not start
            return int(stopped.code or 0)
        return 0

    def take_signals(self) -> None:
        """Be the one whose process this is, and that signals go to, which only the main thread can be."""
        if threading.current_thread() is not threading.main_thread():
            return
        gc.set_threshold(_GC_YOUNG, *gc.get_threshold()[1:])
        if self._is_worker:
            signal.signal(END_SIGNAL, self._end_at_once)
        for number in STOP_SIGNALS:
            # uvicorn puts its own handlers in place and, once done, raises what it got for those that were there.
            signal.signal(number, self.handle_exit)
        if self._read is not None:
            signal.signal(RELOAD_SIGNAL, self._want_reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends it; in a worker only the parent's END_SIGNAL does."""
        ends = self.force_exit or (self.should_exit and not self._is_worker)
        super().handle_exit(sig, frame)
        self.force_exit = ends

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on all that there is, and say so."""
        await super().startup([])
        self._admin.load()
        tell_of_less(self.config.http)
        certificate = self._gateway.certificate
        tls = certificate.context if certificate is not None and self._https else None
        for bound, config, context in (
            (self._sockets.http, self.config, tls),
            (self._sockets.http_unix, self.config, None),
            (self._sockets.admin, self._admin, None),
            (self._sockets.admin_unix, self._admin, None),
        ):
            if bound is None:
                continue
            server: asyncio.Server | GreetingServer
            if bound is self._proxied or context is not None:
                server = self._listen_greeting(bound, config, context)
                self._close_ports.append(server.close)
            else:
                server = await self._listen(bound, config)
                self._close_ports.append(partial(self._close_port, bound, server, config))
            self.servers.append(server)  # type: ignore[arg-type]  # it closes and waits as the other does
        if gc.get_threshold()[0] == _GC_YOUNG:  # this process is ours
            gc.collect()
            gc.freeze()  # what is there now stays, so that no collection need look at it again
            self._memory = Memory()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready first; then, when whoever spreads the load had time to see it, no new connections."""
        settings = self._gateway.settings.drain
        self._gateway.begin_drain()
        # Whoever keeps a connection lets go of it with its next answer, before it would be closed under a request.
        self.server_state.default_headers = [(b"connection", b"close")]
        await self._unless_forced(asyncio.sleep(settings.notice))
        for close in self._close_ports:
            close()
        # uvicorn closes every WebSocket at once, and every connection whose request is still on its way; those in a
        # transaction may finish it first, and the others send it.
        left = self._gateway.begin_grace()
        await self._unless_forced(self._finish(left()))
        # With 0 uvicorn would not even look whether anything runs, and tell of an error in any case.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(left()))
        await super().shutdown([self._sockets.http])

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; a worker whose parent was killed ends too, or it would hold the port for ever."""
        if self._wants_reload and self._read is not None:
            self._wants_reload = False
            await self._gateway.reload(self._read)
            settings = self._gateway.settings
            reconfigure_logging(settings.log)
            self.config.ws_max_size = settings.tunnel.max_message_bytes  # read anew for each WebSocket
        if self._memory is not None and not counter % _MEMORY_TICKS:
            self._memory.look()
        return os.getppid() != self._parent or await super().on_tick(counter)

    # ── inside ──

    @property
    def _greeting(self) -> int:
        """Connections that are at their beginning."""
        return sum(each.greeting for each in self.servers if isinstance(each, GreetingServer))

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = self.force_exit = True

    def _want_reload(self, number: int, frame: FrameType | None) -> None:
        self._wants_reload = True

    def _protocol(self, config: uvicorn.Config) -> Callable[[], asyncio.Protocol]:
        def made() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]  # declared as any asyncio.Protocol
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        return made

    async def _listen(self, bound: socket.socket, config: uvicorn.Config) -> asyncio.Server:
        """As uvicorn does for its own."""
        loop, protocol = asyncio.get_running_loop(), self._protocol(config)
        if bound.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=bound, backlog=config.backlog)
        return await loop.create_server(protocol, sock=bound, backlog=config.backlog)

    def _close_port(self, bound: socket.socket, server: asyncio.Server, config: uvicorn.Config) -> None:
        """Close it, but serve whoever is connected already and was not accepted yet: the kernel would reset them."""
        waiting: list[socket.socket] = []
        with contextlib.suppress(OSError):  # a BlockingIOError once there are no more
            while True:
                waiting.append(bound.accept()[0])
        server.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol(config), connection))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _finish(self, left: float) -> None:
        await asyncio.gather(self._linger(left), self._gateway.drain_tunnels())

    async def _linger(self, left: float) -> None:
        """Give requests that are on their way the time to arrive; their answers close the connection."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(_LINGER, left)
        while (self.server_state.connections or self._greeting) and loop.time() < until:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(_FORCE_POLL)

    def _listen_greeting(
        self, bound: socket.socket, config: uvicorn.Config, tls: ssl.SSLContext | None
    ) -> GreetingServer:
        """The same where TLS comes first, or a trusted proxy that says for whom it asks."""
        is_proxied = bound is self._proxied
        claims: Claims = {}
        protocol = self._protocol(config)
        if is_proxied:
            config.http_protocol_class = claiming(config.http_protocol_class, claims)
            config.ws_protocol_class = claiming(config.ws_protocol_class, claims) if config.ws_protocol_class else None
        limits = {"ssl_handshake_timeout": TLS_TIMEOUT, "ssl_shutdown_timeout": TLS_GOODBYE} if tls is not None else {}

        async def serve(connection: socket.socket, told: str) -> None:
            if told:
                host, port = connection.getpeername()[:2]
                claims[host, port] = told, 0
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(protocol, connection, ssl=tls, **limits)

        return GreetingServer(
            bound,
            serve,
            backlog=config.backlog,
            trusts=self._gateway.peers.trusts if is_proxied else nobody,
            may_greet=self._gateway.connections.may_greet,
        )

    async def _unless_forced(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for it, but not after the second signal."""
        task = asyncio.get_running_loop().create_task(work)
        while not task.done() and not self.force_exit:
            await asyncio.wait({task}, timeout=_FORCE_POLL)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _config(application: ASGIApp, settings: Settings) -> uvicorn.Config:
    listen = settings.listen
    return uvicorn.Config(
        application,
        interface="asgi3",  # uvicorn cannot see it of a method
        **http_options(settings),
        loop="uvloop",
        ws=TunnelProtocol,
        ws_max_size=settings.tunnel.max_message_bytes,
        ws_per_message_deflate=False,  # what is sent are mostly small packets, and secrets beside chosen text
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # whom to believe in X-Forwarded-For is said in listen.trusted_proxies
        workers=1,  # or uvicorn would read WEB_CONCURRENCY
        backlog=listen.backlog,
    )
