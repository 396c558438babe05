"""A logged-in program's messages, moved to and from the backends it borrows, until one side ends it.

`wire.pipeline` decides what goes where and when a backend is needed, `borrowing` gets it; here it is used and given
back, buffers are bounded, and a program that vanishes leaves nothing behind. Which time limit runs, `clocks` says.
"""

import asyncio
import contextlib

from sqlhttp_gateway.errors import (
    BadRequest,
    GatewayError,
    RemoteProtocolError,
    RequestCancelled,
    SendTimeout,
    ShuttingDown,
)
from sqlhttp_gateway.events import Observer, TunnelPinned
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.alarm import Alarm
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.changes import Changes
from sqlhttp_gateway.tunnel.clocks import Clocks
from sqlhttp_gateway.tunnel.granted import Granted
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.outbox import Outbox
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.stream import Stream, StreamMisused
from sqlhttp_gateway.tunnel.trail import Trail
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import MAX_MESSAGE, Pipeline, Residue
from sqlhttp_gateway.wire.tunnel_events import Failed, Greeted, Listen, Outdated, Pinned, Unlisten, Unpinned

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
        borrowing: Borrowing,
        pins: Pins,
        listeners: Listeners,
        greetings: Greetings,
        settings: TunnelSettings,
        observe: Observer,
        granted: Granted | None = None,
        changes: Changes | None = None,
        trail: Trail | None = None,
    ) -> None:
        """`granted` is what a program has that showed a key or a token."""
        self._stream = stream
        self._pipeline = pipeline
        self._borrowing = borrowing
        self._pins = pins
        self._listeners = listeners
        self._greetings = greetings
        self._parameters = logged_in.startup.parameters
        self._granted = granted
        self._changes = changes
        self._trail = trail
        self._settings = settings
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._clocks = Clocks(settings, self._loop.time())
        self._alarm = Alarm(self._clocks, self._fail)
        self._inbox: list[bytes] = []
        self._inbox_size = 0
        self._fed = 0
        """Bytes that the pipeline got since it last had something to say."""
        self._is_held_back = False
        """The program is not read from for now."""
        self._has_left = False
        self._flow = stream.flow(self)
        self._outbox = Outbox(
            self._flow,
            limit=settings.buffer_bytes,
            send_timeout=settings.send_timeout,
            on_full=self._hold_backend,
            on_room=self._resume_backend,
            on_stuck=self._give_up,
        )
        self._greeting = logged_in.greeting
        self._has_spoken = False
        self._lease: Lease | None = None
        self._is_lingering = False
        """It keeps a backend that it does not use, and gives it back as soon as somebody wants it."""
        self._last_words = b""
        self._is_unproven = False
        """Whether the backend is clean is not known yet, nor whether what was sent is done."""
        self._is_unwanted = False
        """The program has asked meanwhile to cancel what it sent."""
        self._cancelling: asyncio.Task[None] | None = None
        self._is_in_doubt = False
        """A signal may still be on its way to the backend."""
        self._draining: asyncio.Task[None] | None = None
        """Waits until Postgres takes more."""
        self._error: GatewayError | None = None
        self._farewell: GatewayError | None = None
        """Why it has to end as soon as no transaction is open."""
        self._is_pinned = False
        self._is_advancing = False
        self._listening: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing is to be moved any more."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when it is over and nothing is left."""
        self._rest = logged_in.rest

    async def run(self) -> GatewayError | None:
        """Move messages until the end; why it ended, or None for an orderly goodbye or a program that just left."""
        watching = self._loop.create_task(self._watch(self._granted)) if self._granted is not None else None
        try:
            if (greeting := self._greetings.find(self._borrowing.pool.key, self._parameters)) is not None:
                self._pipeline.greet(greeting)
                self._flush()
            if self._rest:
                self.take(self._rest)
            self._advance()
            await self._over
            if not self._has_left:
                await self._send_rest()
        finally:
            if not self._over.done():
                self._over.set_result(None)
            await self._flow.stop()
            self._outbox.close()
            self._alarm.stop()
            tasks = [task for task in (self._listening, self._draining, watching) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._borrowing.stop()
            self._listeners.unlisten(self)
            await self._leave()
            self._last_words = b""  # a quarter of a MiB, which would be held until garbage in cycles is collected
            self._inbox.clear()
            self.ended.set_result(None)
        return self._error

    @property
    def state(self) -> str:
        """What it does: active with a backend, waiting for one, or idle."""
        if self._lease is not None and not self._is_lingering:
            return "active"
        return "waiting" if self._pipeline.needs_backend else "idle"

    @property
    def backend_pid(self) -> int:
        """That of the backend it uses; 0 for none."""
        return self._lease.backend.pid if self._lease is not None and not self._is_lingering else 0

    def cancel(self) -> None:
        """The program wants what runs, or waits to run, to be cancelled. Harmless when nothing does."""
        if self._borrowing.is_waiting:
            self._borrowing.interrupt()
        elif self._lease is not None and self._pipeline.is_busy and self._cancelling is None:
            self._is_unwanted = self._is_unproven  # the signal may meet what goes ahead
            self._cancelling = self._loop.create_task(self._cancel(self._lease))

    def drain(self) -> None:
        """End it as soon as no transaction is open."""
        self._farewell = _shutdown()
        self._advance()

    def abort(self) -> None:
        """End it now."""
        self._fail(_shutdown())

    # ── Sink ──

    def take(self, data: bytes) -> None:
        """What the program sent."""
        if self._over.done():
            return
        if not self._has_spoken:
            self._has_spoken = True
            if self._greeting and data.startswith(_TERMINATE):
                self.leave(None)  # it said goodbye before it was let in: there is no need to wait for a backend
                return
        if not self._inbox and self._pass_at_once(data):
            return
        self._inbox.append(data)
        self._inbox_size += len(data) + _PIECE_COST
        self._advance()
        if self._inbox_size > self._settings.buffer_bytes and not self._is_held_back:
            self._is_held_back = True
            self._flow.pause_reading()

    def leave(self, error: StreamMisused | None) -> None:
        """Nothing more comes from the program."""
        if error is not None:
            self._fail(BadRequest(str(error)))
        elif not self._has_left:
            self._has_left = True
            self._finish()

    def go_on(self) -> None:
        """There is room for what the program is to be sent."""
        self._outbox.go_on()

    # ── Reader ──

    def receive(self, data: bytes) -> bytes | None:
        """What the backend sent."""
        if self._over.done():
            return None
        if self._is_lingering:
            self._part()  # nothing was asked, so it is the server's business, and most likely its end
            return None
        self._last_words = data
        try:
            self._pipeline.receive_backend(data)
            if self._is_unproven:
                self._prove()
            if self._changes is not None:
                self._changes.said(data)
            self._flush()
        except RemoteProtocolError as error:
            self._flush()
            self._fail(error)
        except Exception as bug:
            self._crash(bug)
        self._advance()
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

    def _pass_at_once(self, data: bytes) -> bool:
        """Send one whole question on, if nothing stands in its way: all that `_advance` would do with it, in a third of
        the time (of 7 µs up to the write, 5). False, and nothing has happened, for anything else.
        """
        lease = self._lease
        if (
            lease is None
            or self._is_advancing
            or self._error is not None
            or self._farewell is not None
            or self._outbox.is_full
            or lease.backend.is_backed_up
        ):
            return False
        try:
            frames = self._pipeline.pass_whole(data)
            if frames is None:
                return False
            if self._is_lingering:
                self._stay()
            if self._changes is not None:
                self._changes.sent(data)
            if self._trail is not None:
                self._trail.sent(data)
            lease.backend.write(frames)
            self._fed = 0
            self._clocks.asked(self._loop.time(), is_pinned=self._is_pinned)
            self._alarm.set()
        except Exception as bug:
            self._crash(bug)
        return True

    def _advance(self) -> None:
        """Do all that can be done now. Whatever changes something calls this."""
        if self._is_advancing or self._over.done():
            return
        self._is_advancing = True
        try:
            while self._step():
                pass
            self._alarm.set()
        except Exception as bug:
            self._crash(bug)
        finally:
            self._is_advancing = False

    def _step(self) -> bool:
        """One step; False when nothing can be done until something happens."""
        pipeline, lease = self._pipeline, self._lease
        if self._inbox:
            if self._is_lingering:
                self._stay()
            self._feed()
        if pipeline.is_finished or self._error is not None:
            self._finish()
            return False
        if lease is None:
            if pipeline.needs_backend:
                return not self._borrowing.is_waiting and self._borrow()
        elif pipeline.may_release:
            if self._cancelling is not None:
                return False  # its signal could meet the next user: its end calls again
            if self._farewell is None and (self._is_lingering or self._linger(lease)):
                return False
            self._give_back(lease)
            return True
        elif lease.backend.is_backed_up and self._inbox and self._draining is None:
            self._draining = self._loop.create_task(self._drain_backend(lease))
        if self._farewell is not None and not pipeline.is_busy and not pipeline.in_transaction:
            self._fail(self._farewell)
            return False
        return bool(self._inbox) and self._may_feed

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
                if self._is_held_back:
                    self._is_held_back = False
                    self._flow.resume_reading()
                self._clocks.touch(self._loop.time())
                self._fed += len(data)
                if self._changes is not None:
                    self._changes.sent(data)
                if self._trail is not None:
                    self._trail.sent(data)
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
            if self._trail is not None:
                self._trail.said(data)
            if self._greeting:
                self._outbox.put(self._greeting + data)
                self._outbox.cut()  # drivers count on the first query's answer being a message of its own
                self._greeting = b""
            else:
                self._outbox.put(data)
        while (event := pipeline.next_event()) is not None:
            match event:
                case Failed():
                    self._error = self._error or self._explained(event.error)
                case Pinned() if not self._is_pinned:
                    self._pin(event.pin)
                case Unpinned() if not pipeline.pins:
                    self._unpin()
                case Greeted():
                    self._greetings.keep(self._borrowing.pool.key, self._parameters, event.greeting)
                case Outdated():
                    self._greetings.forget(self._borrowing.pool.key)
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

    async def _listen(self, channels: tuple[bytes, ...]) -> None:
        try:
            await self._listeners.listen(self, channels, pool=self._borrowing.pool, password=self._borrowing.secret())
        except GatewayError:
            self._listeners.unlisten(self, channels)
            self._pipeline.listen_alone()
        else:
            self._pipeline.listening(channels)
        self._flush()
        self._advance()

    def _pin(self, pin: Pin) -> None:
        pool = self._borrowing.pool
        self._observe(TunnelPinned(str(pool.key), pin))
        try:
            self._pins.enter(pool)
        except GatewayError as error:
            self._fail(error)
        else:
            self._is_pinned = True

    def _unpin(self) -> None:
        if self._is_pinned:
            self._is_pinned = False
            self._pins.leave(self._borrowing.pool)

    async def _watch(self, granted: Granted) -> None:
        self._farewell = await granted.watch()
        self._advance()

    def _explained(self, error: GatewayError) -> GatewayError:
        return self._granted.explained(error, self._borrowing.pool) if self._granted is not None else error

    # ── backends ──

    def _borrow(self) -> bool:
        """Get a backend at once, or begin to wait in line for one."""
        try:
            lease = self._borrowing.at_once()
        except GatewayError as error:
            self._decline(error)
            return True
        if lease is None:
            self._borrowing.wait(self._end_wait, takes_unclean=self._pipeline.takes_unclean)
            return False
        self._use(lease)
        return True

    def _end_wait(self, found: Lease | BaseException) -> None:
        """There is a backend, or there will be none."""
        try:
            if isinstance(found, GatewayError):
                self._decline(found)
            elif isinstance(found, BaseException):
                self._crash(found)
            elif self._over.done():
                found.release()
                return
            else:
                self._use(found)
        except Exception as bug:
            self._crash(bug)
        self._advance()

    def _decline(self, error: GatewayError) -> None:
        """There is no backend to be had."""
        if self._over.done():
            return
        error = self._explained(error)
        if self._greeting:
            self._fail(error)
        else:
            self._pipeline.decline(error)
            self._flush()

    def _use(self, lease: Lease) -> None:
        self._borrowing.pool = lease.pool  # another object than before, if nobody had needed it for long
        self._lease = lease
        lease.lend(self, self._lose)
        if self._outbox.is_full:
            self._hold_backend()
        self._is_unproven = lease.ahead is not None
        self._pipeline.attach(lease.backend.tunnels, self._borrowing.make_prologue(lease.backend), ahead=lease.ahead)
        if not self._is_pinned and self._pipeline.pins:
            self._pin(min(self._pipeline.pins))
        self._flush()

    def _prove(self) -> None:
        """Something has come from a backend of which it was not known whether it is clean."""
        lease, pipeline = self._lease, self._pipeline
        if lease is None or pipeline.is_cleansing:
            if pipeline.has_failed_ahead:
                self._last_words = b""  # they are not for the program
            return
        self._is_unproven = False
        if not pipeline.is_refused:
            lease.was_cleansed()
            self._is_unwanted = False
            return
        self._lease = None
        self._last_words = b""
        self._flush()
        pipeline.detach()
        lease.take_back(in_transaction=True, is_deep=True)
        if self._is_unwanted:
            self._is_unwanted = False
            lease.drop("unclean")  # and the signal has nobody to meet
            self._decline(RequestCancelled("canceling statement due to user request"))
        else:
            self._borrowing.cleanse(lease, self._end_wait)

    def _give_back(self, lease: Lease) -> None:
        """The transaction is over and nothing holds the backend."""
        if self._is_lingering:
            self._stay()
        self._lease = None
        self._last_words = b""
        has_parsed, residue = self._pipeline.has_parsed, self._pipeline.detach()
        in_doubt, self._is_in_doubt = self._is_in_doubt, False
        if residue is Residue.LIBRARY or in_doubt:
            lease.drop("unclean")
        else:
            lease.take_back(is_deep=residue is Residue.STATEMENTS, has_parsed=has_parsed)
            lease.release()
        self._clocks.see(self._loop.time(), is_busy=False, in_transaction=False, is_pinned=self._is_pinned)

    # ── Holder ──

    def let_go(self) -> None:
        """Somebody else wants the backend, or it was not used for long."""
        assert self._lease is not None
        self._give_back(self._lease)

    def _linger(self, lease: Lease) -> bool:
        """Keep the backend for the next transaction, as long as nobody else wants it; False if somebody does."""
        seconds = self._settings.linger
        pool = lease.pool
        if not self._borrowing.may_linger:
            return False  # others of its tenant may want its permit, who do not wait in the pool's line
        if not seconds or self._farewell is not None or self._is_in_doubt or not pool.may_linger(lease.backend):
            return False
        self._is_lingering = True
        pool.lingering.enter(self, seconds)
        return True

    def _stay(self) -> None:
        """The next transaction begins on the same backend."""
        self._is_lingering = False
        self._borrowing.pool.lingering.leave(self)

    def _part(self) -> None:
        """The backend that it lingers on is not what it was: nobody is to have it."""
        self._stay()
        lease, self._lease = self._lease, None
        assert lease is not None
        self._pipeline.detach()
        lease.drop("lost")

    async def _leave(self) -> None:
        """The program is gone or refused: nothing of it may stay, and what it runs must stop."""
        if self._changes is not None:
            self._changes.left(is_busy=self._lease is not None and self._pipeline.is_busy)
        if self._trail is not None:
            self._trail.left()
        self._unpin()
        if self._cancelling is not None:
            await asyncio.shield(self._cancelling)
        lease = self._lease
        if lease is None:
            return
        is_in_step = not isinstance(self._error, RemoteProtocolError)
        if is_in_step and self._pipeline.may_release:
            self._give_back(lease)
            return
        self._lease = None
        if self._pipeline.is_busy or self._is_in_doubt or not is_in_step:
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
        if error is None or self._lease is None:
            return
        if self._is_lingering:
            self._part()  # and nobody need know
            return
        if self._is_unproven and self._pipeline.has_failed_ahead:
            self._pipeline.refuse_ahead()  # as it was about to end
            self._prove()
            return
        if _FATAL in self._last_words:
            self._error = self._error or error  # Postgres has said why itself
            self._finish()
        else:
            self._fail(error)

    def _hold_backend(self) -> None:
        if self._lease is not None:
            self._lease.backend.pause_reading()

    def _resume_backend(self) -> None:
        if self._lease is not None:
            self._lease.backend.resume_reading()
        self._advance()

    async def _drain_backend(self, lease: Lease) -> None:
        await lease.backend.drain()
        self._draining = None
        self._advance()

    async def _cancel(self, lease: Lease) -> None:
        if not await lease.request_cancel() and lease is self._lease:
            self._is_in_doubt = True
        self._cancelling = None
        self._advance()

    # ── the end ──

    def _fail(self, error: GatewayError) -> None:
        """End the tunnel and say why."""
        if self._error is None and not self._over.done():
            self._error = error
            self._outbox.put(self._greeting + encode_error_response(error, severity="FATAL"))
            self._greeting = b""
        self._finish()

    def _crash(self, bug: BaseException) -> None:
        """`run` is to raise it: whoever called is the event loop or a backend, and neither is to suffer."""
        if not self._over.done():
            self._over.set_exception(bug)

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _give_up(self) -> None:
        """The program takes nothing."""
        self._error = self._error or SendTimeout(
            f"the program took no answer for {self._settings.send_timeout:g} s (tunnel.send_timeout)"
        )
        self._stream.abort()
        self.leave(None)

    async def _send_rest(self) -> None:
        """What was put last has to reach the transport, if the program reads at all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.send_timeout):
                await self._outbox.wait_empty()


def _shutdown() -> ShuttingDown:
    return ShuttingDown("terminating connection due to administrator command")
