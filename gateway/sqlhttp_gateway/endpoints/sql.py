"""POST and OPTIONS /sql: reads the body, counted; asks the service; notices a program that goes away.

A bare ASGI callable, since most of the gateway's requests come here and a Starlette Request costs as much as all of our
own work. The rules of what is answered are in `service` and `neon`.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from sqlhttp_gateway.endpoints.single_write import send_reply
from sqlhttp_gateway.errors import GatewayError, RequestTooLarge, RequestTooSlow
from sqlhttp_gateway.events import Answered, Observer
from sqlhttp_gateway.neon.headers import CORS_PREFLIGHT, REQUEST_ID
from sqlhttp_gateway.pools.deadlines import Deadlines
from sqlhttp_gateway.service import Reply, SqlService, error_reply, new_request_id
from sqlhttp_gateway.settings import RequestSettings

LISTEN_AFTER = 0.02
"""Seconds after which a request that still runs is watched for its program going away; most are answered sooner, and
the watch costs a task."""


class SqlEndpoint:
    """The ASGI side of SqlService."""

    def __init__(self, service: SqlService, settings: RequestSettings, observe: Observer) -> None:
        self._service = service
        self._max_bytes = settings.max_bytes
        self._read_timeout = settings.read_timeout
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop, _Watch.look)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer POST and OPTIONS."""
        if scope["method"] == "OPTIONS":
            await send_reply(send, Reply(200, [*CORS_PREFLIGHT, (REQUEST_ID, new_request_id().encode())], b""))
            return
        headers = dict(scope["headers"])
        watch = _Watch(receive, loop=self._loop, deadlines=self._deadlines, read_timeout=self._read_timeout)
        try:
            body = await self._body(headers, receive)
            if body is None:
                return
            watch.body_is_read()
            reply = await self._service.answer(headers, body)
        except GatewayError as error:
            reply = self._refusal(error)
        except asyncio.CancelledError:
            if watch.is_too_slow:
                reply = self._refusal(
                    RequestTooSlow(f"the body did not arrive within {self._read_timeout:g} s (request.read_timeout)")
                )
            elif watch.is_gone:
                return
            else:
                raise
        finally:
            watch.stop()
        await send_reply(send, reply)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None if the program went away before it was complete.

        Raises:
            RequestTooLarge: it has, or says that it has, more than `request.max_bytes`.
        """
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        if len(body) > self._max_bytes:
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
            if size > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(chunks)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"request is too large (max is {self._max_bytes} bytes)")

    def _refusal(self, error: GatewayError) -> Reply:
        """The reply to a request that never reached the service."""
        request_id = new_request_id()
        reply = error_reply(error, request_id)
        self._observe(
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


class _Watch:
    """Looks after one request: ends a body that does not arrive; later notices a program that goes away.

    Either ends the request by cancelling its task, and says so.
    """

    __slots__ = (
        "_body_read",
        "_deadlines",
        "_listener",
        "_looked",
        "_loop",
        "_read_timeout",
        "_receive",
        "_task",
        "is_gone",
        "is_too_slow",
    )

    def __init__(
        self,
        receive: Receive,
        *,
        loop: asyncio.AbstractEventLoop,
        deadlines: "Deadlines[_Watch]",
        read_timeout: float,
    ) -> None:
        self.is_gone = False
        self.is_too_slow = False
        self._receive = receive
        self._loop = loop
        self._deadlines = deadlines
        self._read_timeout = read_timeout
        self._body_read = False
        self._looked = False
        self._task = asyncio.current_task(loop)
        self._listener: asyncio.Task[None] | None = None
        deadlines.set(self, loop.time() + LISTEN_AFTER)

    def body_is_read(self) -> None:
        """From now on the only thing that can come is the program's leaving."""
        self._body_read = True
        if self._looked:
            self._deadlines.drop(self)
            self.look()

    def stop(self) -> None:
        """The request is over."""
        self._deadlines.drop(self)
        if self._listener is not None:
            self._listener.cancel()

    def look(self) -> None:
        """The request takes longer than most do."""
        if self._body_read:
            self._listener = self._loop.create_task(self._listen())
        elif not self._looked:
            self._looked = True
            self._deadlines.set(self, self._loop.time() + self._read_timeout)
        elif self._task is not None:
            self.is_too_slow = True
            self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.is_gone = True
            self._task.cancel()
