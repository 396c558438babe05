"""The quick way of what is asked most: one plain statement, by a role that has proven its password a short while ago.

`service.answer` is the judge of what a request means and what it is answered. This is what comes of it for such a
request when nothing goes wrong, step by step without a task, each step called by what it waited for. Whatever a request
has that is not known here to be plain, and whatever ends in a way that wants thought, goes to the service, as if it had
never been tried here. A failure that is an answer, such as a syntax error, is told here as the service tells it.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from sqlhttp_gateway.auth.authenticate import Authenticator, Caller, password_of
from sqlhttp_gateway.errors import GatewayError, PasswordFailed
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute import Limits, Plain, plain_result, start_plain
from sqlhttp_gateway.model import Options, Statement
from sqlhttp_gateway.neon.headers import CONNECTION_STRING, HOST, JSON_HEADERS
from sqlhttp_gateway.neon.response import encode_result
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.plain import is_plain_caller, plain_options, plain_statement
from sqlhttp_gateway.sql.replies import NO_TYPES
from sqlhttp_gateway.story import Story, Telling

Deliver = Callable[[Reply | None], None]
"""Told once, when the request is over: the reply, or None when it is the service's to answer and nothing was run."""


class Asker:
    """Whoever sends one head again and again, and how it wants its answers."""

    __slots__ = ("caller", "connection_string", "epoch", "generation", "host", "options")

    def __init__(self, connection_string: bytes, host: bytes, options: Options) -> None:
        self.connection_string = connection_string
        self.host = host
        self.options = options
        self.caller: Caller | None = None
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
        most_seconds: float = 0.0,
        changes: Changes | None = None,
        asks_cache: bool = False,
    ) -> None:
        """Without `changes` there is no cache; `asks_cache` says that requests may ask it without a word of theirs."""
        self._authenticator = authenticator
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
        self._is_open = not most_seconds and not asks_cache
        """Whether any request is for here."""
        self._epoch += 1

    def asker(self, headers: Mapping[bytes, bytes]) -> Asker | None:
        """Whoever sends these headers, if they ask for nothing but a plain answer in Postgres's own text."""
        options = plain_options(headers)
        return Asker(headers[CONNECTION_STRING], headers.get(HOST, b""), options) if options is not None else None

    def begin(self, asker: Asker, body: bytes, deliver: Deliver) -> "Errand | None":
        """The request, begun; None, and nothing has happened, when it is not one for here."""
        caller = asker.caller
        if (
            caller is None
            or self.loop.time() >= caller.proven_until
            or asker.generation != self._authenticator.generation
            or asker.epoch != self._epoch
            or caller.pool.is_retired
        ):
            caller = self._recall(asker)
            if caller is None:
                return None
        changes = self.changes
        if changes is not None and b"cache" in body:
            return None  # it may ask for a kept answer
        began = perf_counter()
        request = plain_statement(body)
        if request is None or (changes is not None and changes.used[0] and changes.must_note(caller, request)):
            return None
        story = Story(self.telling, traceparent=None, bytes_in=len(body), began=began)
        story.asked = request
        story.target, story.database, story.role = caller.target, caller.database, caller.role
        story.is_proven = True
        errand = Errand(self, asker, caller, request, story, deliver)
        errand.begin()
        return errand

    def _recall(self, asker: Asker) -> Caller | None:
        if not self._is_open:
            return None
        authenticator = self._authenticator
        asker.epoch = self._epoch
        asker.generation = authenticator.generation
        caller = authenticator.recall(asker.connection_string, host=asker.host if authenticator.heeds_host else b"")
        if caller is None or not is_plain_caller(caller):
            return None
        asker.caller = caller
        return caller


class Errand:
    """One request on its way: to a connection, to Postgres and back. Also its own turn in the line of the gate."""

    __slots__ = (
        "_asker",
        "_caller",
        "_cancelled",
        "_coming",
        "_deadline",
        "_deliver",
        "_lease",
        "_leased",
        "_quick",
        "_request",
        "_started",
        "_story",
        "_told",
        "_turn",
    )

    def __init__(
        self, quick: Quick, asker: Asker, caller: Caller, request: Statement, story: Story, deliver: Deliver
    ) -> None:
        self._quick = quick
        self._asker = asker
        self._caller = caller
        self._request = request
        self._story = story
        self._deliver: Deliver | None = deliver
        self._cancelled = False
        self._told: GatewayError | bool | None = None
        """What came of standing in line: False as long as it stands there, True with the permit, or why it has none.
        None before and after."""
        self._deadline = 0.0
        """When it may wait for a connection no longer, in the gate's time."""
        self._coming: Any = None
        """What opens a connection under the permit, or waits for one: a coroutine that is stepped by hand."""
        self._turn: asyncio.Future[Any] | None = None
        """What that waits for."""
        self._lease: Lease | None = None
        self._leased = perf_counter()
        self._started: Plain | None = None

    def begin(self) -> None:
        """Take a connection, or stand in line for one."""
        pool = self._caller.pool
        lease = self._quick.registry.try_lease(pool)
        if lease is not None:
            self._run(lease)
            return
        self._told = False
        try:
            self._deadline = pool.stand(self)
        except GatewayError as error:
            self.set_exception(error)

    def cancel(self, msg: str | None = None) -> None:
        """The program has left, or the gateway stops: the statement is cancelled, and nothing is delivered."""
        if self._deliver is None or self._cancelled:
            return
        self._cancelled = True
        if self._told is False:
            self._caller.pool.gate.give_up(self)
            self._finish(None)
        elif self._turn is not None:
            self._turn.cancel()  # if it has come in this very tick, the step that follows gives it back
        elif self._lease is not None:
            self._finish(None, asyncio.CancelledError())

    # ── Turn: what the gate tells, which goes on in the next turn of the loop, as a future's waiter would ──

    def done(self) -> bool:
        """Whether the gate has nothing to tell any more."""
        return self._told is not False or self._cancelled

    def set_result(self, result: None, /) -> None:
        """The permit has come."""
        self._told = True
        self._quick.loop.call_soon(self._admitted)

    def set_exception(self, exception: BaseException, /) -> None:
        """It does not come."""
        assert isinstance(exception, GatewayError)
        self._told = exception
        self._quick.loop.call_soon(self._admitted)

    # ── inside ──

    def _admitted(self) -> None:
        """Take the connection that is idle; where there is none, it has to be waited for or opened."""
        told, self._told = self._told, None
        pool, registry = self._caller.pool, self._quick.registry
        if self._cancelled:
            if told is True:
                pool.gate.leave()  # the permit arrived in the tick of the cancellation
            self._finish(None)
            return
        if isinstance(told, GatewayError):
            self._finish(self._story.refused(told))
            return
        lease = registry.take_lease(pool)
        if lease is not None:
            self._run(lease)
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
            self._finish(None)
        except PasswordFailed:
            self._finish(self._story.refused(password_failed(self._caller.role)))
        except GatewayError as error:
            self._finish(self._story.refused(error))
        except Exception as error:
            self._finish(self._story.broke(error, self._quick.observe))
        else:
            turn._asyncio_future_blocking = False  # as a task says that it has understood
            turn.add_done_callback(self._step)
            self._turn = turn

    def _run(self, lease: Lease) -> None:
        self._lease = lease
        asked, self._leased = self._leased, perf_counter()
        self._story.waited = self._leased - asked
        if lease.backend.closing or self._cancelled:
            self._give_up()
            return
        request, options, quick = self._request, self._asker.options, self._quick
        array_mode = options.array_mode if request.array_mode is None else request.array_mode
        self._started = start_plain(lease, request, self._ended, array_mode=array_mode, limits=quick.limits)

    def _ended(self) -> None:
        """The exchange is over. Nothing is raised here: it would reach the connection, which is not to blame."""
        lease, started, story, quick = self._lease, self._started, self._story, self._quick
        assert lease is not None
        if started is None:  # the connection broke in the moment of the write
            self._quick.loop.call_soon(self._give_up)
            return
        try:
            try:
                result = plain_result(lease, self._request, started, quick.limits)
            finally:
                ran = story.ran(lease, since=self._leased)
                lease.release()
            if result is None:
                self._hand_over()
                return
            request, options = self._request, self._asker.options
            array_mode = options.array_mode if request.array_mode is None else request.array_mode
            body = encode_result(result, options, array_mode=array_mode, array_types=NO_TYPES)
            story.encoded = perf_counter() - ran
            story.succeeded((result.row_count,))
            timing = story.timing if quick.telling.server_timing else b""
            reply = Reply(200, JSON_HEADERS, story.request_id, body, timing)
        except GatewayError as error:
            self._finish(story.refused(error), error)
        except Exception as error:
            self._finish(story.broke(error, quick.observe), error)
        else:
            self._finish(reply)

    def _give_up(self) -> None:
        """Nothing ran."""
        if self._lease is not None:
            self._lease.release()
        if self._cancelled:
            self._finish(None)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        deliver, self._deliver = self._deliver, None
        if deliver is not None:
            deliver(None)

    def _finish(self, reply: Reply | None, error: BaseException | None = None) -> None:
        """Tell the story, and deliver unless the program has left; `error` is what a statement that ran ended with."""
        deliver, self._deliver = self._deliver, None
        if deliver is None:
            return
        story, quick = self._story, self._quick
        if self._lease is not None:
            self._lease.release()
            changes = quick.changes
            if changes is not None and changes.used[0]:  # a fetch may have begun while the statement ran
                if error is None:
                    changes.ran_unnoted(self._caller, self._request)
                else:
                    changes.failed(self._caller, self._request, error)
        if reply is not None and not reply.timing:
            reply = story.finished(reply, quick.telling)
        story.tell(reply, quick.telling, quick.observe)
        if reply is not None:
            deliver(reply)
