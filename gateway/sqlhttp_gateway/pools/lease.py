"""One connection in use: runs exchanges over it, cancels what must not go on, and gives it back clean.

Whatever happens to its holder, a lease ends in one of two ways: the connection is back in its pool after a scrub that
Postgres confirmed, or it is closed. The holder does not wait for either.
"""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Final, Self

from sqlhttp_gateway.errors import GatewayError, PostgresError, StatementTimeout
from sqlhttp_gateway.events import Cancelled, Leaked
from sqlhttp_gateway.pools import scrub
from sqlhttp_gateway.pools.backend import Backend, Done, Reader, Whole
from sqlhttp_gateway.pools.cancelling import cancel_once, cancel_until
from sqlhttp_gateway.pools.cleaning import clean_deeply
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.taker import Unclean
from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.exchange import IDLE, Exchange
from sqlhttp_gateway.wire.frontend import SYNC, encode_copy_fail

UNKNOWN: Final = 0
"""Stands for a transaction status that may be any: what comes next begins with ROLLBACK."""
_GRACE: Final = 0.25
"""Seconds that Postgres's own statement_timeout has, to answer before the gateway's clock does."""


_DROPPED_AFTER: Final = 0.5
"""Seconds after which a connection that is given up is closed, whether a cancel has come through or not: its end is one
more way to tell Postgres, where that looks (see `client_check`)."""


class Lease:
    """The right to use one connection, from its making to `release`. Also the reader of its running exchange."""

    # Made for every request: what nearly always stays as it is stands in the class, which takes a third of the time.
    # What is set for each has slots, or each would get a dictionary of its own.
    __slots__ = (
        "__dict__",
        "_has_run",
        "_is_clean",
        "_pool",
        "_progress",
        "_released",
        "_timeout",
        "_whole",
        "backend",
        "parsed",
        "reused",
    )
    connected = 0.0
    """Seconds that opening the connection took, if that was done for this lease."""
    on_release: Callable[[], None] | None = None
    """Told when the holder gives the connection back, before it is clean."""
    ahead: Ahead | None = None
    """What has to go in front of everything, as the connection is not clean; None once it is: see `was_cleansed`."""
    _exchange: Exchange | None = None
    _finished: asyncio.Future[None] | None = None
    _then: Callable[[], None] | None = None
    """What `start` was told to call at the exchange's end."""
    _ended = False
    """Whether the running exchange was read to its end, even if the holder was cancelled in that very tick."""
    _cancelling: asyncio.Task[None] | None = None
    _status = IDLE
    _is_deep = False
    """Whether something ran that only the deep scrub undoes."""
    _scrub: scrub.Scrub | None = None
    """The scrub that follows the last exchange, once it is sent."""
    _scrubs_owed = 0
    _feeds_copy = False
    _statements = 1
    _tail = b""
    _tail_after = 0

    def __init__(self, pool: Pool, backend: Backend) -> None:
        self.backend = backend
        self._pool = pool
        self.parsed = 0
        """Statements that were parsed for its exchanges."""
        self.reused = 0
        """Statements that its exchanges found prepared."""
        self._whole: Whole | None = None
        """What runs instead of an exchange: see `start_whole`."""
        self._has_run = False
        """Whether the connection was used for anything."""
        self._is_clean = False
        """Whether a scrub was confirmed behind the last thing that ran."""
        self._released = False
        self._timeout = 0.0
        self._progress = 0
        if not backend.used:
            self.connected = backend.connect_seconds
        pool.leased[backend] = pool.loop.time()

    @classmethod
    def of_unclean(cls, pool: Pool, unclean: Unclean) -> Self:
        """A connection as its last holder left it."""
        backend = unclean.backend
        lease = cls(pool, backend)
        lease.ahead = unclean.ahead
        lease._has_run = True
        lease.parsed = 1  # whether or not its last holder's texts were new
        return lease

    def __del__(self) -> None:
        if not self._released and not self._pool.loop.is_closed():
            # The holder forgot it. Nobody else would ever give the connection back.
            self._pool.observe(Leaked(str(self._pool.key)))
            self._pool.loop.call_soon_threadsafe(self.release)

    @property
    def pool(self) -> Pool:
        """Where the connection belongs."""
        return self._pool

    async def run(
        self,
        frames: bytes,
        exchange: Exchange,
        *,
        timeout: float = 0.0,
        tail: bytes = b"",
        tail_after: int = 0,
        statements: int = 1,
        scrub_behind: bool = False,
        feeds_copy: bool = False,
    ) -> None:
        """Write `frames` and read the answer into `exchange`, to its end.

        `timeout` bounds each of so many `statements`, in seconds; 0 sets no bound. `scrub_behind` sends the scrub in
        the same write, which is right only for frames that cannot leave a transaction open; behind a transaction pooler
        the frames hold their scrub themselves, and what is sent is for those that fail. `feeds_copy` says that nothing
        follows the last statement, so that a COPY FROM STDIN has to be ended by us. A failure is left in
        `exchange.error`. A `tail` is held back until `tail_after` statements are complete and well; if one is not, a
        Sync goes in its place.

        Raises:
            asyncio.CancelledError: the holder was cancelled; `release` then stops the statement, too.
        """
        self._tail, self._tail_after = tail, tail_after
        self._statements = statements
        finished = self._begin(frames, exchange, timeout, scrub_behind=scrub_behind, feeds_copy=feeds_copy)
        try:
            await finished
        except asyncio.CancelledError:
            if finished.cancelled() and not self._ended:
                self._finished = self._pool.loop.create_future()  # the answer still comes; `_recover` waits for it
            raise
        finally:
            if timeout:
                self._pool.overdue.drop(self)

    def start(
        self,
        frames: bytes,
        exchange: Exchange,
        then: Callable[[], None],
        *,
        timeout: float,
        scrub_behind: bool,
        statements: int = 1,
    ) -> None:
        """`run` for plain statements whose holder does not wait: `then` is called when the exchange has ended.

        It must not raise. It is not called any more once the lease was released.
        """
        self._then = then
        if statements != 1:
            self._statements = statements
        self._begin(frames, exchange, timeout, scrub_behind=scrub_behind, feeds_copy=True)

    def start_whole(self, frames: bytes, whole: Whole, *, timeout: float, statements: int = 1) -> None:
        """`start` for what probably comes in one piece, with the answer to the scrub that `frames` end in.

        `whole` reads that and says so by `ended_whole`; else it has the lease `read_on`. The backend is quiet and open.
        """
        self._whole = whole
        self._has_run = True
        self._is_clean = False
        if statements != 1:
            self._statements = statements
        if timeout:
            self._set_timeout(timeout)
        self.backend.send_whole(frames, whole)

    def ended_whole(self) -> None:
        """All that was expected has come, and the connection is clean."""
        self._whole = None
        self._is_clean = True
        self._pool.overdue.drop(self)

    def read_on(self, exchange: scrub.ScrubbedExchange, then: Callable[[], None]) -> None:
        """What `start_whole` has sent is read by an exchange; `then` is as for `start`."""
        self._whole = None
        self._then = then
        self._exchange = exchange
        self._finished = self._pool.loop.create_future()
        self._ended = False
        self._feeds_copy = False  # the statement is none that asks for it
        self._scrub = None
        self.backend.expect((self, partial(self._end_scrubbed, exchange)))

    def looks(self) -> bool:
        """Whether the next scrub has to look for a PREPARE inside a function; to be asked once for each."""
        backend = self.backend
        backend.scrubs += 1
        return self.parsed > 0 or backend.is_kept_apart or not backend.scrubs % scrub.LOOK_EVERY

    def look_next(self) -> None:
        """Let the next scrub look, though all texts may be known: who is kept to claims or bounds has the same role as
        others, and must not be able to leave them anything."""
        self.backend.scrubs = -1

    async def keep_apart(self) -> bool:
        """Let nothing that is prepared by now be run for the holder, whose claims others of the role have not; from now
        on each scrub looks. False when that cannot be, and the lease is dropped. Behind a pooler nothing is done.
        """
        backend = self.backend
        if backend.is_kept_apart or self._pool.upstream.is_pooler:
            return True
        if backend.used:
            is_clean = False
            try:
                is_clean = await self.cleanse()
            finally:
                if not is_clean:
                    self.drop("unclean")
            if not is_clean:
                return False
        backend.is_kept_apart = True
        return True

    def was_scrubbed(self) -> None:
        """The exchange that has just ended held its own scrub: nothing more to undo, unless it failed."""
        if self._status == IDLE:
            self._scrub = self._scrub or scrub.Scrub()
            self._is_deep = False

    def lend(self, reader: Reader, lost: Done) -> None:
        """Let `reader` have the connection, with `backend.write`, until `take_back` or `drop`.

        `lost` is told if the connection breaks meanwhile.
        """
        self._finished = self._pool.loop.create_future()
        self._scrub = None
        self._has_run = True
        self._is_clean = False
        self.backend.listen(reader, lost)

    def take_back(self, *, in_transaction: bool = False, is_deep: bool = False, has_parsed: bool = True) -> None:
        """The reader is owed nothing more. `is_deep`: it may have left prepared statements, as SQL's PREPARE does;
        `has_parsed`: it has run texts that the connection may not have seen, of which the scrub has to find that out.
        """
        assert self._finished is not None
        if not self.backend.closing:
            self.backend.withdraw()
            self.backend.resume_reading()
        self._finished.set_result(None)
        self._status = UNKNOWN if in_transaction else IDLE
        # That or more: so that the scrub looks for a PREPARE inside a function.
        self.parsed = int(has_parsed or self.ahead is not None)
        if is_deep:
            self._is_deep = True

    def was_cleansed(self) -> None:
        """What went ahead has worked: the connection is clean, but for what its holder has done since."""
        self.ahead = None

    async def cleanse(self) -> bool:
        """Clean the connection deeply, after `take_back`, to be used by the same holder; False if that cannot be."""
        if not await self._clean_deeply():
            return False
        self._is_deep = self._has_run = False
        self._status = IDLE
        self.was_cleansed()
        return True

    async def request_cancel(self) -> bool:
        """Have Postgres cancel what the reader's program runs. Once this says True, a signal that found nothing to
        cancel will find nothing later either; after False it may be on its way still.
        """
        return await cancel_once(self.backend.request_cancel, timeout=self._pool.cancel_timeout)

    def drop(self, reason: str) -> None:
        """Give up a connection on which something may still run; it is cancelled and closed."""
        if not self._released:
            self._released = True
            self._pool.leased.pop(self.backend, None)
            if self.on_release is not None:
                self.on_release()
            if self.backend.is_lost:
                self._pool.discard(self.backend, reason)
                return
            self.backend.abandon()
            self._pool.spawn(self._cancel_and_discard(reason))

    def release(self) -> None:
        """Give the connection back; what is left to be done happens behind the caller's back."""
        if not self._released:
            self._released = True
            if self._whole is not None:
                self._whole.unfold()
            if self._then is not None:  # whoever started the exchange does not wait for its end
                self._then = None
                self._pool.overdue.drop(self)
            self._pool.leased.pop(self.backend, None)
            if self._is_clean:
                if self.on_release is not None:
                    self.on_release()
                self._pool.release(self.backend)
                return
            self._pool.returning[self.backend] = self._pool.loop.time()
            if self.on_release is not None:
                self.on_release()
            is_scrubbing = self._scrubs_owed and self._scrub is not None
            if not is_scrubbing or self._is_running or self._cancelling is not None:
                self._settle()  # else the scrub's answer does, which is nearly here

    # ── Reader ──

    def receive(self, data: bytes) -> bytes | None:
        """Pass what comes to the exchange, and stop the statement once its outcome is known to be a refusal."""
        exchange = self._exchange
        assert exchange is not None
        rest = exchange.receive(data)
        is_held_back = bool(self._tail)  # so that nothing follows by which Postgres could tell that no data comes
        if rest is None and self._tail and (exchange.error is not None or len(exchange.results) >= self._tail_after):
            tail, self._tail = self._tail, b""
            # Whoever has gone meanwhile, be it in this tick, gets no COMMIT any more.
            is_wanted = not self._released and self._finished is not None and not self._finished.cancelled()
            self.backend.write(tail if exchange.error is None and is_wanted else SYNC)
        if rest is None and exchange.error is not None:
            if exchange.copy_in:
                exchange.copy_in = False
                if self._feeds_copy or is_held_back:
                    self.backend.write(encode_copy_fail(b"not possible in one request") + SYNC)
            elif not isinstance(exchange.error, PostgresError):
                self._stop()
        return rest

    # ── inside ──

    def _begin(
        self, frames: bytes, exchange: Exchange, timeout: float, *, scrub_behind: bool, feeds_copy: bool
    ) -> asyncio.Future[None]:
        """Write, and see to it that the answer is read in time."""
        self._exchange = exchange
        self._finished = finished = self._pool.loop.create_future()
        self._ended = False
        self._has_run = True
        self._is_clean = False
        self._feeds_copy = feeds_copy
        if timeout:
            self._set_timeout(timeout)
        if scrub_behind:
            self._scrub = following = scrub.Scrub()
            self._scrubs_owed += 1
            is_pooler = self._pool.upstream.is_pooler
            behind = scrub.SIMPLE_UNLOCK if is_pooler else self._scrub_frames()
            self.backend.send(frames + behind, (self, self._end), (following, partial(self._scrubbed, following)))
        else:
            self._scrub = None
            self.backend.send(frames, (self, self._end))
        return finished

    def _set_timeout(self, timeout: float) -> None:
        self._timeout = timeout
        self._progress = 0
        # Postgres tells of what is done only when its buffer is full or the last statement is over: each one's time is
        # Postgres's to keep, and the gateway's clock is for a statement that has switched that off.
        pool = self._pool
        pool.overdue.set(self, pool.loop.time() + timeout * self._statements + _GRACE)

    @property
    def _is_running(self) -> bool:
        return self._finished is not None and not self._finished.done()

    @property
    def _needs_recovery(self) -> bool:
        """The light scrub is not enough."""
        if self._is_running or self._cancelling is not None or self._status != IDLE:
            return True
        return self._is_deep

    def _end(self, error: GatewayError | None) -> None:
        """The exchange was read to its end, or the connection broke."""
        exchange, finished = self._exchange, self._finished
        assert exchange is not None
        assert finished is not None
        if error is not None:
            exchange.refuse(error)
        self._ended = True
        self._status = exchange.status or IDLE
        if exchange.parameters:
            self.backend.note_parameters(exchange.parameters)
        for result in exchange.results:
            if scrub.needs_deep_scrub(result.tag):
                self._is_deep = True
            elif scrub.changes_schema(result.tag):
                self._pool.schema_changed()
        if not finished.done():
            finished.set_result(None)
        if self._then is not None:
            then, self._then = self._then, None
            self._pool.overdue.drop(self)
            then()

    def _end_scrubbed(self, exchange: scrub.ScrubbedExchange, error: GatewayError | None) -> None:
        """The same for an exchange with its scrub inside. Where the statement failed, the scrub is still to be sent."""
        self._is_clean = error is None and exchange.is_clean and self._cancelling is None and not exchange.parameters
        self._is_deep = exchange.is_scrub_lost
        self._end(error)

    def _scrub_frames(self) -> bytes:
        backend = self.backend
        if self._pool.upstream.is_pooler:
            return scrub.SIMPLE_LIGHT
        looks = self.looks()
        if not backend.scrub_prepared:
            backend.scrub_prepared = True
            return scrub.PREPARE + scrub.RUN_LOOKING
        return scrub.RUN_LOOKING if looks else scrub.RUN_LIGHT

    def _scrubbed(self, done: scrub.Scrub, error: GatewayError | None) -> None:
        self._scrubs_owed -= 1
        if done.parameters:
            self.backend.note_parameters(done.parameters)
        if not self._scrubs_owed and self._scrub is not None:  # else more was run on the lease since
            self._settle()

    def _settle(self) -> None:
        """Once released: bring the connection one step nearer to its pool."""
        if not self._released:
            return
        backend = self.backend
        if backend.closing or not self._has_run:
            self._hand_over()
        elif self._needs_recovery:
            self._begin_recovery()
        elif self._scrub is None:
            may_be_taken = backend.scrub_prepared and not backend.reads_otherwise
            taker = self._pool.next_taker(backend) if may_be_taken else None
            if taker is not None:
                self._pool.returning.pop(backend, None)
                taker.set_result(Unclean(backend, scrub.AHEAD_LOOKING if self.looks() else scrub.AHEAD))
                return
            self._scrub = following = scrub.Scrub()
            self._scrubs_owed += 1
            backend.send(self._scrub_frames(), (following, partial(self._scrubbed, following)))
        elif not backend.is_quiet:
            pass  # the scrub's answer is on its way and calls here again
        elif self._scrub.is_clean:
            self._hand_over()
        else:
            self._begin_recovery()

    def _begin_recovery(self) -> None:
        self._scrub = None  # the answer of one that is on its way decides nothing any more
        self._pool.spawn(self._recover())

    def _hand_over(self) -> None:
        backend = self.backend
        self._pool.returning.pop(backend, None)
        if backend.reads_otherwise:
            # The settings of the server were reloaded: what is kept prepared has its constants by those of before.
            backend.expires_at = -math.inf
        self._pool.release(backend)

    def deadline_passed(self) -> None:
        """The statement's time may be over: then refuse and stop it, else look again later."""
        if self._whole is not None:
            self._whole.unfold()
        exchange = self._exchange
        if exchange is None or not self._is_running:
            return
        done = len(exchange.results)
        left = max(1, self._statements - done)
        if done > self._progress:
            self._progress = done
            self._pool.overdue.set(self, self._pool.loop.time() + self._timeout * left + _GRACE)
            return
        if left == 1:
            message = f"the statement ran longer than {self._timeout:g} s and was cancelled (statement.timeout)"
        else:
            message = (
                f"{left} statements ran longer than {self._timeout * left:g} s together and were cancelled: "
                f"statement.timeout allows {self._timeout:g} s for each"
            )
        exchange.refuse(StatementTimeout(message))
        self._stop()

    def _stop(self) -> None:
        """Begin to cancel what runs; if Postgres does not confirm in time, give the connection up."""
        if self._cancelling is None:
            self._cancelling = self._pool.loop.create_task(self._cancel())

    async def _cancel(self) -> None:
        finished = self._finished
        assert finished is not None
        # The signals are sent when this returns, so nothing can arrive later than the scrub that follows.
        is_settled = await cancel_until(
            lambda: self._finished or finished, self.backend.request_cancel, timeout=self._pool.cancel_timeout
        )
        confirmed = is_settled and not self._is_running and not self.backend.is_lost
        self._pool.observe(Cancelled(str(self._pool.key), confirmed=confirmed))
        if not confirmed:
            # The statement may still run, or the signal may still be on its way to whoever uses the connection then.
            self.backend.abandon()

    async def _cancel_and_discard(self, reason: str) -> None:
        await cancel_once(self.backend.request_cancel, timeout=_DROPPED_AFTER, settles=False)
        self._pool.discard(self.backend, reason)

    async def _recover(self) -> None:
        """After a cancel, an open transaction or a failed scrub: clean deeply, or close the connection."""
        if self._is_running:
            self._stop()
        if self._cancelling is not None:
            await self._cancelling
        if await self._clean_deeply():
            self._hand_over()
            return
        self._pool.returning.pop(self.backend, None)
        self._pool.discard(self.backend, "unclean")

    async def _clean_deeply(self) -> bool:
        return await clean_deeply(self.backend, is_idle=self._status == IDLE, timeout=self._pool.cancel_timeout)
