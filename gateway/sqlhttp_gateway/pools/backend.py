"""One connection to Postgres: asyncpg opens it, does TLS and logs in; from then on its bytes are ours.

The only file that knows asyncpg's private names: the transport, the backend's pid and secret, and the address of a
cancel request. asyncpg's own protocol object is told when the connection is lost, so that it can tidy up, and sees
nothing else any more.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import asyncpg
from asyncpg import connect_utils

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, RemoteProtocolError
from sqlhttp_gateway.pools.statements import Statements
from sqlhttp_gateway.wire.frontend import TERMINATE


class Reader(Protocol):
    """Whoever reads what Postgres answers: an Exchange, a scrub, a tunnel."""

    def receive(self, data: bytes) -> bytes | None:
        """None while more is needed, else the bytes after the end."""


Done = Callable[[GatewayError | None], None]
"""Told once: None when its reader has read to the end, else why it never will."""


class Backend(asyncio.Protocol):
    """A logged-in connection, and the readers that wait for answers on it, in the order of the writes."""

    __slots__ = (
        "_connection",
        "_lost",
        "_on_lost",
        "_queue",
        "_transport",
        "_writable",
        "closing",
        "expires_at",
        "idle_since",
        "pid",
        "scrub_prepared",
        "server_parameters",
        "statements",
        "used",
    )

    def __init__(self, connection: Any, *, statement_cache_size: int, on_lost: Callable[["Backend"], None]) -> None:
        self._connection = connection
        self._transport: asyncio.Transport = connection._transport
        self._on_lost = on_lost
        self._queue: deque[tuple[Reader, Done]] = deque()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writable: asyncio.Future[None] | None = None
        self.pid: int = connection._protocol.backend_pid
        self.server_parameters: dict[str, str] = dict(_settings_of(connection))
        self.statements = Statements(statement_cache_size)
        self.scrub_prepared = False
        """Whether the statements of the scrub exist on this connection; owned by `scrub`."""
        self.used = False
        """Whether an exchange was ever run on it."""
        self.idle_since = 0.0
        self.expires_at = 0.0
        self.closing = False
        self._transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """The connection is gone; nothing can be sent."""
        return self._lost.done()

    @property
    def is_quiet(self) -> bool:
        """No answer is outstanding."""
        return not self._queue

    def send(self, frames: bytes, *readings: tuple[Reader, Done]) -> None:
        """Write `frames`; each reader reads its answer in turn and its `done` is told."""
        if self._lost.done():
            for _, done in readings:
                done(_broken())
            return
        self.used = True
        self._queue.extend(readings)
        self._transport.write(frames)

    def expect(self, reader: Reader, done: Done) -> None:
        """One more answer to something already written."""
        self._queue.append((reader, done))

    def write(self, data: bytes) -> None:
        """More bytes for the reading that is under way."""
        if not self._lost.done():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the transport's buffer has room again."""
        if self._writable is not None:
            await self._writable

    def pause_reading(self) -> None:
        """Let Postgres wait until its bytes are wanted."""
        if not self._lost.done():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The opposite of `pause_reading`."""
        if not self._lost.done():
            self._transport.resume_reading()

    async def request_cancel(self) -> None:
        """Ask the server to cancel what runs here; returns when it has passed the signal on.

        Postgres closes the extra connection only after the signal was sent, so once this returns and the exchange
        has ended, a scrub is enough to be sure that no late signal meets the next user.
        """
        await connect_utils._cancel(
            loop=asyncio.get_running_loop(),
            addr=self._connection._addr,
            params=self._connection._params,
            backend_pid=self.pid,
            backend_secret=self._connection._protocol.backend_secret,
        )

    async def close(self, timeout: float) -> None:
        """Say goodbye and wait until the server has closed, so that its process no longer counts.

        After `timeout` seconds without an answer the socket is dropped.
        """
        self.closing = True
        if not self._lost.done():
            self._transport.write(TERMINATE)
            self._transport.resume_reading()
            await asyncio.wait([self._lost], timeout=timeout)
        if not self._lost.done():
            self.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.shield(self._lost)

    def abort(self) -> None:
        """Drop the socket at once."""
        self.closing = True
        self._transport.abort()

    # ── asyncio.Protocol ──

    def data_received(self, data: bytes) -> None:
        rest: bytes | None = data
        try:
            while rest:
                if not self._queue:
                    self._take_unasked(rest)
                    return
                reader, done = self._queue[0]
                rest = reader.receive(rest)
                if rest is None:
                    return
                self._queue.popleft()
                done(None)
        except RemoteProtocolError as error:
            self._fail(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._fail(_broken())
        protocol = self._connection._protocol
        if protocol is not None:
            protocol.connection_lost(exc)
        self._on_lost(self)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _take_unasked(self, data: bytes) -> None:
        """Between exchanges Postgres may send notices, parameters and notifications, or say that it ends.

        Nobody is here to be told the first three; a connection whose server said goodbye is never used again.
        """
        if data[0] == ord("E"):
            self.abort()

    def _fail(self, error: GatewayError) -> None:
        queue, self._queue = self._queue, deque()
        for _, done in queue:
            done(error)


def _broken() -> ConnectionBroken:
    return ConnectionBroken(
        "the connection to Postgres was lost while the statement ran",
        hint="Whether it took effect is unknown: look before you repeat a write.",
    )


def _settings_of(connection: Any) -> dict[str, str]:
    settings = connection._protocol.get_settings()
    return {
        name: getattr(settings, name)
        for name in ("server_version", "client_encoding", "TimeZone")
        if hasattr(settings, name)
    }


async def open_connection(
    *,
    host: str,
    port: int,
    database: str,
    role: str,
    password: str | None,
    ssl: Any,
    server_settings: dict[str, str],
    timeout: float,
) -> Any:
    """A connection that asyncpg has made and logged in; to be given to a Backend at once.

    Raises what asyncpg raises, OSError and TimeoutError among it: `connect` translates.
    """
    return await asyncpg.connect(
        host=host,
        port=port,
        user=role,
        database=database,
        password=password,
        ssl=ssl,
        timeout=timeout,
        statement_cache_size=0,
        server_settings=server_settings,
    )
