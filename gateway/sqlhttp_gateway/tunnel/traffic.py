"""A logged-in program's messages, moved to and from the backends it borrows, until one side ends it.

`wire.pipeline` decides what goes where and when a backend is needed; here backends are leased and given back, buffers
are bounded, and a program that vanishes leaves nothing behind. Which time limit runs is for `clocks` to say.
"""

import asyncio
from collections import deque

from sqlhttp_gateway.errors import (
    BadRequest,
    GatewayError,
    PinsExhausted,
    RemoteProtocolError,
    RequestCancelled,
    SendTimeout,
    ShuttingDown,
)
from sqlhttp_gateway.events import Observer, TunnelPinned
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.clocks import Clocks
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.outbox import Outbox
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.stream import Stream, StreamClosed, StreamMisused
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import MAX_MESSAGE, Failed, Listen, Pinned, Pipeline, Residue, Unlisten, Unpinned

_PIECE_COST = 64
"""Bytes that keeping a piece costs beside its content; a program may send a byte at a time."""
_UNREAD = 4
"""Times the buffer that may wait for a program where it cannot be held back: notifications come when they come."""
MAX_HELD = 10_000
"""Notifications kept for a program that is in a transaction."""
_FATAL = b"\0VFATAL\0"
_TERMINATE = b"X"


class Traffic:
    """One program's traffic. `run` returns when it is over."""

    def __init__(
        self,
        stream: Stream,
        logged_in: LoggedIn,
        pipeline: Pipeline,
        *,
        registry: PoolRegistry,
        pins: Pins,
        listeners: Listeners,
        settings: TunnelSettings,
        observe: Observer,
    ) -> None:
        self._stream = stream
        self._password = logged_in.password
        self._pool = logged_in.caller.pool
        self._pipeline = pipeline
        self._registry = registry
        self._pins = pins
        self._listeners = listeners
        self._settings = settings
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._clocks = Clocks(settings, self._loop.time())
        self._inbox: deque[bytes] = deque()
        self._inbox_size = 0
        self._fed = 0
        """Bytes that the pipeline got since it last had something to say."""
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._outbox = Outbox(
            stream,
            limit=settings.buffer_bytes,
            send_timeout=settings.send_timeout,
            on_full=self._hold_backend,
            on_room=self._resume_backend,
        )
        self._greeting = logged_in.greeting
        self._has_spoken = False
        self._lease: Lease | None = None
        self._last_words = b""
        self._interrupt: asyncio.Future[None] | None = None
        """To be done when the program cancels while it waits for a backend."""
        self._cancelling: asyncio.Task[None] | None = None
        self._is_in_doubt = False
        """A signal may still be on its way to the backend."""
        self._error: GatewayError | None = None
        self._is_draining = False
        self._is_pinned = False
        self._listening: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when it is over."""
        if logged_in.rest:
            self._take_in(logged_in.rest)

    async def run(self) -> GatewayError | None:
        """Move messages until the end; why it ended, or None for an orderly goodbye or a program that just left."""
        receiver = self._loop.create_task(self._receive())
        sender = self._loop.create_task(self._send())
        try:
            await self._serve()
            if not self._gone.done():
                await self._send_rest()
        finally:
            tasks = [task for task in (receiver, sender, self._listening) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._listeners.unlisten(self)
            await self._leave()
            self.ended.set_result(None)
        return self._error

    @property
    def state(self) -> str:
        """What it does: active with a backend, waiting for one, or idle."""
        if self._lease is not None:
            return "active"
        return "waiting" if self._pipeline.needs_backend else "idle"

    @property
    def backend_pid(self) -> int:
        """That of the backend it has; 0 for none."""
        return self._lease.backend.pid if self._lease is not None else 0

    def cancel(self) -> None:
        """The program wants what runs, or waits to run, to be cancelled. Harmless when nothing does."""
        if self._interrupt is not None and not self._interrupt.done():
            self._interrupt.set_result(None)
        elif self._lease is not None and self._pipeline.is_busy and self._cancelling is None:
            self._cancelling = self._loop.create_task(self._cancel(self._lease))

    def drain(self) -> None:
        """End it as soon as no transaction is open."""
        self._is_draining = True
        self._wake.set()

    def abort(self) -> None:
        """End it now."""
        self._fail(_shutdown())

    # ── Reader ──

    def receive(self, data: bytes) -> bytes | None:
        """What the backend sent."""
        self._last_words = data
        try:
            self._pipeline.receive_backend(data)
        except RemoteProtocolError as error:
            self._fail(error)
        self._flush()
        return None

    # ── Hearer ──

    def hear(self, frame: bytes) -> None:
        """A notification on a channel that the program listens to."""
        self._pipeline.notify(frame)
        self._flush()
        if self._outbox.size > _UNREAD * self._settings.buffer_bytes:
            self._fail(SendTimeout("the program does not read its notifications"))
        elif self._pipeline.pending_notifications > MAX_HELD:
            self._fail(SendTimeout(f"more than {MAX_HELD} notifications wait for the end of a transaction"))

    # ── inside ──

    async def _serve(self) -> None:
        pipeline = self._pipeline
        while self._error is None and not self._gone.done():
            self._feed()
            if pipeline.is_finished or self._error is not None:
                break
            if pipeline.needs_backend and self._lease is None:
                await self._borrow()
            elif self._lease is not None and pipeline.may_release:
                await self._give_back()
            elif self._is_draining and not pipeline.is_busy and not pipeline.in_transaction:
                self._fail(_shutdown())
            elif not self._inbox or not self._may_feed:
                await self._sleep()

    @property
    def _may_feed(self) -> bool:
        """The pipeline can take more of what the program sent."""
        if self._lease is None:
            if self._pipeline.needs_backend:
                return False
        elif self._lease.backend.is_backed_up:
            return False  # Postgres does not take what it was sent
        # A program that does not read its answers is not asked for more questions. What the pipeline keeps back
        # until something else is answered has to be bounded, too; a whole message is the least it must be given.
        return not self._outbox.is_full and self._fed <= MAX_MESSAGE + self._settings.buffer_bytes

    def _feed(self) -> None:
        """Give the pipeline what the program sent, as far as there is somebody to pass it to."""
        try:
            while self._inbox and self._may_feed:
                data = self._inbox[0] if len(self._inbox) == 1 else b"".join(self._inbox)
                self._inbox.clear()
                self._inbox_size = 0
                self._room.set()
                self._clocks.touch(self._loop.time())
                self._fed += len(data)
                self._pipeline.receive_frontend(data)
                self._flush()
        except BadRequest as error:
            self._flush()
            self._fail(error)

    def _flush(self) -> None:
        """Send on what the pipeline has to say, and hear what else it says."""
        pipeline = self._pipeline
        data = pipeline.to_backend()
        if data:
            self._fed = 0
            if self._lease is not None:
                self._lease.backend.write(data)
        data = pipeline.to_frontend()
        if data:
            self._fed = 0
            if self._greeting:
                self._outbox.put(self._greeting + data)
                self._outbox.cut()  # drivers count on the first query's answer being a message of its own
                self._greeting = b""
            else:
                self._outbox.put(data)
        while (event := pipeline.next_event()) is not None:
            match event:
                case Failed():
                    self._error = self._error or event.error
                case Pinned() if not self._is_pinned:
                    self._pin(event.pin)
                case Unpinned() if not pipeline.pins:
                    self._unpin()
                case Listen():
                    self._listening = self._loop.create_task(self._listen(event.channels))
                case Unlisten():
                    self._listeners.unlisten(self, event.channels)
                case _:
                    pass
        self._clocks.see(
            self._loop.time(),
            is_busy=pipeline.is_busy and self._lease is not None,
            in_transaction=pipeline.in_transaction,
            is_pinned=self._is_pinned,
        )
        self._wake.set()

    async def _listen(self, channels: tuple[bytes, ...]) -> None:
        try:
            await self._listeners.listen(self, channels, pool=self._pool, password=self._password)
        except GatewayError as error:
            self._fail(error)
            return
        self._pipeline.listening(channels)
        self._flush()

    def _pin(self, pin: Pin) -> None:
        self._observe(TunnelPinned(str(self._pool.key), pin))
        self._is_pinned = self._pins.try_enter(self._pool)
        if not self._is_pinned:
            self._fail(
                PinsExhausted(
                    f"{self._pins.limit(self._pool)} connections of database {self._pool.key.database}, role "
                    f"{self._pool.key.role} already stay with one program each (tunnel.max_pinned)",
                    hint="Use what ends with its transaction (SET LOCAL, pg_advisory_xact_lock, ON COMMIT DROP), "
                    "or raise tunnel.max_pinned.",
                )
            )

    def _unpin(self) -> None:
        if self._is_pinned:
            self._is_pinned = False
            self._pins.leave(self._pool)

    # ── backends ──

    async def _borrow(self) -> None:
        """Get a backend, waiting in line for it as long as the program is there."""
        try:
            lease = self._registry.try_lease(self._pool) or await self._wait_in_line()
        except GatewayError as error:
            if self._greeting:
                self._fail(error)
            else:
                self._pipeline.decline(error)
                self._flush()
            return
        if lease is None:
            return
        self._pool = lease.pool  # another object than before, if nobody had needed it for long
        self._lease = lease
        lease.lend(self, self._lose)
        if self._outbox.is_full:
            self._hold_backend()
        self._pipeline.attach(lease.backend.tunnels)
        if not self._is_pinned and self._pipeline.pins:
            self._pin(min(self._pipeline.pins))
        self._flush()

    async def _wait_in_line(self) -> Lease | None:
        """A lease; None when the program has gone meanwhile.

        Raises:
            RequestCancelled: the program has thought better of it.
            GatewayError: there is none to be had.
        """
        leasing = self._loop.create_task(self._registry.lease(self._pool, lambda: self._password))
        self._interrupt = interrupt = self._loop.create_future()
        try:
            await asyncio.wait((leasing, self._gone, interrupt), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            leasing.add_done_callback(_release)
            leasing.cancel()
            raise
        finally:
            self._interrupt = None
        if not leasing.done():
            leasing.cancel()
            await asyncio.wait({leasing})
        if leasing.cancelled():
            if interrupt.done():
                raise RequestCancelled("canceling statement due to user request")
            return None
        lease = leasing.result()
        if self._gone.done():
            lease.release()
            return None
        return lease

    async def _give_back(self) -> None:
        """The transaction is over and nothing holds the backend."""
        if self._cancelling is not None:
            await asyncio.shield(self._cancelling)  # or its signal could meet the next user
            if not self._pipeline.may_release:
                return
        lease = self._lease
        assert lease is not None
        self._lease = None
        self._last_words = b""
        residue = self._pipeline.detach()
        in_doubt, self._is_in_doubt = self._is_in_doubt, False
        if residue is Residue.LIBRARY or in_doubt:
            lease.drop("unclean")
        else:
            lease.take_back(is_deep=residue is Residue.STATEMENTS)
            lease.release()
        self._clocks.see(self._loop.time(), is_busy=False, in_transaction=False, is_pinned=self._is_pinned)

    async def _leave(self) -> None:
        """The program is gone or refused: nothing of it may stay, and what it runs must stop."""
        self._unpin()
        lease, self._lease = self._lease, None
        if self._cancelling is not None:
            await asyncio.shield(self._cancelling)
        if lease is None:
            return
        if self._pipeline.is_busy or self._is_in_doubt or isinstance(self._error, RemoteProtocolError):
            lease.drop("abandoned")
            return
        in_transaction = self._pipeline.in_transaction
        if self._pipeline.detach() is Residue.LIBRARY:
            lease.drop("unclean")
        else:
            lease.take_back(in_transaction=in_transaction, is_deep=True)
            lease.release()

    def _lose(self, error: GatewayError | None) -> None:
        """The backend's connection is gone."""
        if error is None:
            return
        if _FATAL in self._last_words:
            self._error = self._error or error  # Postgres has said why itself
            self._wake.set()
        else:
            self._fail(error)

    def _hold_backend(self) -> None:
        if self._lease is not None:
            self._lease.backend.pause_reading()

    def _resume_backend(self) -> None:
        if self._lease is not None:
            self._lease.backend.resume_reading()
        self._wake.set()

    async def _cancel(self, lease: Lease) -> None:
        if not await lease.request_cancel():
            self._is_in_doubt = True
        self._cancelling = None

    # ── the end ──

    def _fail(self, error: GatewayError) -> None:
        """End the tunnel and say why."""
        if self._error is None:
            self._error = error
            self._outbox.put(self._greeting + encode_error_response(error, severity="FATAL"))
            self._greeting = b""
        self._wake.set()

    def _go(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._wake.set()

    async def _send_rest(self) -> None:
        """What was put last has to reach the transport, if the program reads at all."""
        emptied = self._loop.create_task(self._outbox.wait_empty())
        try:
            await asyncio.wait(
                (emptied, self._gone), timeout=self._settings.send_timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            emptied.cancel()

    async def _sleep(self) -> None:
        """Wait until something happens, or has not happened for too long."""
        lease = self._lease
        drained: asyncio.Task[None] | None = None
        if lease is not None and lease.backend.is_backed_up:
            drained = self._loop.create_task(lease.backend.drain())
            drained.add_done_callback(lambda _: self._wake.set())
        try:
            async with asyncio.timeout_at(self._clocks.deadline()):
                await self._wake.wait()
        except TimeoutError:
            error = self._clocks.passed(self._loop.time())
            if error is not None:
                self._fail(error)
        finally:
            if drained is not None:
                drained.cancel()
        self._wake.clear()

    # ── the two pumps ──

    def _take_in(self, data: bytes) -> None:
        if not self._has_spoken and self._greeting and data.startswith(_TERMINATE):
            self._go()  # it said goodbye before it was let in: there is no need to wait for a backend
            return
        self._has_spoken = True
        self._inbox.append(data)
        self._inbox_size += len(data) + _PIECE_COST
        self._wake.set()

    async def _receive(self) -> None:
        try:
            while True:
                data = await self._stream.receive()
                if data:
                    self._take_in(data)
                while self._inbox_size > self._settings.buffer_bytes:
                    self._room.clear()
                    await self._room.wait()
        except StreamMisused as error:
            self._fail(BadRequest(str(error)))
        except StreamClosed:
            self._go()

    async def _send(self) -> None:
        try:
            await self._outbox.run()
        except StreamClosed:
            self._go()
        except TimeoutError:
            self._error = self._error or SendTimeout(
                f"the program took no answer for {self._settings.send_timeout:g} s (tunnel.send_timeout)"
            )
            self._stream.abort()
            self._go()


def _shutdown() -> ShuttingDown:
    return ShuttingDown("terminating connection due to administrator command")


def _release(leasing: "asyncio.Task[Lease]") -> None:
    """A lease that came in the tick in which nobody wanted it any more."""
    if not leasing.cancelled() and leasing.exception() is None:
        leasing.result().release()
