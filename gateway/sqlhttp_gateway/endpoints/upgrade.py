"""uvicorn's WebSocket, with the two things that a long-lived stream needs and ASGI does not know.

A program that does not read has to be dropped with all that waits for it, which closing cannot do; and a program that
is not read from must not be taken for dead because its pongs are not read either.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

ABORT = "sqlhttp.abort"
"""Key in the scope's extensions: call it to drop the connection and what waits to be sent."""


class TunnelProtocol(WebSocketsSansIOProtocol):
    """To be given to uvicorn as its `ws`."""

    def handle_connect(self, event: Request) -> None:
        """The upgrade; the application is told of it in a later turn of the loop."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)  # there is none when the upgrade was refused
        if scope is not None:
            scope["extensions"][ABORT] = self.transport.abort

    def keepalive_timeout(self) -> None:
        """No pong came in time: which says something only if it would have been read."""
        if self.read_paused:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
