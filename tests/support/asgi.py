"""An ASGI application called by hand: what it receives piece by piece, and what it sends."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message

DISCONNECT: Message = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = False) -> Message:
    """A piece of a request's body."""
    return {"type": "http.request", "body": body, "more_body": more}


class Call:
    """One request. `give` more when it suits the test; after the last message nothing comes any more."""

    def __init__(
        self,
        *messages: Message,
        method: str = "POST",
        path: str = "/sql",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers),
            "client": ("192.0.2.7", 50000),
            "server": ("127.0.0.1", 4444),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
        }
        self.sent: list[Message] = []
        self.asked = 0
        """How often the application wanted a message."""
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self._messages.put_nowait(message)

    def give(self, message: Message) -> None:
        self._messages.put_nowait(message)

    async def of(self, app: ASGIApp) -> "Call":
        """Let the application answer."""
        await app(self.scope, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        self.asked += 1
        return await self._messages.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers; none may come twice."""
        pairs = [(name.decode(), value.decode()) for name, value in self.sent[0]["headers"]]
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def json(self) -> Any:
        return json.loads(self.body)
