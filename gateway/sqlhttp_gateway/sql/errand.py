"""A plain statement, or batch, on its way: to a connection, to Postgres and back, each step called by what it awaited.

No task runs it, so that nothing here may raise: whoever calls is not to blame. Which requests may go this way is not
known here; `quick` says it.
"""

import asyncio
from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import Any, Protocol

from sqlhttp_gateway.auth.caller import Caller, password_of
from sqlhttp_gateway.errors import GatewayError, PasswordFailed
from sqlhttp_gateway.events import Event, Observer
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.plain import Started, plain_result, start_plain
from sqlhttp_gateway.execute.plain_batch import Begun, batch_results, start_batch
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.headers import JSON_HEADERS
from sqlhttp_gateway.neon.response import Pieces, encode_arrived, encode_batch, encode_result
from sqlhttp_gateway.neon.timing import encode_plain_timing
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import Reply, new_request_id
from sqlhttp_gateway.sql.asker import Asker
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.replies import NO_TYPES
from sqlhttp_gateway.story import Story, Telling


class Receiver(Protocol):
    """Whoever sends a request, which is told once how it ended, by one of these; never within `begin`."""

    def deliver(self, reply: Reply | None) -> None:
        """The reply, or None when the request is the service's to answer and nothing was run."""

    def deliver_plain(self, request_id: str, timing: bytes, body: bytes | Pieces) -> None:
        """What stands in a Reply with status 200, the headers of JSON and no deadline."""


class Errands:
    """What all errands have in common and go by."""

    def __init__(self, *, registry: PoolRegistry, observe: Observer, changes: Changes | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.registry = registry
        self.observe = observe
        self.changes = changes

    def reconfigure(self, *, limits: Limits, telling: Telling) -> None:
        """Go by these from the next request on; to be called before the first."""
        self.limits = limits
        self.telling = telling
        self.slow = telling.slow_statement or inf
        """Seconds on a connection from which on a request is told in any case."""


class Errand:
    """One request on its way: to a connection, to Postgres and back. Also its own turn in the line of the gate."""

    # In slots: with defaults in the class each would get a dictionary, as soon as more is set than in the first few.
    __slots__ = (
        "_array_mode",
        "_asked",
        "_asker",
        "_batch",
        "_began",
        "_bytes_in",
        "_caller",
        "_cancelled",
        "_coming",
        "_deadline",
        "_errands",
        "_lease",
        "_leased",
        "_ran",
        "_receiver",
        "_started",
        "_told",
        "_turn",
    )

    def __init__(
        self,
        errands: Errands,
        asker: Asker,
        caller: Caller,
        asked: Statement | Batch,
        receiver: Receiver,
        bytes_in: int,
        began: float,
    ) -> None:
        self._errands = errands
        self._asker = asker
        self._caller = caller
        self._asked = asked
        self._receiver: Receiver | None = receiver
        self._bytes_in = bytes_in
        self._began = began
        self._cancelled = False
        self._told: GatewayError | bool | None = None
        """What came of standing in line: False as long as it stands there, True with the permit, or why it has none.
        None before and after."""
        self._coming: Any = None
        """What opens a connection under the permit, or waits for one: a coroutine that is stepped by hand."""
        self._turn: asyncio.Future[Any] | None = None
        """What that waits for."""
        self._lease: Lease | None = None
        self._started: Started | None = None
        self._batch: Begun | None = None
        """What of a batch stands in the place of that."""
        self._ran = 0.0
        """When the statement was over; `_leased` is when it had the lease, `_deadline` when it may wait for that no
        longer, in the gate's time."""

    def begin(self) -> None:
        """Take a connection, or stand in line for one."""
        pool = self._caller.pool
        backend = pool.try_acquire()
        if backend is not None:
            self._run(Lease(pool, backend))
            return
        self._told = False
        try:
            self._deadline = pool.stand(self)
        except GatewayError as error:
            self.set_exception(error)

    def cancel(self, msg: str | None = None) -> None:
        """The program has left, or the gateway stops: the statement is cancelled, and nothing is delivered."""
        if self._receiver is None or self._cancelled:
            return
        self._cancelled = True
        if self._told is False:
            self._caller.pool.gate.give_up(self)
            self._left()
        elif self._turn is not None:
            self._turn.cancel()  # if it has come in this very tick, the step that follows gives it back
        elif self._lease is not None:
            self._left()

    # ── Turn: what the gate tells. But for a connection it goes on in the loop's next turn, as who awaits would ──

    def done(self) -> bool:
        """Whether the gate has nothing to tell any more."""
        return self._told is not False or self._cancelled

    def set_result(self, result: Backend | None, /) -> None:
        """A connection has come, or a permit alone.

        With a connection there is nothing to wait for: its next statement is sent before the answer to the last one
        is written. Nothing is raised here: it would reach the one who gives the connection back.
        """
        if result is None:
            self._told = True
            self._errands.loop.call_soon(self._admitted)
            return
        self._told = None
        try:
            self._run(Lease(self._caller.pool, result))
        except Exception as error:
            self._failed(error)

    def set_exception(self, exception: BaseException, /) -> None:
        """It does not come."""
        assert isinstance(exception, GatewayError)
        self._told = exception
        self._errands.loop.call_soon(self._admitted)

    # ── to a connection ──

    def _admitted(self) -> None:
        """Take the connection that is idle; where there is none, it has to be waited for or opened."""
        told, self._told = self._told, None
        pool, registry = self._caller.pool, self._errands.registry
        if self._cancelled:
            if told is True:
                pool.gate.leave()  # the permit arrived in the tick of the cancellation
            self._left()
            return
        if isinstance(told, GatewayError):
            self._failed(told)
            return
        backend = pool.take()
        if backend is not None:
            self._run(Lease(pool, backend))
            return
        connection_string = self._asker.connection_string
        self._coming = registry.lease_admitted(pool, lambda: password_of(connection_string), deadline=self._deadline)
        self._step()

    def _step(self, _: object = None) -> None:
        """Go on fetching the lease. A task would do the same, for 2 µs more."""
        self._turn = None
        try:
            turn = self._coming.throw(asyncio.CancelledError()) if self._cancelled else self._coming.send(None)
        except StopIteration as done:
            self._coming = None
            self._run(done.value)
        except asyncio.CancelledError:
            self._left()
        except PasswordFailed:
            self._failed(password_failed(self._caller.role))
        except Exception as error:
            self._failed(error)
        else:
            turn._asyncio_future_blocking = False  # as a task says that it has understood
            turn.add_done_callback(self._step)
            self._turn = turn

    # ── to Postgres and back ──

    def _run(self, lease: Lease) -> None:
        self._lease = lease
        self._leased = perf_counter()
        if lease.backend.closing or self._cancelled:
            self._give_up()
            return
        statement, limits = self._asked, self._errands.limits
        try:
            if isinstance(statement, Statement):
                asked = statement.array_mode
                self._array_mode = array_mode = self._asker.options.array_mode if asked is None else asked
                self._started = start_plain(lease, statement, self._ended, array_mode=array_mode, limits=limits)
            else:
                modes = self._array_modes(statement)
                self._batch = start_batch(lease, statement, self._batch_ended, array_modes=modes, limits=limits)
        except Exception as error:
            self._errands.loop.call_soon(self._failed, error)  # since nothing is delivered within `begin`

    def _ended(self) -> None:
        """The exchange is over. Nothing is raised here: it would reach the connection, which is not to blame."""
        lease, errands, statement = self._lease, self._errands, self._asked
        assert lease is not None
        assert isinstance(statement, Statement)
        if self._started is None:  # the connection broke in the moment of the write
            errands.loop.call_soon(self._give_up)
            return
        try:
            try:
                result = plain_result(lease, statement, self._started, errands.limits)
            finally:
                self._ran = perf_counter()
                lease.release()
            if result is None:
                self._hand_over()
                return
            body: bytes | Pieces
            array_mode = self._array_mode
            if result.read is not None:
                body = encode_arrived(result, array_mode=array_mode)
            else:
                body = encode_result(result, self._asker.options, array_mode=array_mode, array_types=NO_TYPES)
            self._succeeded(lease, (result.row_count,), body)
        except Exception as error:
            self._failed(error)

    def _batch_ended(self) -> None:
        """The same of a batch."""
        lease, errands, batch = self._lease, self._errands, self._asked
        assert lease is not None
        assert isinstance(batch, Batch)
        if self._batch is None:
            errands.loop.call_soon(self._give_up)
            return
        try:
            try:
                results = batch_results(lease, batch, self._batch, errands.limits)
            finally:
                self._ran = perf_counter()
                lease.release()
            if results is None:
                self._hand_over()
                return
            options = self._asker.options
            encoded = [
                encode_result(result, options, array_mode=array_mode, array_types=NO_TYPES)
                for result, array_mode in zip(results, self._array_modes(batch), strict=True)
            ]
            self._succeeded(lease, [result.row_count for result in results], encode_batch(encoded))
        except Exception as error:
            self._failed(error)

    def _array_modes(self, batch: Batch) -> list[bool]:
        """What holds for each of its statements."""
        usual = self._asker.options.array_mode
        return [usual if each.array_mode is None else each.array_mode for each in batch.statements]

    def _give_up(self) -> None:
        """Nothing ran."""
        if self._lease is not None:
            self._lease.release()
        if self._cancelled:
            self._left()
        else:
            self._hand_over()

    # ── the end, which is one of these four ──

    def _succeeded(self, lease: Lease, row_counts: Sequence[int], body: bytes | Pieces) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        errands, tally = self._errands, self._asker.tally
        began, leased, ran = self._began, self._leased, self._ran
        changes = errands.changes
        if changes is not None and changes.used[0]:  # a fetch may have begun while the statement ran
            changes.ran_unnoted(self._caller, self._asked)
        waited, executed, now = leased - began, ran - leased, perf_counter()
        if tally is None or executed >= errands.slow or lease.connected:
            story = self._story()
            story.encoded = now - ran
            story.succeeded(row_counts)
            self._conclude(story, Reply(200, JSON_HEADERS, story.request_id, bytes(body)))
            return
        request_id = new_request_id()
        timing = encode_plain_timing(waited, executed, now - ran) if errands.telling.server_timing else b""
        if self._batch is None:
            tally.note(now - began, waited, executed, row_counts[0], lease.parsed, self._bytes_in, len(body))
        else:
            parsed, reused = lease.parsed, lease.reused
            tally.note_batch(now - began, waited, executed, row_counts, parsed, reused, self._bytes_in, len(body))
        self._receiver = None
        receiver.deliver_plain(request_id, timing, body)

    def _failed(self, error: Exception) -> None:
        """With an error that is its reply, or with what nobody foresaw. Like `_ended` this raises nothing."""
        if self._receiver is None:
            if not isinstance(error, GatewayError):
                self._report(error)
            return
        story = self._story()
        reply = story.refused(error) if isinstance(error, GatewayError) else story.broke(error, self._observe)
        try:
            self._stopped(error)
        except Exception as another:
            self._report(another)
        self._conclude(story, reply)

    def _left(self) -> None:
        """Its program is there no more."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._stopped(asyncio.CancelledError())
            self._story().tell(None, self._errands.telling, self._observe)

    def _hand_over(self) -> None:
        """It is the service's to answer."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.deliver(None)

    # ── inside ──

    def _conclude(self, story: Story, reply: Reply) -> None:
        """Tell and deliver."""
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        telling = self._errands.telling
        reply = story.finished(reply, telling)
        story.tell(reply, telling, self._observe)
        receiver.deliver(reply)

    def _observe(self, event: Event) -> None:
        """An observer that fails does so alone: the request has its answer, and the connection is another's by now."""
        try:
            self._errands.observe(event)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """What went wrong when there was nobody left to tell, for the log."""
        self._errands.loop.call_exception_handler({"message": "a request's end failed", "exception": error})

    def _stopped(self, error: BaseException) -> None:
        """Give the connection back, if there is one; of what ran on it something may have stayed."""
        if self._lease is not None:
            self._lease.release()
            changes = self._errands.changes
            if changes is not None:
                changes.failed(self._caller, self._asked, error)

    def _story(self) -> Story:
        """What is told of it, up to now."""
        story = Story(self._errands.telling, traceparent=None, bytes_in=self._bytes_in, began=self._began)
        caller, lease = self._caller, self._lease
        story.asked = self._asked
        story.target, story.database, story.role = caller.target, caller.database, caller.role
        story.is_proven = True
        if lease is not None:
            story.waited = self._leased - self._began
            if self._ran:
                story.executed = self._ran - self._leased
                story.connected, story.parsed, story.reused = lease.connected, lease.parsed, lease.reused
        return story
