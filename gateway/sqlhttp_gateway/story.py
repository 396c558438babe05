"""The story of one request: what it was, whose, what it cost and how it ended; collected on the way, told at the end.

What is told are events. Who counts, logs or traces them is not known here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from time import perf_counter

from sqlhttp_gateway.deadline import Deadline, Due
from sqlhttp_gateway.errors import DeadlineBeforeRun, DeadlineExceeded, GatewayError, HasRun, PostgresError
from sqlhttp_gateway.events import Answered, Audited, Bug, Observer, Slow
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.timing import encode_server_timing
from sqlhttp_gateway.neon.traceparent import TraceParent, decode_traceparent
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.reply import Reply, error_reply, new_request_id

_LATE = frozenset({DeadlineBeforeRun.__name__, DeadlineExceeded.__name__})
_MOST_TOLD = 2000
"""Characters of an error that are told beside the answer: what RAISE says may have a million."""
CLOSED_REQUEST = 499
"""The status, in logs and metrics only, of a request whose program left before its answer; nginx's convention."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of a request beside its answer."""

    server_timing: bool = True
    slow_statement: float = 0.0
    """Seconds on a connection that make a request slow; 0: none is."""
    trace_comment: bool = False
    """Whether the statements of a sampled trace name it to Postgres."""
    audit: bool = False
    """Whether each request's statements are told, with who sent them."""
    each: bool = True
    """Whether somebody wants to hear of each request; else it is enough to count those that went well."""


class Story:
    """One request from its first byte to its reply. Durations are seconds."""

    # Made for every request: what nearly always stays as it is stands in the class, which takes a third of the time.
    comment = ""
    """What goes behind each of its statements."""
    asked: Statement | Batch | None = None
    target = database = role = tenant = ""
    is_proven = False
    route: Route | None = None
    """Its way to one of several servers."""
    waited = connected = executed = encoded = 0.0
    parsed = reused = 0
    row_counts: tuple[int, ...] = ()
    outcome = "cancelled"
    sqlstate = reason = message = ""
    _trace: TraceParent | None = None

    def __init__(
        self, telling: Telling, *, traceparent: bytes | None, bytes_in: int, began: float | None = None
    ) -> None:
        """`began` is perf_counter's; None: now."""
        self._began = perf_counter() if began is None else began
        self.request_id = new_request_id()
        self.bytes_in = bytes_in
        if traceparent is not None:
            self._trace = trace = decode_traceparent(traceparent)
            if trace is not None and trace.is_sampled and telling.trace_comment:
                self.comment = f"\n/*traceparent='{trace}'*/"  # on a line of its own: the one before may be a comment

    @property
    def texts(self) -> tuple[str, ...]:
        """The statements that were asked for, without their parameters."""
        asked = self.asked
        if asked is None:
            return ()
        return tuple(each.text for each in asked.statements) if isinstance(asked, Batch) else (asked.text,)

    @property
    def timing(self) -> bytes:
        """The value of Server-Timing."""
        connect = min(self.connected, self.waited)  # a log-in that proved a password has opened one before the wait
        return encode_server_timing(
            queue=self.waited - connect, connect=connect, execute=self.executed, encode=self.encoded
        )

    def succeeded(self, row_counts: Iterable[int]) -> None:
        """It ended well, with so many rows in each result."""
        self.outcome = "ok"
        self.row_counts = tuple(row_counts)

    def refused(self, error: GatewayError) -> Reply:
        """It ended with an error, which is the reply."""
        self.outcome, self.reason, self.message = error.kind, type(error).__name__, error.message[:_MOST_TOLD]
        self.sqlstate = error.code if isinstance(error, PostgresError) else error.sqlstate
        # What was raised refers to the calls that it went through, and these to all that they had in hand: the whole
        # body, and by way of a lease the error itself, so that both were held until cycles were collected.
        error.__traceback__ = error.__context__ = None
        return error_reply(error, self.request_id)

    def late(self, deadline: Deadline) -> DeadlineExceeded:
        """Why it ends at its deadline."""
        return deadline.error(
            waited=self.waited, connected=self.connected, executed=self.executed, is_known=self.is_proven
        )

    def due(self, deadline: Deadline) -> Due | None:
        """Until when its answer has to be sent; that it is late may be told in any time."""
        if self.reason in _LATE:
            return None
        return deadline.due(self.request_id, waited=self.waited, connected=self.connected, executed=self.executed)

    def broke(self, error: Exception, observe: Observer) -> Reply:
        """It ended with what nobody foresaw, whose text could hold anything and does not leave the house."""
        observe(Bug(self.request_id, error))
        fault = GatewayError(f"internal error; the gateway's log has more under the request id {self.request_id}")
        fault.ran = HasRun.MAYBE
        self.outcome, self.sqlstate, self.message = "bug", fault.sqlstate, fault.message
        return error_reply(fault, self.request_id)

    def ran(self, lease: Lease, *, since: float) -> float:
        """Something ran on `lease`, which was had at `since`; the moment now, both perf_counter's."""
        now = perf_counter()
        self.executed += now - since
        self.connected += lease.connected
        self.parsed += lease.parsed
        self.reused += lease.reused
        return now

    def finished(self, reply: Reply, telling: Telling) -> Reply:
        """The reply with what its route has to say, and where its time went."""
        if self.route is not None:
            reply = reply._replace(headers=(*reply.headers, *self.route.headers()))
        if self.waited and telling.server_timing:
            reply = Reply(reply.status, reply.headers, reply.request_id, reply.body, self.timing)
        return reply

    def tell(self, reply: Reply | None, telling: Telling, observe: Observer) -> None:
        """Say what happened; without a `reply`, that the program left before it had one."""
        traceparent = str(self._trace) if self._trace is not None else ""
        if self.executed >= (telling.slow_statement or inf):
            observe(
                Slow(
                    self.request_id,
                    self.target,
                    self.database,
                    self.role,
                    self.executed,
                    self.waited,
                    self.texts,
                    traceparent,
                )
            )
        if self.asked is not None and telling.audit:
            observe(
                Audited(
                    self.request_id,
                    self.tenant or self.role,
                    self.target,
                    self.database,
                    self.role,
                    self.is_proven,
                    self.outcome,
                    self.sqlstate,
                    perf_counter() - self._began,
                    self.texts,
                    self.row_counts,
                    traceparent,
                )
            )
        asked = self.asked
        statements = len(asked.statements) if isinstance(asked, Batch) else int(asked is not None)
        observe(
            Answered(  # by position, which takes half the time for so many
                self.request_id,
                reply.status if reply is not None else CLOSED_REQUEST,
                self.outcome,
                self.sqlstate,
                self.database,
                self.role,
                statements,
                sum(self.row_counts),
                len(reply.body) if reply is not None else 0,
                perf_counter() - self._began,
                self.waited,
                self.message,
                self.target,
                self.is_proven,
                isinstance(asked, Batch),
                self.reason,
                self.executed,
                self.parsed,
                self.reused,
                self.bytes_in,
                self.connected,
                self.encoded,
                traceparent,
            )
        )
