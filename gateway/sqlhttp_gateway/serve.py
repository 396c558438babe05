"""One process or several that serve the gateway's HTTP port, from the bound socket to the last closed connection.

uvicorn speaks HTTP; here is only how it is set up, what it does with signals, and the parent of several workers. What
is served is `app.create_app`'s to say.
"""

import asyncio
import contextlib
import errno
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from sqlhttp_gateway.app import create_app
from sqlhttp_gateway.endpoints.lane import http_protocol
from sqlhttp_gateway.endpoints.upgrade import TunnelProtocol
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.observe.logs import configure_logging
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.reload import in_effect
from sqlhttp_gateway.settings import ListenSettings, Settings

STARTUP_FAILURE = 3  # uvicorn's exit status when the application could not start; a new try would fail as well
RESPAWN_PAUSE = 1.0  # seconds before a worker that died is replaced, so that one that always dies does no harm
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
RELOAD_SIGNAL = signal.SIGHUP
_SIGNALS = (*STOP_SIGNALS, RELOAD_SIGNAL)

log = logging.getLogger(__name__)


def serve(settings: Settings, *, read: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit status. At SIGHUP the settings are `read` again.

    Raises:
        ConfigurationError: the address cannot be had, or a connection string in the settings cannot be used.
    """
    configure_logging(settings.log)
    sockets = bind(settings.listen)
    log.info("listening on %s, %d worker(s), pid %d", address(sockets[0]), len(sockets), os.getpid())
    if len(sockets) == 1:
        return GatewayServer(settings, read=read).serve_on(sockets[0])
    create_app(settings)  # so that a wrong connection string is one message here, not one from each worker
    return Workers(settings, sockets, read=read).supervise()


def bind(listen: ListenSettings) -> list[socket.socket]:
    """A bound socket for each worker, all on one address.

    On Linux the kernel spreads connections over sockets that share a port (SO_REUSEPORT), and evenly, which matters
    as every worker has its share of the pool's bound; elsewhere the workers accept from one socket.

    Raises:
        ConfigurationError: the address is taken, not this machine's, or not allowed.
    """
    first = _bound(listen.host, listen.port)
    if listen.workers == 1:
        return [first]
    if not sys.platform.startswith("linux"):
        return [first] * listen.workers
    port = first.getsockname()[1]
    first.close()  # it had the port to itself, so no other gateway is there with which to share it by mistake
    return [_bound(listen.host, port, socket.SO_REUSEPORT) for _ in range(listen.workers)]


def _bound(host: str, port: int, *options: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError(f"listen.host: {host!r} is no address of this machine ({error.strerror})") from None
    bound = socket.socket(family, kind, protocol)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(where)
    except OSError as error:
        bound.close()
        raise ConfigurationError(_why_not(host, port, error)) from None
    return bound


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"listen.port: {host} port {port} is in use by another program. Choose another port: "
            "make run PORT=…, --port, SQLHTTP_LISTEN__PORT, or port under [listen] in the settings file."
        )
    if error.errno == errno.EACCES:
        return f"listen.port: this user may not listen on port {port}; ports from 1024 up are open to all."
    return f"listen.host: cannot listen on {host} port {port}: {error.strerror}"


def address(bound: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class GatewayServer(uvicorn.Server):
    """uvicorn, set up for the gateway. `ready` is called once, when requests are answered; `place` is that of a worker
    among several; with `read` there is something to do at SIGHUP."""

    def __init__(
        self,
        settings: Settings,
        *,
        ready: Callable[[], None] = lambda: None,
        place: Place | None = None,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        listen = settings.listen
        self._gateway = create_app(settings, place=place)
        super().__init__(
            uvicorn.Config(
                self._gateway,
                http=http_protocol(),
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
                proxy_headers=False,  # whoever sends X-Forwarded-For is not asked who they are, so it proves nothing
                workers=1,  # or uvicorn would read WEB_CONCURRENCY
                backlog=listen.backlog,
                timeout_keep_alive=math.ceil(listen.keep_alive),
                timeout_graceful_shutdown=math.ceil(settings.drain.grace),
            )
        )
        self._ready = ready
        self._read = read
        self._wants_reload = False
        self._notice = settings.drain.notice
        self._parent = os.getppid()

    def serve_on(self, bound: socket.socket) -> int:
        """Serve until a signal or `should_exit`; the exit status. Signals that come after the end are ignored."""
        self.take_signals()
        try:
            self.run([bound])
        except SystemExit as stopped:  # uvicorn's way to say that the application did not start
            return int(stopped.code or 0)
        return 0

    def take_signals(self) -> None:
        """Be the one that signals go to."""
        for number in STOP_SIGNALS:
            # uvicorn puts its own handlers in place and, once done, raises what it got for those that were there.
            signal.signal(number, self.handle_exit)
        if self._read is not None:
            signal.signal(RELOAD_SIGNAL, self._want_reload)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready first; then, when whoever spreads the load had time to see it, no new connections."""
        self._gateway.begin_drain()
        if not self.force_exit:
            await asyncio.sleep(self._notice)
            # uvicorn closes every WebSocket at once; those in a transaction may finish it first.
            for server in self.servers:
                server.close()
            await self._gateway.drain_tunnels()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; a worker whose parent was killed ends too, or it would hold the port for ever."""
        if self._wants_reload and self._read is not None:
            self._wants_reload = False
            await self._gateway.reload(self._read)
            configure_logging(self._gateway.settings.log)
        return os.getppid() != self._parent or await super().on_tick(counter)

    def _want_reload(self, number: int, frame: FrameType | None) -> None:
        self._wants_reload = True


class Workers:
    """The parent of several worker processes: replaces one that dies, and hands on the signals that it gets."""

    def __init__(self, settings: Settings, sockets: list[socket.socket], *, read: Callable[[], Settings]) -> None:
        self._settings = settings
        self._read = read
        self._sockets = sockets
        self._slots = Slots(len(sockets))
        self._running: dict[int, int] = {}  # each worker's number, by its pid
        self._stopping = False
        self._status = 0

    def supervise(self) -> int:
        """Run one worker on each socket until a signal comes and all have drained; the exit status."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        signal.signal(RELOAD_SIGNAL, self._reload)
        for worker in range(len(self._sockets)):
            self._spawn(worker)
        while self._running:
            pid, status = os.wait()
            self._ended(pid, os.waitstatus_to_exitcode(status))
        return self._status

    def _spawn(self, number: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a stop between fork and entry would miss this worker
        try:
            if self._stopping:
                return
            pid = os.fork()
            if pid == 0:
                self._work(number)
            self._running[pid] = number
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _work(self, number: int) -> None:
        status = 1
        try:
            server = GatewayServer(self._settings, place=Place(self._slots, number), read=self._read)
            server.take_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = server.serve_on(self._sockets[number])
        except BaseException:
            log.exception("worker %d failed", os.getpid())
        finally:
            logging.shutdown()
            os._exit(status)  # what the parent has open is the parent's to close

    def _ended(self, pid: int, status: int) -> None:
        number = self._running.pop(pid, None)
        if number is None or self._stopping:
            return
        if status == STARTUP_FAILURE:
            log.error("worker %d could not start; stopping", pid)
            self._status = STARTUP_FAILURE
            self._stop(signal.SIGTERM, None)
            return
        log.error("worker %d ended with status %d; starting another", pid, status)
        time.sleep(RESPAWN_PAUSE)
        self._spawn(number)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        """Each worker reads for itself, and the first tells; here it is only for workers that are yet to come."""
        with contextlib.suppress(ConfigurationError):
            self._settings = in_effect(self._settings, self._read())
        self._send(RELOAD_SIGNAL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for bound in self._sockets:
            bound.close()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
