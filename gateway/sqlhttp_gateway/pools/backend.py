"""One connection to Postgres: asyncpg opens it, does TLS and logs in; from then on its bytes are ours.

The only file that knows asyncpg's private names: the transport, the backend's pid and secret, and the address of a
cancel request. asyncpg's own protocol object is told when the connection is lost, so that it can tidy up, and sees
nothing else any more.
"""

import asyncio
import contextlib
import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import asyncpg
from asyncpg import connect_utils

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, RemoteProtocolError
from sqlhttp_gateway.pools.cancelling import cancel_once
from sqlhttp_gateway.pools.session_jwt import SessionKey
from sqlhttp_gateway.pools.statements import Statements
from sqlhttp_gateway.wire.exchange import ERROR_RESPONSE
from sqlhttp_gateway.wire.frontend import TERMINATE
from sqlhttp_gateway.wire.session import BackendSession

_HEADER_BYTES = 5
_REPORTED = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
)
"""Parameters that Postgres reports by itself, of all versions; asyncpg has them but does not list them."""
_READ_BY = frozenset({b"DateStyle", b"IntervalStyle", b"TimeZone", b"standard_conforming_strings"})
"""Those by which Postgres reads constants when it parses a statement."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and counts after which a server that vanished without a word is known to be gone."""
_ASK_AGAIN = 1.0
"""Seconds that a process has to end before it is asked to cancel what it does; twice as many before the next time."""
_CUT_TIMEOUT = 1.0
"""Seconds in which a server whose connection was cut can be asked to stop what it ran there."""


class Reader(Protocol):
    """Whoever reads what Postgres answers: an Exchange, a scrub, a tunnel."""

    def receive(self, data: bytes) -> bytes | None:
        """None while more is needed, else the bytes after the end."""


Done = Callable[[GatewayError | None], None]
"""Told once: None when its reader has read to the end, else why it never will."""


class Whole(Protocol):
    """Whoever reads an answer only if it comes in one piece and as expected, and else lets readers take its place."""

    def receive(self, data: bytes) -> bool:
        """Whether this was read; when it was not, nothing has happened."""

    def unfold(self) -> None:
        """`expect` the readings in whose place this stood."""


class Backend(asyncio.Protocol):
    """A logged-in connection, and the readers that wait for answers on it, in the order of the writes."""

    __slots__ = (
        "_connection",
        "_lost",
        "_on_lost",
        "_otherwise",
        "_partial",
        "_queue",
        "_transport",
        "_was_busy",
        "_whole",
        "_writable",
        "closing",
        "connect_seconds",
        "expires_at",
        "idle_since",
        "is_kept_apart",
        "opened_at",
        "pid",
        "scrub_prepared",
        "scrubs",
        "server_parameters",
        "session_key",
        "statements",
        "tunnels",
        "used",
    )

    def __init__(self, connection: Any, *, statement_cache_size: int, on_lost: Callable[["Backend"], None]) -> None:
        self._connection = connection
        self._transport: asyncio.Transport = connection._transport
        self._on_lost = on_lost
        self._queue: deque[tuple[Reader, Done]] = deque()
        self._whole: Whole | None = None
        """Instead of the queue, which is empty then."""
        self._partial = b""
        self._was_busy = False
        """Whether answers were outstanding when the connection was lost."""
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writable: asyncio.Future[None] | None = None
        self.pid: int = connection._protocol.backend_pid
        self.server_parameters: dict[str, str] = dict(_settings_of(connection))
        self._otherwise: frozenset[bytes] = frozenset()
        self.session_key: SessionKey | None = None
        """With it claims are signed that pg_session_jwt believes; None where that is not installed."""
        self.statements = Statements(statement_cache_size)
        self.tunnels = BackendSession(self.server_parameters, statement_cache_size=statement_cache_size)
        """What tunnels share about this connection."""
        self.scrub_prepared = False
        """Whether the statements of the scrub exist on this connection; like `scrubs` kept by its leases."""
        self.scrubs = 0
        self.is_kept_apart = False
        """Whether users of its role have had it whom claims tell apart from others: then every scrub looks."""
        self.used = False
        """Whether an exchange was ever run on it."""
        self.idle_since = 0.0
        self.expires_at = 0.0
        self.opened_at = asyncio.get_running_loop().time()
        self.connect_seconds = 0.0
        """How long it took to open, log-in included."""
        self.closing = False
        """It is not to be used again: we or the server have begun to end it."""
        self._transport.set_protocol(self)
        _keep_alive(self._transport)

    @property
    def is_encrypted(self) -> bool:
        """There is TLS between here and the server."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def client_port(self) -> int:
        """As pg_stat_activity has it, if nothing between here and there changes that; -1 by a Unix socket."""
        name = self._transport.get_extra_info("sockname")
        return name[1] if isinstance(name, tuple) else -1

    @property
    def is_lost(self) -> bool:
        """The connection is gone; nothing can be sent."""
        return self._lost.done()

    @property
    def is_quiet(self) -> bool:
        """No answer is outstanding."""
        return not self._queue and self._whole is None

    @property
    def reads_otherwise(self) -> bool:
        """By the last word of the server, constants are read in another way than at log-in."""
        return bool(self._otherwise)

    def note_parameters(self, statuses: Sequence[bytes]) -> None:
        """The server has sent these ParameterStatus messages, of which here are the bodies, in order."""
        for status in statuses:
            name, _, value = status.removesuffix(b"\0").partition(b"\0")
            at_log_in = self.server_parameters.get(name.decode()) if name in _READ_BY else None
            if at_log_in is not None:
                is_same = value == at_log_in.encode()
                self._otherwise = self._otherwise - {name} if is_same else self._otherwise | {name}

    def send_whole(self, frames: bytes, whole: Whole) -> None:
        """`send` on a connection that is quiet and not closing, with one reader for all that is answered."""
        self.used = True
        self._whole = whole
        self._transport.write(frames)

    def expect(self, *readings: tuple[Reader, Done]) -> None:
        """Read what was sent by `send_whole` by these, in turn, from its first byte on."""
        self._whole = None
        self._queue.extend(readings)

    def send(self, frames: bytes, *readings: tuple[Reader, Done]) -> None:
        """Write `frames`; each reader reads its answer in turn and its `done` is told."""
        if self.closing:
            for _, done in readings:
                done(_broken())
            return
        self.used = True
        self._queue.extend(readings)
        self._transport.write(frames)

    def forget_statements(self) -> None:
        """The server has dropped every prepared statement, the scrub's among them."""
        self.statements.forget()
        self.tunnels.statements.forget()
        self.scrub_prepared = False

    def listen(self, reader: Reader, done: Done) -> None:
        """From now on `reader` gets what comes, until `withdraw`; `done` is told only if the connection is lost."""
        if self.closing:
            done(_broken())
            return
        self.used = True
        self._queue.append((reader, done))

    def withdraw(self) -> None:
        """The end of `listen`: everything that the reader is owed has come."""
        self._queue.popleft()

    @property
    def is_backed_up(self) -> bool:
        """Postgres does not take what was written as fast as it is written; `drain` waits until it has."""
        return self._writable is not None

    def write(self, data: bytes) -> None:
        """More bytes for the reading that is under way."""
        if not self._lost.done():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the transport's buffer has room again."""
        if self._writable is not None:
            await asyncio.shield(self._writable)  # a waiter that is cancelled leaves it to the others

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

        A process that is busy reads no goodbye. It is waited for, and asked again and again to cancel what it does;
        only when the server could not be reached for `timeout` seconds is the socket dropped. One that waits for the
        rest of a message, or of a COPY, takes the goodbye for a part of it: what it understands is the end of the
        stream. TLS tells that by a message of its own, behind which nothing can be read for sure: the process is told
        so once it was asked to cancel, and the socket is dropped when these seconds have passed twice.
        """
        self.closing = True
        if self._lost.done():
            if self._was_busy:
                # A network that cuts does not tell the server, whose process would go on to its statement's end.
                await cancel_once(self.request_cancel, timeout=_CUT_TIMEOUT, settles=False)
            return
        self._transport.write(TERMINATE)
        can_end = self._transport.can_write_eof()
        if can_end:
            with contextlib.suppress(OSError):  # the server was quicker, and its end has not been read yet
                self._transport.write_eof()
        self._transport.resume_reading()
        loop = asyncio.get_running_loop()
        pause = min(_ASK_AGAIN, timeout)
        open_until = loop.time() + (math.inf if can_end else 2 * timeout)
        reached_at = loop.time()
        while not (await asyncio.wait([self._lost], timeout=pause))[0]:
            try:
                async with asyncio.timeout(timeout):
                    await self.request_cancel()
            except OSError:  # a TimeoutError among them
                pass
            else:
                reached_at = loop.time()
            if not can_end:
                self._transport.close()
            pause = min(2 * pause, timeout)
            if loop.time() < min(reached_at + timeout, open_until):
                continue
            self.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.shield(self._lost)
            return

    def abandon(self) -> None:
        """Tell all who wait for answers that there will be none. What still comes is dropped; `close` has to follow.

        Unlike `abort` this keeps the socket, and with it the knowledge of whether the server's process still exists.
        """
        self.closing = True
        self._fail(_broken())
        self._queue.append((_Deaf(), _ignore))

    def abort(self) -> None:
        """Drop the socket at once."""
        self.closing = True
        self._transport.abort()

    # ── asyncio.Protocol ──

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        whole = self._whole
        if whole is not None:
            self._whole = None
            if whole.receive(data):
                return
            whole.unfold()
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
            self.abort()  # first, so that nobody who is told takes it for usable
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._was_busy = not self.is_quiet
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

        Nobody is here to be told the first three; a connection whose server said goodbye is never used again. The
        server closes it itself, and until then its process counts.
        """
        position, end = 0, len(data)
        while end - position >= _HEADER_BYTES:
            length = int.from_bytes(data[position + 1 : position + _HEADER_BYTES])
            if length < _HEADER_BYTES - 1:
                raise RemoteProtocolError(f"message {chr(data[position])!r} with a length of {length}")
            if position + 1 + length > end:
                break
            if data[position] == ERROR_RESPONSE:
                self.closing = True
            position += 1 + length
        self._partial = data[position:]  # its end may come in front of somebody's answer

    def _fail(self, error: GatewayError) -> None:
        if self._whole is not None:
            self._whole.unfold()
        queue, self._queue = self._queue, deque()
        for _, done in queue:
            done(error)


class _Deaf:
    """Reads on behalf of those who no longer want to know."""

    def receive(self, data: bytes) -> bytes | None:
        return None


def _ignore(error: GatewayError | None) -> None:
    """Nobody is to be told."""


def _keep_alive(transport: asyncio.Transport) -> None:
    """Let the system find out when the server's machine is gone; libpq does so, too."""
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has all three
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _broken() -> ConnectionBroken:
    return ConnectionBroken(
        "the connection to Postgres was lost while the statement ran",
        hint="Whether it took effect is unknown: look before you repeat a write.",
    )


def _settings_of(connection: Any) -> dict[str, str]:
    settings = connection._protocol.get_settings()
    return {name: getattr(settings, name) for name in _REPORTED if hasattr(settings, name)}


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

    Raises what asyncpg raises, OSError and TimeoutError among it: `connect` translates. Nothing is left of it then.
    """
    loop = _Remembering(asyncio.get_running_loop())
    try:
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
            loop=loop if ssl else None,
        )
    except BaseException:
        for transport in loop.encrypted:
            transport.abort()
        raise


class _Remembering:
    """An event loop that knows the TLS transports it has made.

    asyncpg closes one that it gives up, which in TLS takes the other side's word, or half a minute without it; and for
    as long the server keeps a process of which nobody here knows any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.encrypted: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def start_tls(self, *args: Any, **options: Any) -> Any:
        transport = await self._loop.start_tls(*args, **options)
        self.encrypted.append(transport)
        return transport
