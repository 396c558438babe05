"""LISTEN for many programs over one backend: which channels anybody wants, and who gets what is heard on them.

That backend stands beside the pool, so that a hundred programs which begin to listen at once, each with a backend of
its own at that moment, never wait for each other. When it dies another takes its place, and every program is told
that it may have missed something.
"""

import asyncio
from collections import deque
from typing import Protocol

from sqlhttp_gateway.errors import GatewayError, PasswordFailed, PostgresError, RemoteProtocolError
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.wire.backend import (
    ERROR_RESPONSE,
    NOTIFICATION_RESPONSE,
    READY_FOR_QUERY,
    decode_error,
    encode_notice_response,
)
from sqlhttp_gateway.wire.buffer import MessageBuffer
from sqlhttp_gateway.wire.frontend import encode_query

MAX_NAME = 63
"""Bytes of an identifier that Postgres keeps (NAMEDATALEN - 1)."""
MAX_FRAME = 65_536
"""A payload has less than 8,000 bytes; notices are short."""
_FIRST_DELAY, _MAX_DELAY = 0.1, 5.0
"""Seconds between two tries to listen again."""
_MISSED = encode_notice_response(
    "the connection that listens was lost and made anew: notifications may have been missed",
    severity="WARNING",
    sqlstate="01000",
)


class Hearer(Protocol):
    """A program that listens."""

    def hear(self, frame: bytes) -> None:
        """A NotificationResponse, or a notice about them."""

    def deafen(self, error: PasswordFailed) -> None:
        """Nothing is heard any more: the connection was lost, and by no program's password is there another."""


class Listeners:
    """Who listens on which database, over one backend for each."""

    def __init__(self, registry: PoolRegistry) -> None:
        self._registry = registry
        self._ears: dict[tuple[str, str], Ear] = {}

    async def listen(self, hearer: Hearer, channels: tuple[bytes, ...], *, pool: Pool, password: bytes) -> None:
        """Return once `hearer` gets what is sent on these channels of the pool's database from now on.

        Raises:
            GatewayError: there is no connection to be had, or Postgres refuses.
        """
        key = (pool.key.target, pool.key.database)
        ear = self._ears.get(key)
        if ear is None:
            ear = self._ears[key] = Ear(self._registry)
        await ear.listen(hearer, channels, pool=pool, password=password)

    def lead(self, hearer: Hearer, *, pool: Pool, password: bytes) -> None:
        """`hearer`, which listens on the pool's database, could connect this way from now on, and no more as before."""
        ear = self._ears.get((pool.key.target, pool.key.database))
        if ear is not None:
            ear.lead(hearer, pool=pool, password=password)

    def unlisten(self, hearer: Hearer, channels: tuple[bytes, ...] | None = None) -> None:
        """`hearer` does not want these channels any more; None: it wants none."""
        for key, ear in list(self._ears.items()):
            ear.unlisten(hearer, channels)
            if ear.is_idle:
                del self._ears[key]


class Ear:
    """The one backend that listens on a database. Also its reader."""

    def __init__(self, registry: PoolRegistry) -> None:
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._hearers: dict[bytes, dict[Hearer, None]] = {}  # by channel
        self._wanted: dict[Hearer, dict[bytes, None]] = {}  # the channels of each
        self._ways: dict[Hearer, tuple[Pool, bytes]] = {}  # how each could connect
        self._barred: dict[Hearer, PasswordFailed] = {}  # by whose password there was no connection, the last time
        self._lease: Lease | None = None
        self._buffer = MessageBuffer(max_size=MAX_FRAME, fault=RemoteProtocolError)
        self._listening: dict[bytes, asyncio.Future[None]] = {}  # done when Postgres has said so
        self._owed: deque[asyncio.Future[None]] = deque()
        self._error: GatewayError | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Nobody listens, and nothing is kept for it."""
        return not self._ways and self._lease is None and self._connecting is None

    async def listen(self, hearer: Hearer, channels: tuple[bytes, ...], *, pool: Pool, password: bytes) -> None:
        """As `Listeners.listen`."""
        self._ways[hearer] = (pool, password)
        self._barred.pop(hearer, None)
        wanted = self._wanted.setdefault(hearer, {})
        for channel in map(clipped, channels):
            self._hearers.setdefault(channel, {})[hearer] = None
            wanted[channel] = None
        while self._lease is None:
            await self._connected()
        await asyncio.gather(*[asyncio.shield(self._ask(channel)) for channel in map(clipped, channels)])

    def lead(self, hearer: Hearer, *, pool: Pool, password: bytes) -> None:
        """As `Listeners.lead`."""
        if hearer in self._ways:
            self._ways[hearer] = (pool, password)
            self._barred.pop(hearer, None)

    def unlisten(self, hearer: Hearer, channels: tuple[bytes, ...] | None) -> None:
        """As `Listeners.unlisten`."""
        wanted = self._wanted.get(hearer)
        if wanted is None:
            return
        for channel in list(wanted) if channels is None else map(clipped, channels):
            if channel not in wanted:
                continue
            del wanted[channel]
            hearers = self._hearers[channel]
            del hearers[hearer]
            if hearers:
                continue
            del self._hearers[channel]
            if channel in self._listening:
                del self._listening[channel]
                self._send(b"UNLISTEN " + _quoted(channel))
        if not wanted:
            del self._wanted[hearer]
            self._ways.pop(hearer, None)
            self._barred.pop(hearer, None)
        self._rest()

    # ── Reader ──

    def receive(self, data: bytes) -> bytes | None:
        """What Postgres sends, asked or not."""
        self._buffer.receive(data)
        while (frame := self._buffer.next_frame()) is not None:
            tag = frame[:1]
            if tag == NOTIFICATION_RESPONSE:
                channel = frame[9 : frame.index(b"\0", 9)]
                for hearer in list(self._hearers.get(channel, ())):
                    hearer.hear(frame)
            elif tag == ERROR_RESPONSE:
                self._error = PostgresError(decode_error(frame[5:]))
            elif tag == READY_FOR_QUERY and self._owed:
                error, self._error = self._error, None
                _settle(self._owed.popleft(), error)
        self._rest()
        return None

    # ── inside ──

    async def _connected(self) -> None:
        """Wait for the connection that is being made, or make it."""
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())
            self._connecting.add_done_callback(_seen)
        await asyncio.shield(self._connecting)

    async def _connect(self) -> None:
        try:
            hearer, (pool, password) = next(iter(self._ways.items()))
            if pool.upstream.group is not None:  # another server may be the primary by now
                pool = self._registry.pool(pool.key, pool.upstream)
            try:
                lease = await self._registry.lease(self._registry.listening_pool(pool), lambda: password)
            except GatewayError as error:
                # Its password may be an old one by now. The next try goes another's way, or all would stay deaf.
                if hearer in self._ways:
                    self._ways[hearer] = self._ways.pop(hearer)
                    if isinstance(error, PasswordFailed):
                        self._barred[hearer] = error
                raise
            self._barred.clear()
            self._lease = lease
            self._buffer = MessageBuffer(max_size=MAX_FRAME, fault=RemoteProtocolError)
            lease.lend(self, self._lose)
        finally:
            self._connecting = None
        self._rest()

    def _ask(self, channel: bytes) -> asyncio.Future[None]:
        answer = self._listening.get(channel)
        if answer is None:
            answer = self._listening[channel] = self._send(b"LISTEN " + _quoted(channel))
        return answer

    def _send(self, text: bytes) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = self._loop.create_future()
        answer.add_done_callback(_seen)
        assert self._lease is not None
        self._owed.append(answer)
        self._lease.backend.write(encode_query(text))
        return answer

    def _rest(self) -> None:
        """Give the backend back when nobody listens any more."""
        if self._ways:
            return
        if self._mending is not None:
            self._mending.cancel()
            self._mending = None
        if self._lease is not None and not self._owed:
            lease, self._lease = self._lease, None
            self._listening.clear()
            lease.take_back()
            lease.release()

    def _lose(self, error: GatewayError | None) -> None:
        """The backend is gone."""
        lease, self._lease = self._lease, None
        owed, self._owed, self._error = self._owed, deque(), None
        self._listening.clear()
        for answer in owed:
            _settle(answer, error)
        if lease is not None:
            lease.take_back()
            lease.release()
        if self._ways and self._mending is None:
            self._mending = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        """Listen to everything again, as soon as that is possible."""
        delay = _FIRST_DELAY
        try:
            while self._ways:
                try:
                    while self._lease is None:
                        await self._connected()
                    asked = [asyncio.shield(self._ask(channel)) for channel in list(self._hearers)]
                    answers = await asyncio.gather(*asked, return_exceptions=True)
                    if refused := next((each for each in answers if isinstance(each, BaseException)), None):
                        raise refused
                except GatewayError as error:
                    if self._lease is not None:  # a standby, say, which refuses to LISTEN: look for another server
                        self._lose(error)
                    if self._barred.keys() == self._ways.keys():
                        for hearer, refused in list(self._barred.items()):
                            hearer.deafen(refused)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _MAX_DELAY)
                else:
                    for hearer in list(self._ways):
                        hearer.hear(_MISSED)
                    return
        finally:
            self._mending = None


def clipped(channel: bytes) -> bytes:
    """A name as Postgres keeps it: cut between characters when it is too long."""
    return channel if len(channel) <= MAX_NAME else channel[:MAX_NAME].decode(errors="ignore").encode()


def _quoted(channel: bytes) -> bytes:
    return b'"%b"' % channel.replace(b'"', b'""')


def _settle(answer: asyncio.Future[None], error: GatewayError | None) -> None:
    if not answer.done():
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


def _seen(answer: "asyncio.Future[None]") -> None:
    """Whoever waited may have left; asyncio would complain that nobody looked."""
    if not answer.cancelled():
        answer.exception()
