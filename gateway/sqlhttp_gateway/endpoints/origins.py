"""Which web pages may use the gateway: a page's browser says where it comes from, nobody else does.

Without a rule a page of any site can talk to a gateway on the reader's own machine, with whatever password it guesses.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sqlhttp_gateway.auth.grant import origin_allowed
from sqlhttp_gateway.endpoints.single_write import send_reply
from sqlhttp_gateway.errors import PlaceRefused
from sqlhttp_gateway.neon.headers import ORIGIN
from sqlhttp_gateway.reply import error_reply, new_request_id

ANY = "*"
LOCAL = "local"
"""Stands for pages that this machine serves itself."""
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Origins:
    """The pages of `request.allow_origins`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.reconfigure(allowed)

    def reconfigure(self, allowed: Iterable[str]) -> None:
        """Other pages."""
        self._allowed = tuple(allowed)
        self._is_any = ANY in self._allowed

    def admits(self, scope: Scope) -> bool:
        """Whether a request or an upgrade may go on: it comes from no page, or from one that is allowed."""
        if self._is_any:
            return True
        origin = next((value for name, value in scope["headers"] if name == ORIGIN), None)
        return origin is None or self._allows(origin.decode("latin-1"))

    def _allows(self, origin: str) -> bool:
        if LOCAL in self._allowed and _is_local(origin):
            return True
        return origin_allowed(self._allowed, origin)


def _is_local(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return host in _LOCAL_HOSTS or host.endswith(".localhost")


async def refuse_page(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or an upgrade that may not go on."""
    if scope["type"] == "websocket":
        await WebSocketClose(code=1008, reason="origin not allowed")(scope, receive, send)
    else:
        error = PlaceRefused(
            "pages of this origin may not use the gateway", hint="Name the origin in request.allow_origins."
        )
        await send_reply(send, error_reply(error, new_request_id()))
