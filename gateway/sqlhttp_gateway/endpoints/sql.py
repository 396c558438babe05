"""POST, QUERY and OPTIONS /sql: reads the body, counted; asks the service; notices a program that goes away.

A bare ASGI callable, since most of the gateway's requests come here and a Starlette Request costs as much as all of our
own work. The rules of what is answered are in `service` and `neon`.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from sqlhttp_gateway.endpoints.head_rules import HeadLimits
from sqlhttp_gateway.endpoints.heads import Heads
from sqlhttp_gateway.endpoints.idle import IdleLooks
from sqlhttp_gateway.endpoints.peers import Peers, joined
from sqlhttp_gateway.endpoints.single_write import send_reply
from sqlhttp_gateway.endpoints.together import Together
from sqlhttp_gateway.endpoints.watch import Verdict, Watch
from sqlhttp_gateway.errors import BadRequest, GatewayError, RequestTooLarge, RequestTooSlow
from sqlhttp_gateway.events import Answered, Observer
from sqlhttp_gateway.neon.caching import CACHE_CONTROL, CACHE_TAGS
from sqlhttp_gateway.neon.headers import (
    AUTHORIZATION,
    CONNECTION_STRING,
    CORS_PREFLIGHT,
    HOST,
    IDEMPOTENCY_KEY,
    ORIGIN,
    READ_ONLY,
)
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.reply import Reply, error_reply, new_request_id
from sqlhttp_gateway.service import SqlService
from sqlhttp_gateway.settings import ListenSettings, RequestSettings

_LISTS = (CACHE_CONTROL, CACHE_TAGS)
"""Headers that say the same in several lines as in one with commas (RFC 9110, 5.3)."""
_ONCE = (AUTHORIZATION, CONNECTION_STRING, ORIGIN, HOST, IDEMPOTENCY_KEY, READ_ONLY)


class SqlEndpoint:
    """The ASGI side of SqlService."""

    def __init__(
        self,
        service: SqlService,
        settings: RequestSettings,
        observe: Observer,
        *,
        quick: Quick | None = None,
        peers: Peers | None = None,
        together: Together | None = None,
    ) -> None:
        """`quick` is for requests that come without ASGI; their answers are sent `together`, where that can be had."""
        self._service = service
        self._quick = quick
        self.heads = Heads()
        """Those of requests that came without ASGI."""
        self.together = together
        """What sends the answers to these."""
        self.idle_looks = IdleLooks()
        """When their connections are looked at, which may have been idle for too long."""
        self._peers = peers or Peers(ListenSettings())
        self.observe = observe
        self._watch = Watch(settings.read_timeout)
        self.head_limits = HeadLimits()
        """What a request's head may be."""
        self.reconfigure(settings)

    def reconfigure(self, settings: RequestSettings) -> None:
        """Read by these settings from the next request on."""
        self.max_bytes = settings.max_bytes
        """The largest body that is read."""
        limits = HeadLimits(settings.head_timeout, settings.max_head_bytes)
        if limits.max_bytes < self.head_limits.max_bytes:
            self.heads.forget()
        self.head_limits = limits
        self.send_timeout = settings.send_timeout
        """Seconds in which a program has to take a part of its answer."""
        self._read_timeout = self._watch.read_timeout = settings.read_timeout
        self.quick = self._quick if self._peers.are_usual else None
        """What answers a request below ASGI, where it does not matter from whom it comes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer POST, QUERY and OPTIONS."""
        if scope["method"] == "OPTIONS":
            await send_reply(send, Reply(200, CORS_PREFLIGHT, new_request_id(), b""))
            return
        headers = dict(scope["headers"])
        is_doubtful = len(headers) != len(scope["headers"])
        if scope["method"] == "QUERY":
            headers[READ_ONLY] = b"true"  # safe by its definition, RFC 10008: whatever is in the body, it only reads
        watch = self._watch
        task = watch.begin()
        try:
            if is_doubtful:
                refuse_doubles(scope["headers"])
                for name in (self._peers.header, *_LISTS):
                    headers |= joined(scope["headers"], name)
            body = await self._body(headers, receive)
            if body is None:
                return
            watch.listen_later(task, receive)
            reply = await self.answer(headers, body, scope.get("client"), scope.get("query_string", b""))
        except GatewayError as error:
            reply = self.refusal(error)
        except asyncio.CancelledError:
            verdict = watch.verdict(task)
            if verdict is not None:
                task.uncancel()  # the task goes on, under whatever it is part of
            match verdict:
                case Verdict.TOO_SLOW:
                    timeout = self._read_timeout
                    reply = self.refusal(
                        RequestTooSlow(f"the body did not arrive within {timeout:g} s (request.read_timeout)")
                    )
                case Verdict.GONE:
                    return
                case _:
                    raise
        finally:
            watch.end(task)
        await send_reply(send, reply)

    def answer(
        self, headers: Mapping[bytes, bytes], body: bytes, client: tuple[str, int] | None, url_query: bytes = b""
    ) -> Coroutine[Any, Any, Reply]:
        """The reply to a whole request from `client`, whichever way it came."""
        peer = client[0] if client else ""
        if not self._peers.are_usual:
            peer = self._peers.behind(peer, headers)
            try:
                self._peers.admit(peer)
            except GatewayError as error:
                return self._refuse(error)
        return self._service.answer(headers, body, peer=peer, url_query=url_query)

    async def _refuse(self, error: GatewayError) -> Reply:
        return self.refusal(error)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None if the program went away before it was complete.

        Raises:
            RequestTooLarge: it has, or says that it has, more than `request.max_bytes`.
        """
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        if len(body) > self.max_bytes:
            raise self._too_large()
        if not message.get("more_body"):
            return body
        chunks, size = [body], len(body)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(chunks)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"request is too large (max is {self.max_bytes} bytes)")

    def refusal(self, error: GatewayError) -> Reply:
        """The reply to a request that never reached the service."""
        request_id = new_request_id()
        reply = error_reply(error, request_id)
        self.observe(
            Answered(
                request_id=request_id,
                status=reply.status,
                outcome=error.kind,
                sqlstate=error.sqlstate,
                database="",
                role="",
                statements=0,
                rows=0,
                bytes_out=len(reply.body),
                seconds=0.0,
                waited=0.0,
                message=error.message,
                reason=type(error).__name__,
            )
        )
        return reply


def refuse_doubles(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Whatever stands before the gateway may have looked at the first of two, and the gateway would take the last.

    Raises:
        BadRequest: a header that says who asks, for whom, or what may be written, came twice.
    """
    for name in _ONCE:
        if sum(header == name for header, _ in headers) > 1:
            raise BadRequest(f"the header {name.decode()} came twice")
