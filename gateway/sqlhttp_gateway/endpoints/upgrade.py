"""uvicorn's WebSocket, with the three things that a long-lived stream needs and ASGI does not know.

A program that does not read has to be dropped with all that waits for it, which closing cannot do; a program that is
not read from must not be taken for dead because its pongs are not read either; and once it is logged in, its bytes go
from the socket to the tunnel and back without a queue, a task or a pause of the socket for each message.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.frames import Frames, encode
from sqlhttp_gateway.tunnel.stream import Flow, Sink, StreamMisused

ABORT = "sqlhttp.abort"
"""Key in the scope's extensions: call it to drop the connection and what waits to be sent."""
FLOW = "sqlhttp.flow"
"""Key in the scope's extensions: `StartFlow`."""

StartFlow = Callable[[Sink], Flow]
"""To be called once the WebSocket is accepted, in place of ASGI's receive and send: a Stream's `flow`."""


class Pushed:
    """Stands where uvicorn has the queue of its ASGI messages, and pushes them into a sink instead."""

    __slots__ = ("_early", "_sink")

    def __init__(self, sink: Sink, early: list[Any]) -> None:
        """`early` came before: it is kept until `start`."""
        self._sink: Sink | None = sink
        self._early: list[Any] | None = early

    def start(self) -> None:
        """Push what has waited, and from now on everything at once."""
        early, self._early = self._early or [], None
        for message in early:
            self.put_nowait(message)

    def put_nowait(self, message: Any) -> None:
        """One of ASGI's messages."""
        sink = self._sink
        if self._early is not None:
            self._early.append(message)
        elif sink is None:
            pass
        elif message["type"] != "websocket.receive":
            self.stop()
            sink.leave(None)
        elif message.get("bytes") is None:
            sink.leave(StreamMisused("the Postgres wire is binary: text messages are not possible"))
        elif message["bytes"]:
            sink.take(message["bytes"])

    def take(self, data: bytes) -> None:
        """The same as a message with these bytes."""
        if self._early is None and self._sink is not None and data:
            self._sink.take(data)
        else:
            self.put_nowait({"type": "websocket.receive", "bytes": data})

    def go_on(self) -> None:
        """There is room again."""
        if self._sink is not None:
            self._sink.go_on()

    def stop(self) -> None:
        """Push nothing more."""
        self._sink = None


class TunnelProtocol(WebSocketsSansIOProtocol):
    """To be given to uvicorn as its `ws`. From `flow` on it is also a Flow."""

    _frames: Frames | None = None
    _pushed: Pushed | None = None
    _connections: Connections | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The HTTP connection has become this one."""
        super().connection_made(transport)
        self._connections = getattr(self.app, "connections", None)
        if self._connections is not None:
            self._connections.enter_websocket()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        super().connection_lost(exc)
        if self._connections is not None:
            self._connections.leave_websocket()

    def handle_connect(self, event: Request) -> None:
        """The upgrade; the application is told of it in a later turn of the loop."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)  # there is none when the upgrade was refused
        if scope is not None:
            scope["extensions"][ABORT] = self.transport.abort
            scope["extensions"][FLOW] = self.flow
            self._frames = Frames(max_size=self.config.ws_max_size)  # uvicorn hands over the request and nothing behind

    # ── Flow ──

    def flow(self, sink: Sink) -> Flow:
        """Push into `sink` from now on."""
        early = []
        while not self.queue.empty():
            early.append(self.queue.get_nowait())
        self._pushed = pushed = Pushed(sink, early)
        self.queue = pushed  # type: ignore[assignment]  # where nobody calls `receive`, uvicorn only puts
        self.loop.call_soon(pushed.start)
        self.resume_reading()
        return self

    def write(self, data: bytes) -> bool:
        """One message."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(encode(data))
        return self.writable.is_set()

    def pause_reading(self) -> None:
        """Let the program wait."""
        if not (self.read_paused or self.disconnected):
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The opposite."""
        if self.read_paused and not self.disconnected:
            self.read_paused = False
            self.transport.resume_reading()

    async def stop(self) -> None:
        """The sink is told of nothing more."""
        if self._pushed is not None:
            self._pushed.stop()

    # ── what uvicorn and the loop call ──

    def data_received(self, data: bytes) -> None:
        """What the program sent: websockets judges all but plain messages, and those too until there is a sink."""
        if self._frames is None:
            super().data_received(data)
            return
        if self._pushed is not None and (content := self._frames.whole(data)) is not None:
            if not self.close_sent:
                self._pushed.take(content)
            return
        for frame in self._frames.receive(data):
            if self._pushed is None or frame.content is None:
                super().data_received(frame.raw)
            elif not self.close_sent:
                self._pushed.take(frame.content)

    def send_receive_event_to_app(self) -> None:
        """A message is whole; where it is pushed, nothing has to wait until it is fetched."""
        was_paused = self.read_paused
        self.read_paused = was_paused or self._pushed is not None
        super().send_receive_event_to_app()
        if self._pushed is not None:
            self.read_paused = was_paused

    def resume_writing(self) -> None:
        """The transport has room again."""
        super().resume_writing()
        if self._pushed is not None:
            self._pushed.go_on()

    def keepalive_timeout(self) -> None:
        """No pong came in time: which says something only if it would have been read."""
        if self.read_paused:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
