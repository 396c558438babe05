"""The TCP door: Postgres's own wire on a port of its own, for whatever speaks no WebSocket."""

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from sqlhttp_gateway.auth.peer import address_of
from sqlhttp_gateway.certificate import ALPN, TLS_GOODBYE, TLS_TIMEOUT, Certificate
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.proxied import GreetingServer, first_byte, nobody
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.settings import ListenSettings
from sqlhttp_gateway.sockets import bind_port
from sqlhttp_gateway.tunnel.login import Address
from sqlhttp_gateway.tunnel.stream import TOO_BIG, Sink, StreamClosed, StreamMisused
from sqlhttp_gateway.tunnel.tunnels import Tunnels
from sqlhttp_gateway.wire.handshake import TLS_HANDSHAKE

_READ_AHEAD = 64 * 1024
"""Bytes that may wait to be received before the program is not read from any more."""

_READ_ON = 5.0
"""Seconds for which a program that is in the middle of a message is read from after it was told that it may not."""

_LOG = logging.getLogger(__name__)


class Listener:
    """Accepts programs on `listen.postgres`, and on a Unix socket beside it, and serves them."""

    def __init__(
        self,
        tunnels: Tunnels,
        settings: ListenSettings,
        *,
        certificate: Certificate | None = None,
        bound: Sequence[socket.socket] = (),
        trusts: Callable[[str], bool] = nobody,
        connections: Connections | None = None,
    ) -> None:
        """`bound` are the sockets, if somebody has bound them. `trusts` says from which addresses the PROXY protocol is
        spoken, where it is. `connections` says whether there is a place; without it there always is.
        """
        self._tunnels = tunnels
        self._settings = settings
        self._tls = certificate.context if certificate is not None else None
        self._bound = bound
        self._trusts = trusts
        self._connections = connections if connections is not None else Connections(sys.maxsize)
        self._servers: list[GreetingServer] = []
        self._serving: set[asyncio.Task[None]] = set()

    def reconfigure(self, settings: ListenSettings) -> None:
        """Serve by these settings whoever comes from now on; the address stays as it is."""
        self._settings = settings

    @property
    def port(self) -> int:
        """The port, once it is open."""
        port: int = self._servers[0].sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Begin to accept, if that is wanted.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        settings = self._settings
        if settings.postgres is None:
            return
        # Bound here it is by each of several processes of another server, which share the port.
        options = (socket.SO_REUSEPORT,) if settings.workers > 1 else ()
        for bound in self._bound or [bind_port(settings.host, settings.postgres, "listen.postgres", *options)]:
            is_proxied = bound.family != socket.AF_UNIX and "postgres" in settings.proxy_protocol
            self._servers.append(
                GreetingServer(
                    bound,
                    self._take,
                    backlog=settings.backlog,
                    trusts=self._trusts if is_proxied else nobody,
                    may_greet=self._connections.may_greet,
                )
            )
        _LOG.info("listening for Postgres's own wire on %s port %d", settings.host, self.port)

    def close(self) -> None:
        """Accept no more but those who are connected already; programs that are served stay."""
        for server in self._servers:
            server.close()

    async def stop(self) -> None:
        """End whoever is still connected, and whoever is about to be."""
        self.close()
        self.close()
        for server in self._servers:
            await server.wait_closed()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, told: str = "") -> "SocketStream":
        return SocketStream(self._begin, tls=self._tls, takes_cleartext=self._settings.cleartext_password, told=told)

    async def _take(self, connection: socket.socket, told: str) -> None:
        loop = asyncio.get_running_loop()
        if (
            self._tls is not None
            and connection.family != socket.AF_UNIX
            and await first_byte(connection) == TLS_HANDSHAKE
        ):
            await loop.connect_accepted_socket(
                lambda: self._accept(told),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=TLS_TIMEOUT,
                ssl_shutdown_timeout=TLS_GOODBYE,
            )
        else:
            await loop.connect_accepted_socket(lambda: self._accept(told), connection)

    def _begin(self, stream: "SocketStream") -> None:
        loop, connections = asyncio.get_running_loop(), self._connections
        refused = connections.enter_tunnel(stream, loop.time())
        task = loop.create_task(
            self._tunnels.serve(
                stream, door="tcp", address=Address(DEFAULT), proves=self._settings.scram, refused=refused
            )
        )
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda task: connections.leave_tunnel(stream, refused))


class SocketStream(asyncio.Protocol):
    """A TCP connection as a stream; it is also asyncio's protocol, with nothing between the two."""

    def __init__(
        self,
        begin: Callable[["SocketStream"], None] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        takes_cleartext: bool = False,
        told: str = "",
    ) -> None:
        """`begin` is called once it is connected. `told` is the address that a trusted proxy told of the program."""
        self.peer = ""
        self.origin: str | None = None
        self.is_secure = False
        self._is_tls = False
        self._begin = begin
        self._tls = tls
        self._takes_cleartext = takes_cleartext
        self._told = told
        self._transport: asyncio.Transport | None = None
        self._arrived: deque[bytes] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self._is_over = False
        self._is_dropping = False
        self._sink: Sink | None = None
        self._has_room = True

    @property
    def offers_tls(self) -> bool:
        """There is a certificate, and no TLS yet."""
        return self._tls is not None and not self._is_tls

    # ── Stream ──

    async def receive(self) -> bytes:
        """What came since the last time."""
        while not self._arrived:
            if self._is_over:
                raise StreamClosed
            self._wake.clear()
            await self._wake.wait()
        data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived.clear()
        if self._waiting > _READ_AHEAD and self._transport is not None:
            self._transport.resume_reading()
        self._waiting = 0
        return data

    async def send(self, data: bytes) -> None:
        """Write, and wait until there is room for more."""
        if self._transport is None or self._is_over or self._transport.is_closing():
            raise StreamClosed
        self._transport.write(data)
        await self._writable.wait()

    def flow(self, sink: Sink) -> "SocketStream":
        """The stream itself is the flow."""
        self._sink = sink
        asyncio.get_running_loop().call_soon(self._hand_over)
        return self

    async def start_tls(self) -> None:
        """The server's side of the TLS handshake."""
        if self._arrived:
            raise StreamMisused("received unencrypted data after SSL request")
        assert self._transport is not None
        assert self._tls is not None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=TLS_TIMEOUT,
                ssl_shutdown_timeout=TLS_GOODBYE,
            )
        except OSError as error:  # ssl.SSLError and a TimeoutError among them
            self._is_over = True
            raise StreamClosed from error
        if transport is None:  # it went away meanwhile
            raise StreamClosed
        self._transport = transport
        self.is_secure = True

    async def close(self, code: int, reason: str) -> None:
        """Send what waits, and close."""
        if self._transport is not None:
            if code == TOO_BIG and not self._is_over:
                await self._read_on(self._transport)
            self._transport.close()
            await self._lost.wait()

    def abort(self) -> None:
        """Close and drop what waits."""
        if self._transport is not None:
            self._transport.abort()

    hang_up = abort

    # ── Flow ──

    def write(self, data: bytes) -> bool:
        """Send bytes."""
        if self._transport is not None and not self._is_over:
            self._transport.write(data)
        return self._has_room

    def pause_reading(self) -> None:
        """Let the program wait."""
        if self._transport is not None and not self._is_over:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The opposite."""
        if self._transport is not None and not self._is_over:
            self._transport.resume_reading()

    async def stop(self) -> None:
        """The sink is told of nothing more."""
        self._sink = None

    def _hand_over(self) -> None:
        """What came before the sink did."""
        sink = self._sink
        if sink is None:
            return
        if self._arrived:
            data = b"".join(self._arrived)
            self._arrived.clear()
            if self._waiting > _READ_AHEAD:
                self.resume_reading()
            self._waiting = 0
            sink.take(data)
        if self._is_over:
            self._leave()

    def _leave(self) -> None:
        """The program has gone; told once."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.leave(None)

    async def _read_on(self, transport: asyncio.Transport) -> None:
        """Take what the program is still sending, and drop it: a socket that is closed with bytes unread is reset, and
        with that goes what the program was told."""
        self._is_dropping = True
        self._arrived.clear()
        if transport.can_write_eof():
            transport.write_eof()
        if not transport.is_reading():
            transport.resume_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READ_ON):
                await self._lost.wait()

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there; after `start_tls` it is the same one."""
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        next_hop = address[0] if isinstance(address, tuple) else ""
        self.peer = self._told or next_hop
        connected: socket.socket | None = transport.get_extra_info("socket")
        is_unix = connected is not None and connected.family == socket.AF_UNIX
        # Behind a proxy both ways count: from the program to it, and from it to here.
        is_inside = is_loopback(next_hop) and is_loopback(self.peer)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._is_tls = tls is not None
        self.is_secure = self._is_tls or self._takes_cleartext or is_unix or is_inside
        keep_alive(connected)
        if tls is not None and tls.selected_alpn_protocol() != ALPN:
            # As Postgres: it may be a browser that was led here, whose bytes nobody is to take for Postgres's wire.
            self.abort()
            return
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin(self)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None and not self._arrived:
            self._sink.take(data)
            return
        if self._is_dropping:
            return
        self._arrived.append(data)
        self._waiting += len(data)
        if self._waiting > _READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()
        self._wake.set()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake.set()
        if not self._arrived:
            self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._wake.set()
        self._writable.set()
        self._lost.set()
        if not self._arrived:
            self._leave()

    def pause_writing(self) -> None:
        self._has_room = False
        self._writable.clear()

    def resume_writing(self) -> None:
        self._has_room = True
        self._writable.set()
        if self._sink is not None:
            self._sink.go_on()


def is_loopback(address: str) -> bool:
    """Whether nothing between this machine's programs can listen in."""
    try:
        return address_of(address).is_loopback
    except ValueError:
        return False


def keep_alive(connected: socket.socket | None) -> None:
    """Let the system find out when the program's machine is gone."""
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
