"""The quick way of what is asked most: one plain statement, by a role that has proven its password a short while ago.

`service.answer` is the judge of what a request means and what it is answered. This is what comes of it for such a
request when nothing goes wrong, step by step without a task, each step called by what it waited for. Whatever a request
has that is not known here to be plain, and whatever ends in a way that wants thought, goes to the service, as if it had
never been tried here. A failure that is an answer, such as a syntax error, is told here as the service tells it.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from time import perf_counter
from typing import Any, Protocol

from sqlhttp_gateway.auth.authenticate import Authenticator, Caller, password_of
from sqlhttp_gateway.cache.policy import Asked
from sqlhttp_gateway.errors import GatewayError, PasswordFailed
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute import Limits, Started, plain_result, start_plain
from sqlhttp_gateway.model import Options, Result, Statement
from sqlhttp_gateway.neon.bodies import Bodies
from sqlhttp_gateway.neon.headers import CONNECTION_STRING, HOST, JSON_HEADERS
from sqlhttp_gateway.neon.response import encode_result
from sqlhttp_gateway.neon.timing import encode_plain_timing
from sqlhttp_gateway.observe.tally import Tally
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import Reply, new_request_id
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.hits import Hit, Hits, Seeker
from sqlhttp_gateway.sql.plain import (
    asks_cache,
    is_plain_caller,
    is_plain_text,
    options_beside_cache,
    plain_options,
    plain_statement,
)
from sqlhttp_gateway.sql.replies import NO_TYPES
from sqlhttp_gateway.story import Story, Telling


class Receiver(Protocol):
    """Whoever sends a request, which is told once how it ended, by one of these; never within `begin`."""

    def deliver(self, reply: Reply | None) -> None:
        """The reply, or None when the request is the service's to answer and nothing was run."""

    def deliver_plain(self, request_id: str, timing: bytes, body: bytes) -> None:
        """What stands in a Reply with status 200, the headers of JSON and no deadline."""

    def deliver_kept(self, request_id: str, hit: Hit) -> None:
        """The same from the cache; within `answer_kept`."""


class Asker:
    """Whoever sends one head again and again, and how it wants its answers."""

    __slots__ = (
        "asked",
        "asks_cache",
        "caller",
        "connection_string",
        "epoch",
        "generation",
        "host",
        "is_plain",
        "options",
        "seeker",
        "tally",
    )

    def __init__(self, headers: Mapping[bytes, bytes], options: Options) -> None:
        self.connection_string = connection_string = headers[CONNECTION_STRING]
        self.host = headers.get(HOST, b"")
        self.options = options
        self.asks_cache = asks_cache(headers)
        """Whether the head itself has a wish for the cache."""
        self.asked = Asked.of(headers, connection_string, b"")
        self.is_plain = plain_options(headers) is not None
        """Whether its statements may run here."""
        self.caller: Caller | None = None
        self.seeker: Seeker | None = None
        """As whom it asks the cache; None: it is the service's to ask."""
        self.tally: Tally | None = None
        """Where its requests that went well are noted; None: each is told."""
        self.generation = -1
        """The authenticator's when the caller was recalled."""
        self.epoch = 0
        """Which settings held then."""


class Quick:
    """Begins requests; what becomes of each is its Errand's to know."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: PoolRegistry,
        limits: Limits,
        observe: Observer,
        telling: Telling,
        tally: Callable[[str, str], Tally] | None = None,
        most_seconds: float = 0.0,
        changes: Changes | None = None,
        hits: Hits | None = None,
        asks_cache: bool = False,
    ) -> None:
        """`tally` has the Tally of a target's database, for when it is enough to count. Without `changes` and `hits`
        there is no cache; `asks_cache` says that requests may ask it without a word of theirs.
        """
        self._hits = hits
        self._authenticator = authenticator
        self._tally = tally
        self._bodies = Bodies(_is_for_here)
        self._epoch = 0
        self.changes = changes
        self.loop = asyncio.get_running_loop()
        self.registry = registry
        self.observe = observe
        self.reconfigure(limits=limits, telling=telling, most_seconds=most_seconds, asks_cache=asks_cache)

    def reconfigure(
        self, *, limits: Limits, telling: Telling, most_seconds: float = 0.0, asks_cache: bool = False
    ) -> None:
        """Go by these from the next request on."""
        self.limits = limits
        self.telling = telling
        self.slow = telling.slow_statement or inf
        """Seconds on a connection from which on a request is told in any case."""
        self._is_open = not most_seconds
        """Whether any request is for here."""
        self._asks_cache = asks_cache
        self._epoch += 1

    def asker(self, headers: Mapping[bytes, bytes]) -> Asker | None:
        """Whoever sends these headers, if they ask for nothing but an answer, and perhaps one that is kept."""
        options = options_beside_cache(headers)
        return Asker(headers, options) if options is not None else None

    def answer_kept(self, asker: Asker, body: bytes, receiver: Receiver) -> bool:
        """Deliver what the cache has, if the request asks it as it did before; else nothing has happened."""
        if self._hits is None or not (asker.asks_cache or b"cache" in body or self._asks_cache):
            return False
        if self._caller(asker) is None or asker.seeker is None:
            return False
        hit = self._hits.find(asker.seeker, body)
        if hit is None:
            return False
        receiver.deliver_kept(new_request_id(), hit)
        return True

    def begin(self, asker: Asker, body: bytes, receiver: Receiver) -> "Errand | None":
        """The request, begun; None, and nothing has happened, when it is not one for here."""
        if not asker.is_plain or self._asks_cache:
            return None
        caller = self._caller(asker)
        if caller is None:
            return None
        began = perf_counter()
        statement = self._bodies.read(body)
        if statement is None:
            if b"cache" in body:
                return None  # it may ask for a kept answer
            statement = plain_statement(body)
            if statement is None:
                return None
            self._bodies.remember(body, statement.text)
        changes = self.changes
        if changes is not None and changes.used[0] and changes.must_note(caller, statement):
            return None
        errand = Errand(self, asker, caller, statement, receiver, len(body), began)
        errand.begin()
        return errand

    def _caller(self, asker: Asker) -> Caller | None:
        """Whose request it is, if the proof holds and nothing of it has changed."""
        caller = asker.caller
        if (
            caller is None
            or self.loop.time() >= caller.proven_until
            or asker.generation != self._authenticator.generation
            or asker.epoch != self._epoch
            or caller.pool.is_retired
        ):
            return self._recall(asker)
        return caller

    def _recall(self, asker: Asker) -> Caller | None:
        asker.caller = None  # what was known of it is not asked again, whatever comes of this
        if not self._is_open:
            return None
        authenticator = self._authenticator
        asker.generation, asker.epoch = authenticator.generation, self._epoch
        caller = authenticator.recall(asker.connection_string, host=asker.host if authenticator.heeds_host else b"")
        if caller is None or not is_plain_caller(caller):
            return None
        asker.caller = caller
        is_told = self._tally is None or self.telling.each or self.telling.audit
        asker.tally = None if is_told or self._tally is None else self._tally(caller.target, caller.database)
        asker.seeker = None if is_told or self._hits is None else self._hits.seeker(caller, asker.options, asker.asked)
        return caller


class Errand:
    """One request on its way: to a connection, to Postgres and back. Also its own turn in the line of the gate."""

    # In slots: with defaults in the class each would get a dictionary, as soon as more is set than in the first few.
    __slots__ = (
        "_array_mode",
        "_asker",
        "_began",
        "_bytes_in",
        "_caller",
        "_cancelled",
        "_coming",
        "_deadline",
        "_lease",
        "_leased",
        "_quick",
        "_ran",
        "_receiver",
        "_started",
        "_statement",
        "_told",
        "_turn",
    )

    def __init__(
        self,
        quick: Quick,
        asker: Asker,
        caller: Caller,
        statement: Statement,
        receiver: Receiver,
        bytes_in: int,
        began: float,
    ) -> None:
        self._quick = quick
        self._asker = asker
        self._caller = caller
        self._statement = statement
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
            self._quick.loop.call_soon(self._admitted)
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
        self._quick.loop.call_soon(self._admitted)

    # ── to a connection ──

    def _admitted(self) -> None:
        """Take the connection that is idle; where there is none, it has to be waited for or opened."""
        told, self._told = self._told, None
        pool, registry = self._caller.pool, self._quick.registry
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
        asked = self._statement.array_mode
        self._array_mode = array_mode = self._asker.options.array_mode if asked is None else asked
        self._started = start_plain(
            lease, self._statement, self._ended, array_mode=array_mode, limits=self._quick.limits
        )

    def _ended(self) -> None:
        """The exchange is over. Nothing is raised here: it would reach the connection, which is not to blame."""
        lease, quick = self._lease, self._quick
        assert lease is not None
        if self._started is None:  # the connection broke in the moment of the write
            quick.loop.call_soon(self._give_up)
            return
        try:
            try:
                result = plain_result(lease, self._statement, self._started, quick.limits)
            finally:
                self._ran = perf_counter()
                lease.release()
            if result is None:
                self._hand_over()
                return
            body = encode_result(result, self._asker.options, array_mode=self._array_mode, array_types=NO_TYPES)
        except Exception as error:
            self._failed(error)
        else:
            self._succeeded(lease, result, body)

    def _give_up(self) -> None:
        """Nothing ran."""
        if self._lease is not None:
            self._lease.release()
        if self._cancelled:
            self._left()
        else:
            self._hand_over()

    # ── the end, which is one of these four ──

    def _succeeded(self, lease: Lease, result: Result, body: bytes) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        quick, tally = self._quick, self._asker.tally
        began, leased, ran = self._began, self._leased, self._ran
        changes = quick.changes
        if changes is not None and changes.used[0]:  # a fetch may have begun while the statement ran
            changes.ran_unnoted(self._caller, self._statement)
        waited, executed, now = leased - began, ran - leased, perf_counter()
        if tally is None or executed >= quick.slow or lease.connected:
            story = self._story()
            story.encoded = now - ran
            story.succeeded((result.row_count,))
            reply = story.finished(Reply(200, JSON_HEADERS, story.request_id, body), quick.telling)
            story.tell(reply, quick.telling, quick.observe)
            receiver.deliver(reply)
            return
        timing = encode_plain_timing(waited, executed, now - ran) if quick.telling.server_timing else b""
        tally.note(now - began, waited, executed, result.row_count, lease.parsed, self._bytes_in, len(body))
        receiver.deliver_plain(new_request_id(), timing, body)

    def _failed(self, error: Exception) -> None:
        """With an error that is its reply, or with what nobody foresaw."""
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        quick, story = self._quick, self._story()
        reply = story.refused(error) if isinstance(error, GatewayError) else story.broke(error, quick.observe)
        self._stopped(error)
        reply = story.finished(reply, quick.telling)
        story.tell(reply, quick.telling, quick.observe)
        receiver.deliver(reply)

    def _left(self) -> None:
        """Its program is there no more."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._stopped(asyncio.CancelledError())
            self._story().tell(None, self._quick.telling, self._quick.observe)

    def _hand_over(self) -> None:
        """It is the service's to answer."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.deliver(None)

    # ── inside ──

    def _stopped(self, error: BaseException) -> None:
        """Give the connection back, if there is one; of what ran on it something may have stayed."""
        if self._lease is not None:
            self._lease.release()
            changes = self._quick.changes
            if changes is not None:
                changes.failed(self._caller, self._statement, error)

    def _story(self) -> Story:
        """What is told of it, up to now."""
        story = Story(self._quick.telling, traceparent=None, bytes_in=self._bytes_in, began=self._began)
        caller, lease = self._caller, self._lease
        story.asked = self._statement
        story.target, story.database, story.role = caller.target, caller.database, caller.role
        story.is_proven = True
        if lease is not None:
            story.waited = self._leased - self._began
            if self._ran:
                story.executed = self._ran - self._leased
                story.connected, story.parsed, story.reused = lease.connected, lease.parsed, lease.reused
        return story


def _is_for_here(text: str) -> bool:
    """Whether a body with this text, and parameters, is plain whatever these are."""
    return is_plain_text(text) and "cache" not in text
