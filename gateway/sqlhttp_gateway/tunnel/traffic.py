"""A logged-in program's messages, taken where they arrive, and what it is told, until one side ends it.

`wire.pipeline` decides what goes where and when a backend is needed, and `held` has that; which time limit runs,
`clocks` says. A program that vanishes leaves nothing behind.
"""

import asyncio
import contextlib

from sqlhttp_gateway.errors import (
    BadRequest,
    GatewayError,
    PasswordFailed,
    SendTimeout,
    ShuttingDown,
)
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.alarm import Alarm
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.changes import Changes
from sqlhttp_gateway.tunnel.clocks import Clocks
from sqlhttp_gateway.tunnel.ending import Ending
from sqlhttp_gateway.tunnel.granted import Granted
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.tunnel.held import Held
from sqlhttp_gateway.tunnel.inbox import Inbox
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.outbox import Outbox
from sqlhttp_gateway.tunnel.stream import Stream, StreamMisused
from sqlhttp_gateway.tunnel.trail import Trail
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.pipeline import MAX_MESSAGE, Pipeline
from sqlhttp_gateway.wire.tunnel_events import Failed, Greeted, Listen, Outdated, Pinned, Unlisten, Unpinned

_UNREAD = 4
"""Times the buffer that may wait for a program where it cannot be held back: notifications come when they come."""
MAX_HELD = 10_000
"""Notifications kept for a program that is in a transaction."""
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
        listeners: Listeners,
        greetings: Greetings,
        settings: TunnelSettings,
        granted: Granted | None = None,
        changes: Changes | None = None,
        trail: Trail | None = None,
    ) -> None:
        """`granted` is what a program has that showed a key or a token."""
        self._stream = stream
        self._pipeline = pipeline
        self._borrowing = borrowing
        self._listeners = listeners
        self._greetings = greetings
        self._greeting = logged_in.greeting
        """What goes with the first thing that the program is told."""
        self._parameters = logged_in.startup.parameters
        self._rest = logged_in.rest
        self._granted = granted
        self._changes = changes
        self._trail = trail
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._ending = ending = Ending()
        self._over = ending.over
        self._clocks = Clocks(settings, self._loop.time())
        self._alarm = Alarm(self._clocks, ending.fail)
        self._held = Held(
            pipeline,
            borrowing,
            ending=ending,
            linger=settings.linger,
            changes=changes,
            flush=self._flush,
            advance=self._advance,
        )
        self._flow = stream.flow(self)
        self._inbox = Inbox(self._flow, limit=settings.buffer_bytes)
        self._outbox = Outbox(
            self._flow,
            limit=settings.buffer_bytes,
            send_timeout=settings.send_timeout,
            on_full=self._held.slow_down,
            on_room=self._go_on,
            on_stuck=self._give_up,
        )
        self._fed = 0
        """Bytes that the pipeline got since it last had something to say."""
        self._has_spoken = False
        self._has_left = False
        self._is_advancing = False
        self._listening: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when it is over and nothing is left."""

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
                await self._say_goodbye()
        finally:
            self._ending.finish()
            await self._flow.stop()
            self._outbox.close()
            self._alarm.stop()
            tasks = [task for task in (self._listening, watching) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._listeners.unlisten(self)
            if self._changes is not None:
                self._changes.left(is_busy=self._held.lease is not None and self._pipeline.is_busy)
            if self._trail is not None:
                self._trail.left()
            await self._held.leave()
            self._inbox.clear()
            self.ended.set_result(None)
        return self._ending.error

    @property
    def state(self) -> str:
        """What it does: active with a backend, waiting for one, or idle."""
        if self._held.in_use is not None:
            return "active"
        return "waiting" if self._pipeline.needs_backend else "idle"

    @property
    def backend_pid(self) -> int:
        """That of the backend it uses; 0 for none."""
        lease = self._held.in_use
        return lease.backend.pid if lease is not None else 0

    def cancel(self) -> None:
        """The program wants what runs, or waits to run, to be cancelled. Harmless when nothing does."""
        self._held.cancel()

    def drain(self) -> None:
        """End it as soon as no transaction is open."""
        self._ending.farewell = _shutdown()
        self._advance()

    def abort(self) -> None:
        """End it now."""
        self._ending.fail(_shutdown())

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
        inbox = self._inbox
        if not inbox.pieces and self._pass_at_once(data):
            return
        inbox.put(data)
        self._advance()
        inbox.hold_back()

    def leave(self, error: StreamMisused | None) -> None:
        """Nothing more comes from the program."""
        if error is not None:
            self._ending.fail(BadRequest(str(error)))
        else:
            self._has_left = True
            self._ending.finish()

    def go_on(self) -> None:
        """There is room for what the program is to be sent."""
        self._outbox.go_on()

    # ── Hearer ──

    def hear(self, frame: bytes) -> None:
        """A notification on a channel that the program listens to."""
        self._pipeline.notify(frame)
        self._flush()
        if self._outbox.size > _UNREAD * self._settings.buffer_bytes:
            self._ending.fail(SendTimeout("the program does not read its notifications"))
        elif self._pipeline.pending_notifications > MAX_HELD:
            self._ending.fail(SendTimeout(f"more than {MAX_HELD} notifications wait for the end of a transaction"))

    def deafen(self, error: PasswordFailed) -> None:
        """It would wait in vain: it is to log in again, as it would have to if the backend had been its own."""
        self._ending.farewell = self._borrowing.explained(error)
        self._advance()

    # ── inside ──

    def _pass_at_once(self, data: bytes) -> bool:
        """Send one whole question on, if nothing stands in its way: all that `_advance` would do with it, in a third of
        the time (of 7 µs up to the write, 5). False, and nothing has happened, for anything else.
        """
        held, ending = self._held, self._ending
        lease = held.lease
        if (
            lease is None
            or self._is_advancing
            or ending.error is not None
            or ending.farewell is not None
            or self._outbox.is_full
            or lease.backend.is_backed_up
        ):
            return False
        try:
            frames = self._pipeline.pass_whole(data)
            if frames is None:
                return False
            if held.is_lingering:
                held.stay()
            if self._changes is not None:
                self._changes.sent(data)
            if self._trail is not None:
                self._trail.sent(data)
            lease.backend.write(frames)
            self._fed = 0
            self._clocks.asked(self._loop.time(), is_pinned=self._borrowing.is_pinned)
            self._alarm.set()
        except Exception as bug:
            self._ending.crash(bug)
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
            self._ending.crash(bug)
        finally:
            self._is_advancing = False

    def _step(self) -> bool:
        """One step; False when nothing can be done until something happens."""
        pipeline, held, ending = self._pipeline, self._held, self._ending
        if self._inbox.pieces:
            if held.is_lingering:
                held.stay()
            self._feed()
        if pipeline.is_finished or ending.error is not None:
            ending.finish()
            return False
        if held.lease is None:
            if pipeline.needs_backend:
                return held.get()
        elif pipeline.may_release:
            return held.settle()
        elif self._inbox.pieces and held.lease.backend.is_backed_up:
            held.wait_for_room()
        if ending.farewell is not None and not pipeline.is_busy and not pipeline.in_transaction:
            ending.fail(ending.farewell)
            return False
        return bool(self._inbox.pieces) and self._may_feed

    @property
    def _may_feed(self) -> bool:
        """The pipeline can take more of what the program sent."""
        lease = self._held.lease
        if lease is None:
            if self._pipeline.needs_backend:
                return False
        elif lease.backend.is_backed_up:
            return False  # Postgres does not take what it was sent
        # A program that does not read its answers is not asked for more questions. What the pipeline keeps back
        # until something else is answered has to be bounded, too; a whole message is the least it must be given.
        return not self._outbox.is_full and self._fed <= MAX_MESSAGE + self._settings.buffer_bytes

    def _feed(self) -> None:
        """Give the pipeline what the program sent, as far as there is somebody to pass it to."""
        try:
            while self._inbox.pieces and self._may_feed:
                data = self._inbox.take()
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
            self._ending.fail(error)

    def _flush(self) -> None:
        """Send on what the pipeline has to say, and hear what else it says."""
        pipeline, lease = self._pipeline, self._held.lease
        data = pipeline.to_backend()
        if data:
            self._fed = 0
            if lease is not None:
                lease.backend.write(data)
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
                    self._ending.was_told(self._borrowing.explained(event.error))
                case Pinned():
                    self._held.pin(event.pin)
                case Unpinned() if not pipeline.pins:
                    self._borrowing.unpin()
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
            is_busy=pipeline.is_busy and lease is not None,
            in_transaction=pipeline.in_transaction,
            is_pinned=self._borrowing.is_pinned,
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

    async def _watch(self, granted: Granted) -> None:
        self._ending.farewell = refused = await granted.watch()
        self._advance()
        if self._settings.revoked_timeout:
            await asyncio.sleep(self._settings.revoked_timeout)
            self._ending.fail(refused)

    def _go_on(self) -> None:
        """The program reads again what it is sent."""
        self._held.speed_up()
        self._advance()

    # ── the end ──

    def _give_up(self) -> None:
        """The program takes nothing."""
        self._ending.was_told(
            SendTimeout(f"the program took no answer for {self._settings.send_timeout:g} s (tunnel.send_timeout)")
        )
        self._stream.abort()
        self.leave(None)

    async def _say_goodbye(self) -> None:
        """Why it ends, and what was put last, has to reach the transport, if the program reads at all."""
        if (error := self._ending.untold) is not None:
            self._outbox.put(self._greeting + encode_error_response(error, severity="FATAL"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.send_timeout):
                await self._outbox.wait_empty()


def _shutdown() -> ShuttingDown:
    return ShuttingDown("terminating connection due to administrator command")
