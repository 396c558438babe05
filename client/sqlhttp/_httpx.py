"""httpx as a transport: the caller's own client, or for asyncio one of ours for each event loop.

The only file that imports httpx; its exceptions end here.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic, time
from typing import Protocol
from weakref import WeakKeyDictionary

import httpx

from sqlhttp import _errors as errors
from sqlhttp._endpoint import Endpoint
from sqlhttp._http1 import Reply, encode_headers
from sqlhttp._request import Request
from sqlhttp._transport import CONNECT_TIMEOUT

KEEP_ALIVE = 4.0
"""Seconds that an idle connection of the asynchronous client may rest: below the 5 s after which many servers close
theirs, since httpx cannot ask a connection whether it is still there."""


class AsyncTransport(Protocol):
    """Sends one request and brings its reply, asynchronously; the same rules as `_transport.Transport`."""

    async def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        """One attempt. `deadline` is on the monotonic clock."""
        ...

    async def close(self) -> None:
        """Close what is idle."""
        ...


class HttpxTransport:
    """Sends with the caller's `httpx.Client`, which stays the caller's to close."""

    def __init__(self, client: httpx.Client) -> None:
        if not isinstance(client, httpx.Client):
            raise errors.InterfaceError(f"transport= of neon() takes an httpx.Client, not {type(client).__name__}")
        self._client = client

    def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        with (
            _translated(deadline) as progress,
            self._client.stream(
                "POST",
                endpoint.url,
                content=request.body,
                headers=_headers(request),
                timeout=_timeout(deadline),
                extensions={"trace": progress.note},
            ) as response,
        ):
            progress.began = True
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                _timeout(deadline)  # httpx counts each read by itself; a slow trickle ends here
            return _reply(response, bytes(body))

    def close(self) -> None:
        """Nothing: the client is the caller's."""


class AsyncHttpxTransport:
    """Sends with the caller's `httpx.AsyncClient`, which stays the caller's to close."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        if not isinstance(client, httpx.AsyncClient):
            raise errors.InterfaceError(
                f"transport= of neon_async() takes an httpx.AsyncClient, not {type(client).__name__}"
            )
        self._client = client

    async def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        return await _send(self._client, endpoint, request, deadline)

    async def close(self) -> None:
        """Nothing: the client is the caller's."""


class LoopTransport:
    """Sends with a client of its own for each event loop, which is closed when the loop ends.

    A connection belongs to the loop it was made in; and a loop that ran before a fork does not run after it.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = WeakKeyDictionary()

    async def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        loop = asyncio.get_running_loop()
        owned = self._clients.get(loop)
        if owned is not None and owned.is_old():
            del self._clients[loop]
            await owned.close()
            owned = None
        if owned is None:
            if self._context is None and endpoint.origin.tls:
                self._context = ssl.create_default_context()
            owned = self._clients[loop] = _LoopClient(self._context)
            await owned.open()
        async with owned.used() as client:
            return await _send(client, endpoint, request, deadline)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        owned = self._clients.get(loop)
        if (
            owned is not None and not owned.is_running()
        ):  # another client's call may be under way; the loop's end closes
            del self._clients[loop]
            await owned.close()


LOOPS = LoopTransport()
"""The one of this process, for all clients that have no TLS settings of their own."""


class _LoopClient:
    """One event loop's httpx client."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._client = httpx.AsyncClient(
            verify=context if context is not None else False,  # without a context there is no https either
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=KEEP_ALIVE),
            follow_redirects=False,
            trust_env=False,  # a proxy for the Web would be shown the password, that of a database on localhost, too
        )
        self._running = 0
        self._used_at = time()
        self._guard: AsyncGenerator[None, None] | None = None

    async def open(self) -> None:
        """Have the loop close the client at its end: asyncio.run closes every asynchronous generator that has begun."""
        self._guard = _closing(self._client)
        await anext(self._guard)

    def is_running(self) -> bool:
        return self._running > 0

    def is_old(self) -> bool:
        """httpx looks at the monotonic clock alone, which stands still while a sandbox is frozen."""
        return not self.is_running() and abs(time() - self._used_at) > KEEP_ALIVE

    @asynccontextmanager
    async def used(self) -> AsyncIterator[httpx.AsyncClient]:
        self._running += 1
        try:
            yield self._client
        finally:
            self._running -= 1
            self._used_at = time()

    async def close(self) -> None:
        if self._guard is not None:
            await self._guard.aclose()


async def _closing(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.aclose()


async def _send(client: httpx.AsyncClient, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
    with _translated(deadline) as progress:
        async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
            async with client.stream(
                "POST",
                endpoint.url,
                content=request.body,
                headers=_headers(request),
                timeout=_timeout(deadline),
                extensions={"trace": progress.note_async},
            ) as response:
                progress.began = True
                body = await response.aread()
                return _reply(response, body)


class _Progress:
    """How far an attempt has come."""

    def __init__(self) -> None:
        self.connecting = False
        self.began = False
        """Whether the reply has begun."""

    def note(self, event: str, _: object) -> None:
        """Told by httpcore what it does; a transport that is not httpcore's tells nothing, and nothing is concluded."""
        if event == "connection.connect_tcp.started":
            self.connecting = True
        elif event.endswith(".send_request_headers.started"):
            self.connecting = False

    async def note_async(self, event: str, info: object) -> None:
        self.note(event, info)


@contextmanager
def _translated(deadline: float | None) -> Iterator[_Progress]:
    """httpx's exceptions, and a deadline's, as ours."""
    if deadline is not None and deadline <= monotonic():
        raise errors.ConnectTimeout("no time was left to connect")
    progress = _Progress()
    try:
        yield progress
    except TimeoutError as error:
        if progress.connecting:
            raise errors.ConnectTimeout("no connection in time") from error
        raise translated(error, began=progress.began) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise translated(error, began=progress.began) from error


def translated(error: Exception, *, began: bool) -> errors.NeonDbError:
    """What an exception of httpx means for the statement; `began` is whether the reply had."""
    text = str(error) or type(error).__name__
    lost = errors.ReplyCut if began else errors.ConnectionLost
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return errors.ConnectTimeout(f"no connection in time: {text}")
        case httpx.ConnectError() | httpx.ProxyError():
            if _is_about_certificate(error):
                return errors.CertificateRejected(f"the server's certificate is not valid: {text}")
            return errors.ConnectFailed(f"no connection: {text}")
        case httpx.WriteTimeout() | httpx.WriteError():
            return errors.SendFailed(f"the request could not be sent: {text}")
        case httpx.TimeoutException() | TimeoutError():
            return errors.RequestTimeout("no whole answer came in time")
        case httpx.RemoteProtocolError() if began or "disconnected" in text:
            return lost(f"the connection ended before the answer did: {text}")
        case httpx.NetworkError():
            return lost(f"the connection ended before the answer did: {text}")
        case httpx.RemoteProtocolError() | httpx.DecodingError():
            return errors.ProtocolError(f"the answer is not HTTP as it should be: {text}")
    return errors.InterfaceError(text)


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _headers(request: Request) -> tuple[tuple[bytes, bytes], ...]:
    """As over sockets. What httpx says of one that cannot be sent has its value, which may be a token."""
    try:
        return encode_headers(request.headers)
    except ValueError as error:
        raise errors.InterfaceError(str(error)) from None


def _timeout(deadline: float | None) -> httpx.Timeout:
    """httpx's four limits; it has none for a whole request.

    Raises:
        TimeoutError: there is no time left.
    """
    if deadline is None:
        return httpx.Timeout(None, connect=CONNECT_TIMEOUT)
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return httpx.Timeout(left, connect=min(CONNECT_TIMEOUT, left))


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, response.headers, body)
