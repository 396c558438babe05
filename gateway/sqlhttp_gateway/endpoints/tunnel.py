"""WebSockets that carry the Postgres wire: the ASGI side of `tunnel`."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope, Send

from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.endpoints.upgrade import ABORT, FLOW, StartFlow
from sqlhttp_gateway.tunnel.login import Address
from sqlhttp_gateway.tunnel.pumps import Pumps
from sqlhttp_gateway.tunnel.stream import Flow, Sink, StreamClosed, StreamMisused
from sqlhttp_gateway.tunnel.tunnels import Tunnels

PATHS = frozenset({"/", "/sql", "/v1", "/v2"})
"""Where drivers look for it: Neon's proxy takes any path, its driver uses /v2, wsproxy /v1."""
MAX_REASON = 123
"""Bytes of the reason in a close frame (RFC 6455, 5.5)."""

_ADDRESS = re.compile(r"\[(?P<ip>[^\]]*)\](?::(?P<ip_port>\d{1,5}))?|(?P<host>[^:]*)(?::(?P<port>\d{1,5}))?")


class WebSocketStream:
    """A WebSocket's binary messages, whose boundaries mean nothing, as a stream of bytes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, peer: str = "") -> None:
        self.peer = peer
        self.origin = header(scope, b"origin")
        self.offers_tls = False
        self.is_secure = True  # what TLS there is, is the WebSocket's
        self._receive = receive
        self._send = send
        self._abort: Callable[[], None] = scope.get("extensions", {}).get(ABORT, _cannot)
        self._start_flow: StartFlow | None = scope.get("extensions", {}).get(FLOW)
        self._is_closed = False

    async def receive(self) -> bytes:
        """The next message's bytes."""
        message: Message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._is_closed = True
            raise StreamClosed
        data: bytes | None = message.get("bytes")
        if data is None:
            raise StreamMisused("the Postgres wire is binary: text messages are not possible")
        return data

    async def send(self, data: bytes) -> None:
        """One binary message."""
        await self._send_or_close({"type": "websocket.send", "bytes": data})

    def flow(self, sink: Sink) -> Flow:
        """The server's own, else one of two tasks, as ASGI has it."""
        if self._start_flow is not None:
            return self._start_flow(sink)
        return Pumps(sink, receive=self.receive, send=self.send)

    async def start_tls(self) -> None:
        """Never offered."""
        raise StreamMisused("TLS inside a WebSocket is not possible")

    async def close(self, code: int, reason: str) -> None:
        """The closing handshake, which the server completes by itself."""
        if not self._is_closed:
            self._is_closed = True
            fitting = reason.encode()[:MAX_REASON].decode(errors="ignore")
            await self._send_or_close({"type": "websocket.close", "code": code, "reason": fitting})

    def abort(self) -> None:
        """Drop the connection."""
        self._is_closed = True
        self._abort()

    async def _send_or_close(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except Exception as error:  # each server has a class of its own for a peer that has left
            self._is_closed = True
            raise StreamClosed from error


class TunnelEndpoint:
    """Accepts a WebSocket and serves it."""

    def __init__(self, tunnels: Tunnels, peers: Peers) -> None:
        self._tunnels = tunnels
        self._peers = peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One program, from the upgrade to the close."""
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        await self._tunnels.serve(
            WebSocketStream(scope, receive, send, peer=self._peers.of_scope(scope)),
            door="websocket",
            address=_wanted(query.get("address", ""), header(scope, b"host") or ""),
            pool_mode=query.get("pool_mode"),
        )


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name, in lower case."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _wanted(address: str, host: str) -> Address:
    """The address in the URL, else the name by which the gateway was reached: a driver takes it for the database's."""
    chosen = address_of(address)
    if chosen is not None:
        return chosen
    reached = address_of(host)  # its port is the gateway's own
    return Address(reached.host if reached is not None else "")


def address_of(text: str) -> Address | None:
    """`host`, `host:port`, `[::1]:port`; None for nothing, or for what is none of these."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not (match["ip"] or match["host"]):
        return None
    port = match["ip_port"] or match["port"]
    return Address(match["ip"] or match["host"], int(port) if port else None)


def _cannot() -> None:
    """Another server than ours; closing has to do."""
