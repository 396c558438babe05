"""The backend that a program has for now: asked for, used, lingered on, and given back or given up.

How one is had, and which may stay, `borrowing` says; what is said over it, the pipeline; when it is needed, `traffic`.
"""

import asyncio
from collections.abc import Callable

from sqlhttp_gateway.errors import GatewayError, RemoteProtocolError, RequestCancelled
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.changes import Changes
from sqlhttp_gateway.tunnel.ending import Ending
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import Pipeline, Residue

_FATAL = b"\0VFATAL\0"


class Held:
    """One program's backend, or its want of one. Also the reader of what that sends."""

    __slots__ = (
        "_advance",
        "_borrowing",
        "_cancelling",
        "_changes",
        "_draining",
        "_ending",
        "_flush",
        "_is_in_doubt",
        "_is_slowed",
        "_is_unproven",
        "_is_unwanted",
        "_last_words",
        "_linger_seconds",
        "_over",
        "_pipeline",
        "is_lingering",
        "lease",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        borrowing: Borrowing,
        *,
        ending: Ending,
        linger: float,
        changes: Changes | None,
        flush: Callable[[], None],
        advance: Callable[[], None],
    ) -> None:
        """`flush` is called when the pipeline may have something to say, `advance` when more can be done than before;
        `linger` is in seconds."""
        self.lease: Lease | None = None
        """None while there is none; to be read only."""
        self.is_lingering = False
        """It is kept and not used, and is given back as soon as somebody wants it."""
        self._pipeline = pipeline
        self._borrowing = borrowing
        self._ending = ending
        self._over = ending.over
        self._linger_seconds = linger
        self._changes = changes
        self._flush = flush
        self._advance = advance
        self._last_words = b""
        self._is_unproven = False
        """Whether the backend is clean is not known yet, nor whether what was sent is done."""
        self._is_unwanted = False
        """The program has asked meanwhile to cancel what it sent."""
        self._is_slowed = False
        """The program does not read, so the backend is not read from either."""
        self._cancelling: asyncio.Task[None] | None = None
        self._is_in_doubt = False
        """A signal may still be on its way to the backend."""
        self._draining: asyncio.Task[None] | None = None
        """Waits until Postgres takes more."""

    @property
    def in_use(self) -> Lease | None:
        """The backend, unless it is only lingered on."""
        return None if self.is_lingering else self.lease

    def get(self) -> bool:
        """Get a backend at once, or begin to wait in line for one; whether that changed anything by now."""
        if self._borrowing.is_waiting:
            return False
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

    def stay(self) -> None:
        """The next transaction begins on the backend that was lingered on."""
        self.is_lingering = False
        self._borrowing.pool.lingering.leave(self)

    def settle(self) -> bool:
        """Nothing depends on the backend: give it back or linger on it; whether it was given back."""
        lease = self.lease
        assert lease is not None
        if self._cancelling is not None:
            return False  # its signal could meet the next user: its end calls again
        if self._ending.farewell is None and (self.is_lingering or self._linger(lease)):
            return False
        self._give_back(lease)
        return True

    def pin(self, pin: Pin) -> None:
        """The backend has to stay, or whoever comes next has; where too many do, the tunnel ends."""
        try:
            self._borrowing.pin(pin)
        except GatewayError as error:
            self._ending.fail(error)

    def wait_for_room(self) -> None:
        """More can be done as soon as Postgres takes what it was sent."""
        if self._draining is None and self.lease is not None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(self.lease))

    def slow_down(self) -> None:
        """Read no more from this backend, nor from another in its place: the program does not read."""
        self._is_slowed = True
        if self.lease is not None:
            self.lease.backend.pause_reading()

    def speed_up(self) -> None:
        """The opposite of `slow_down`."""
        self._is_slowed = False
        if self.lease is not None:
            self.lease.backend.resume_reading()

    def cancel(self) -> None:
        """Cancel what runs, or waits to run. Harmless when nothing does."""
        if self._borrowing.is_waiting:
            self._borrowing.interrupt()
        elif self.lease is not None and self._pipeline.is_busy and self._cancelling is None:
            self._is_unwanted = self._is_unproven  # the signal may meet what goes ahead
            self._cancelling = asyncio.get_running_loop().create_task(self._cancel(self.lease))

    async def leave(self) -> None:
        """The program is gone or refused: nothing of it may stay, and what it runs must stop."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)
        await self._borrowing.stop()
        self._borrowing.unpin()
        if self._cancelling is not None:
            await asyncio.shield(self._cancelling)
        self._end_use()
        self._last_words = b""  # a quarter of a MiB, which would be held until garbage in cycles is collected

    # ── Reader ──

    def receive(self, data: bytes) -> bytes | None:
        """What the backend sent."""
        if self._over.done():
            return None
        if self.is_lingering:
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
            self._ending.fail(error)
        except Exception as bug:
            self._ending.crash(bug)
        self._advance()
        return None

    # ── Holder ──

    def let_go(self) -> None:
        """Somebody else wants the backend, or it was not used for long."""
        assert self.lease is not None
        self._give_back(self.lease)

    # ── getting one ──

    def _end_wait(self, found: Lease | BaseException) -> None:
        """There is a backend, or there will be none."""
        try:
            if isinstance(found, GatewayError) and not self._over.done() and self._borrowing.moves_on(found):
                self.get()
            elif isinstance(found, GatewayError):
                self._decline(found)
            elif isinstance(found, BaseException):
                self._ending.crash(found)
            elif self._over.done():
                found.release()
                return
            else:
                self._use(found)
        except Exception as bug:
            self._ending.crash(bug)
        self._advance()

    def _decline(self, error: GatewayError) -> None:
        """There is no backend to be had."""
        if self._over.done():
            return
        error = self._borrowing.explained(error)
        if self._pipeline.is_greeted:
            self._pipeline.decline(error)
            self._flush()
        else:
            self._ending.fail(error)

    def _use(self, lease: Lease) -> None:
        self._borrowing.pool = lease.pool  # another object than before, if nobody had needed it for long
        self.lease = lease
        lease.lend(self, self._lose)
        if self._is_slowed:
            lease.backend.pause_reading()
        self._is_unproven = lease.ahead is not None
        self._pipeline.attach(lease.backend.tunnels, self._borrowing.make_prologue(lease.backend), ahead=lease.ahead)
        if self._pipeline.pins:
            self.pin(min(self._pipeline.pins))
        self._flush()

    def _prove(self) -> None:
        """Something has come from a backend of which it was not known whether it is clean."""
        lease, pipeline = self.lease, self._pipeline
        if lease is None or pipeline.is_cleansing:
            if pipeline.has_failed_ahead:
                self._last_words = b""  # they are not for the program
            return
        self._is_unproven = False
        if not pipeline.is_refused:
            lease.was_cleansed()
            self._is_unwanted = False
            return
        self.lease = None
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

    # ── the end of having one ──

    def _give_back(self, lease: Lease) -> None:
        """The transaction is over and nothing holds the backend."""
        if self.is_lingering:
            self.stay()
        self.lease = None
        self._last_words = b""
        has_parsed, residue = self._pipeline.has_parsed, self._pipeline.detach()
        in_doubt, self._is_in_doubt = self._is_in_doubt, False
        if residue is Residue.LIBRARY or in_doubt:
            lease.drop("unclean")
        else:
            lease.take_back(is_deep=residue is Residue.STATEMENTS, has_parsed=has_parsed)
            lease.release()

    def _linger(self, lease: Lease) -> bool:
        """Keep the backend for the next transaction, as long as nobody else wants it; False if somebody does."""
        pool = lease.pool
        if not self._borrowing.may_linger:
            return False  # others of its tenant may want its permit, who do not wait in the pool's line
        if not self._linger_seconds or self._is_in_doubt or not pool.may_linger(lease.backend):
            return False
        self.is_lingering = True
        pool.lingering.enter(self, self._linger_seconds)
        return True

    def _part(self) -> None:
        """The backend that it lingers on is not what it was: nobody is to have it."""
        self.stay()
        lease, self.lease = self.lease, None
        assert lease is not None
        self._pipeline.detach()
        lease.drop("lost")

    def _end_use(self) -> None:
        """Give the backend back in whatever state it is, or up."""
        lease = self.lease
        if lease is None:
            return
        is_in_step = not isinstance(self._ending.error, RemoteProtocolError)
        if is_in_step and self._pipeline.may_release:
            self._give_back(lease)
            return
        self.lease = None
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
        if error is None or self.lease is None:
            return
        if self.is_lingering:
            self._part()  # and nobody need know
            return
        if self._is_unproven and self._pipeline.has_failed_ahead:
            self._pipeline.refuse_ahead()  # as it was about to end
            self._prove()
            return
        if _FATAL in self._last_words:
            self._ending.was_told(error)  # Postgres has said why itself
            self._ending.finish()
        else:
            self._ending.fail(error)

    async def _drain(self, lease: Lease) -> None:
        await lease.backend.drain()
        self._draining = None
        self._advance()

    async def _cancel(self, lease: Lease) -> None:
        if not await lease.request_cancel() and lease is self.lease:
            self._is_in_doubt = True
        self._cancelling = None
        self._advance()
