"""A WebSocket that carries one `Line`, for asyncio. The rules are those of `_tunnel`."""

import asyncio
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from sqlhttp import _errors as errors
from sqlhttp._endpoint import Endpoint, Origin
from sqlhttp._line import Cut, Line, Steps, TimedOut
from sqlhttp._transport import CONNECT_TIMEOUT
from sqlhttp._tunnel import CLOSE_TIMEOUT, NO_TURN, binary, check_headers, closed_because, failing_to_connect, tls_of
from sqlhttp._wire.frontend import TERMINATE

from websockets.asyncio.client import ClientConnection, connect  # isort: skip  # `_tunnel` says what to install
from websockets.exceptions import ConnectionClosed  # isort: skip
from websockets.protocol import State  # isort: skip

if TYPE_CHECKING:
    from ssl import SSLContext

Kind = TypeVar("Kind")


class ConnectThere(connect):
    """To this place and to no other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """None is followed: it would take the password to another place."""
        return exc


async def connected(origin: Origin, until: float) -> socket.socket:
    """As `_transport.connected`, but for TLS: an address that is silent leaves some of the time to the next.

    Raises:
        OSError: none of them took a connection; a TimeoutError, in time.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(until - monotonic()):
        addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    failure = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        plain = None
        try:
            plain = socket.socket(family, kind, protocol)
            plain.setblocking(False)
            async with asyncio.timeout((until - monotonic()) / (len(addresses) - number)):
                await loop.sock_connect(plain, address)
            return plain
        except BaseException as error:
            if plain is not None:
                plain.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    raise failure


class AsyncTunnel:
    """One connection; asked by one task at a time, the others wait."""

    def __init__(self, socket: ClientConnection) -> None:
        self.line = Line()
        self._socket = socket
        self._lock = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        where: Endpoint,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        context: "SSLContext | None" = None,
        deadline: float | None = None,
        ping_interval: float | None = None,
    ) -> "AsyncTunnel":
        """Connect; see `_tunnel.Tunnel`."""
        left = CONNECT_TIMEOUT if deadline is None else min(CONNECT_TIMEOUT, deadline - monotonic())
        if left <= 0:
            raise errors.ConnectTimeout(f"no time was left to connect to {where.origin.host}:{where.origin.port}")
        check_headers(headers)
        with failing_to_connect(where):
            until = monotonic() + left
            plain = await connected(where.origin, until)
            opened = await ConnectThere(
                where.websocket_url,
                sock=plain,
                ssl=tls_of(where, context),
                additional_headers=list(headers),
                user_agent_header="sqlhttp",
                compression=None,
                proxy=None,
                open_timeout=max(0.001, until - monotonic()),
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=ping_interval,
                max_size=None,
            )
        return cls(opened)

    async def drive(self, steps: Steps[Kind], deadline: float | None) -> Kind:
        """Carry out the steps; what they return, or raise. As in `_tunnel.Tunnel`."""
        try:
            async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
                await self._lock.acquire()
        except TimeoutError:
            raise errors.SendFailed(NO_TURN) from None
        try:
            out = next(steps)
            while True:
                try:
                    received = await self._exchange(out, deadline)
                except (Cut, TimedOut) as error:
                    out = steps.throw(error)
                else:
                    out = steps.send(received)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # a generator's return value is not typed there
        finally:
            self._lock.release()

    async def close(self) -> None:
        """Say goodbye where that can be heard, and close. Where it cannot, nobody waits."""
        if not self.line.is_usable:
            self._socket.transport.abort()
            await self._socket.wait_closed()  # in the loop's next turn
            return
        try:
            with suppress(ConnectionClosed, OSError):
                await self._socket.send(TERMINATE)
            await self._socket.close()
        except BaseException:  # a cancelled task, which is not to leave the socket behind
            self._socket.transport.abort()
            raise

    async def _exchange(self, out: bytes, deadline: float | None) -> bytes:
        is_sent = bool(not out or self._socket.state is State.OPEN)
        try:
            # A moment of the monotonic clock is one of the loop's only by accident.
            async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
                if out and is_sent:
                    with suppress(ConnectionClosed, OSError):  # then what came before still tells the last word
                        await self._socket.send(out)
                received = await self._socket.recv()
        except TimeoutError:
            raise TimedOut from None
        except (ConnectionClosed, OSError) as error:
            raise Cut(closed_because(error), sent=is_sent) from error
        return binary(received)
