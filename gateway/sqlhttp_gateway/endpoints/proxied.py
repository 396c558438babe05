"""Accepts connections that have to begin with something else before they can be served: TLS, or a proxy's word.

A trusted proxy says first for whom a connection is made (PROXY protocol). That header is taken off the socket to the
byte, before TLS and before any protocol sees the connection, so that all that comes after is as it would be without a
proxy. Whoever is still at the beginning is counted here, since no protocol knows of them yet.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.proxy_header import Told, decode_proxy_header

_TIMEOUT = 5.0
"""Seconds in which the header must have come."""
_PEEK = 4096
_ACCEPT_AT_ONCE = 100
_LEAST_GREETING = 1.0
"""Seconds that a beginning may take before it makes room for that of another."""
_ACCEPT_AGAIN = 0.2
"""Seconds until the next try when the process may open no more files; asyncio waits 1."""

Serve = Callable[[socket.socket, str], Awaitable[Any]]
"""Takes over a connection; the text is the address that a proxy told, empty when it told none."""


def nobody(peer: str) -> bool:
    """Trusts no address to speak for others."""
    return False


class GreetingServer:
    """As an asyncio.Server, as far as the gateway uses one."""

    def __init__(
        self,
        bound: socket.socket,
        serve: Serve,
        *,
        backlog: int,
        trusts: Callable[[str], bool] = nobody,
        may_greet: Callable[[int, float], bool] = lambda greeting, now: True,
    ) -> None:
        """`trusts` says from which addresses a header has to come; from others none is looked for. `may_greet` is told
        how many are at their beginning, and the time.
        """
        self.sockets = (bound,)
        self._bound = bound
        self._serve = serve
        self._trusts = trusts
        self._loop = asyncio.get_running_loop()
        self._may_greet = may_greet
        self._greeting: dict[asyncio.Task[None], float] = {}
        """Since when, the longest first."""
        bound.setblocking(False)
        bound.listen(backlog)
        self._loop.add_reader(bound.fileno(), self._accept)

    @property
    def greeting(self) -> int:
        """How many are at their beginning."""
        return len(self._greeting)

    def close(self) -> None:
        """Accept no more but those who are connected already, which the kernel would reset; who is served stays.

        The second time, those who have got no further are given up.
        """
        if self._bound.fileno() < 0:
            for task in self._greeting:
                task.cancel()
            return
        while self._accept():
            pass
        self._loop.remove_reader(self._bound.fileno())
        self._bound.close()

    async def wait_closed(self) -> None:
        """Return when nobody is being greeted any more."""
        await asyncio.gather(*self._greeting, return_exceptions=True)

    # ── inside ──

    def _accept(self) -> bool:
        """Whether there may be more."""
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, address = self._bound.accept()
            except BlockingIOError:
                return False
            except ConnectionAbortedError:  # it went away meanwhile
                continue
            except OSError:  # no more files: the socket stays readable, and would be looked at without a pause
                self._loop.remove_reader(self._bound.fileno())
                self._loop.call_later(_ACCEPT_AGAIN, self._accept_again)
                return False
            now = self._loop.time()
            if not self._may_greet(len(self._greeting), now) and not self._give_up_first(now):
                connection.close()
                continue
            connection.setblocking(False)
            peer = str(address[0]) if isinstance(address, tuple) else ""
            task = self._loop.create_task(self._greet(connection, peer))
            self._greeting[task] = now
            task.add_done_callback(partial(self._greeted, connection))
        return True

    def _greeted(self, connection: socket.socket, task: "asyncio.Task[None]") -> None:
        del self._greeting[task]
        if task.cancelled():  # and maybe before it began
            connection.close()

    def _accept_again(self) -> None:
        if self._bound.fileno() >= 0:
            self._loop.add_reader(self._bound.fileno(), self._accept)

    def _give_up_first(self, now: float) -> bool:
        """Whether whoever has taken longest for the beginning has made room."""
        for task, began in self._greeting.items():
            if now - began < _LEAST_GREETING:
                return False
            if not task.cancelling():
                task.cancel()
                return True
        return False

    async def _greet(self, connection: socket.socket, peer: str) -> None:
        try:
            told = ""
            if self._trusts(peer):
                async with asyncio.timeout(_TIMEOUT):
                    told = (await self._read(connection)).peer
            await self._serve(connection, told)
        except (OSError, RemoteProtocolError):  # a TimeoutError and an SSLError among them
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _read(self, connection: socket.socket) -> Told:
        """Take the header off the socket, and nothing that comes behind it.

        Raises:
            RemoteProtocolError: there is none.
            OSError: the proxy has gone.
        """
        header = b""
        while True:
            arrived = await _peek(connection, _PEEK)
            if not arrived:
                raise ConnectionResetError
            told = decode_proxy_header(header + arrived)
            if told is not None:
                connection.recv(told.length - len(header))
                return told
            connection.recv(len(arrived))  # all of it belongs to the header
            header += arrived


async def first_byte(connection: socket.socket) -> bytes:
    """The first byte that comes, which stays on the socket; nothing when none came in time, or none will.

    Raises:
        OSError: the connection is gone.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await _peek(connection, 1)
    except TimeoutError:
        return b""


async def _peek(connection: socket.socket, most: int) -> bytes:
    """What comes next, at most so many bytes, which stay on the socket; nothing at the end."""
    while True:
        await _readable(connection)
        with contextlib.suppress(BlockingIOError):  # readable, and on second thoughts not: "BUGS" in select(2)
            return connection.recv(most, socket.MSG_PEEK)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), _fulfil, turn)
    try:
        await turn
    finally:
        loop.remove_reader(connection.fileno())


def _fulfil(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)


Claims = dict[tuple[str, int], tuple[str, int]]
"""The address and port of a connection, and those of the program for which a proxy has made it."""


def claiming(protocol: type[Any], claims: Claims) -> type[Any]:
    """A server protocol of uvicorn's whose `client` is whom the proxy has told, for HTTP and for WebSockets."""

    class Claiming(protocol):  # type: ignore[misc]  # a base that is known only now
        _proxy: tuple[str, int]

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._proxy = getattr(self, "client", None) or ("", 0)
            if self._proxy in claims:
                self.client = claims[self._proxy]

        def connection_lost(self, exc: Exception | None) -> None:
            # After an upgrade this is called for the WebSocket alone.
            claims.pop(self._proxy, None)
            super().connection_lost(exc)

    return Claiming
