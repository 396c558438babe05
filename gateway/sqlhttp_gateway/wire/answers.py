"""What a tunnel's backend answers, and what follows from it for the program, its session and its channels.

`replies` cuts what comes into messages and passes on most of them; here are those that mean something beyond that.
"""

from collections import deque
from collections.abc import Callable, Sequence

from sqlhttp_gateway.errors import ClaimsFailed, GatewayError, RemoteProtocolError, StatementRefused
from sqlhttp_gateway.wire.accord import Accord
from sqlhttp_gateway.wire.backend import decode_error, encode_ready_for_query
from sqlhttp_gateway.wire.channels import Channels
from sqlhttp_gateway.wire.fence import Fence, Verdict
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Entry, Kind, Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.requests import Requests
from sqlhttp_gateway.wire.tunnel_events import Event, Unlisten

IDLE = ord("I")
"""ReadyForQuery's status where no transaction is open."""
_IN_TRANSACTION = ord("T")
_UNKNOWN = 0
_IS_FATAL = b"\0VFATAL\0"
"""In an ErrorResponse with which the backend ends; that is the program's to know, whosever question it meets."""


class Answers:
    """One tunnel's Reader. `to_frontend` is where the bytes go."""

    __slots__ = (
        "_accord",
        "_channels",
        "_end",
        "_events",
        "_fence",
        "_is_plain",
        "_names",
        "_out",
        "_owed",
        "_own",
        "_requests",
        "status",
    )

    def __init__(
        self,
        *,
        waiting: Owed,
        requests: Requests,
        names: Naming,
        own: OwnStatements,
        accord: Accord,
        channels: Channels,
        fence: Fence | None,
        is_plain: bool,
        to_frontend: list[bytes],
        events: deque[Event],
        end: Callable[[GatewayError], None],
    ) -> None:
        """`is_plain` where nothing is rewritten; `end` is told why the program may not go on."""
        self.status = IDLE
        """What the last ReadyForQuery said."""
        self._owed = waiting
        self._requests = requests
        self._names = names
        self._own = own
        self._accord = accord
        self._channels = channels
        self._fence = fence
        self._is_plain = is_plain
        self._out = to_frontend
        self._events = events
        self._end = end

    def say_ready(self) -> None:
        """ReadyForQuery of our own, outside any transaction."""
        self._end_transaction()
        self._out.append(encode_ready_for_query(b"I"))

    # ── Reader ──

    def read_ready(self, status: int, frame: bytes, entry: Entry | None) -> None:
        """ReadyForQuery."""
        if self._owed.doubtful and (entry is None or entry.kind not in (Kind.SYNC, Kind.QUERY)):
            self._owed.doubtful -= 1
            if entry is not None:
                self._out.append(frame)
                return
        if entry is None:
            # Of a Sync that was thought to be lost to a COPY: this has failed before it read that.
            self._owed.is_skipping = False
            self._requests.is_open = False
            self.status = status
            self._names.settle()
            self._end_batch(frame, status)
            self._make_sure()
            return
        if entry.kind not in (Kind.SYNC, Kind.QUERY):
            raise RemoteProtocolError("unexpected ReadyForQuery from the server")
        local = self._owed.pop()
        self.status = status
        is_over = not self._owed
        if entry.batch is None:
            self._names.program.batch_answered()
        if is_over:
            self._requests.is_open = False
            self._names.settle()
        if entry.batch is not None:
            entry.batch.finish()
        elif self._fence is None or self._is_within(self._fence, status):
            self._end_batch(frame, status if is_over else _UNKNOWN)
        if local:
            self._out.append(local)
        self._make_sure()

    def read_whole(self, answer: bytes) -> bool:
        """All that is owed, and nothing to be told of: `read_ready` of the last message."""
        if self._fence is not None or self._channels.pending:
            return False  # they belong between the answer and its ReadyForQuery
        self.status = answer[-1]
        self._owed.clear()
        self._requests.is_open = False
        self._names.settle()
        if self.status == IDLE:
            self._end_transaction()
            self._accord.ready(answer, is_settled=True, is_idle=True)
        else:
            self._out.append(answer)
        return True

    def read_error(self, frame: bytes, entry: Entry | None) -> None:
        """ErrorResponse."""
        self._channels.transaction_ends(commits=False)
        if self._fence is not None:
            self._fence.error()
            if entry is not None and entry.instead:
                frame = entry.instead
        if entry is not None and entry.batch is not None and _IS_FATAL not in frame:
            entry.batch.error = frame
        else:
            self._out.append(self._names.with_own_names(frame))
        if entry is None:
            return
        self._owed.leave_copy()
        if entry.kind is Kind.QUERY:
            self._owed.in_copy = False
            if entry.undo is not None:
                entry.undo(True)
        elif entry.kind is not Kind.SYNC:
            self._names.batch_failed(self._owed.fail())
            if self._fence is not None and self._owed.is_skipping:
                self._fence.is_waiting = False  # a FunctionCall was passed over, and its end with it

    def read_status(self, frame: bytes, entry: Entry | None) -> None:
        """ParameterStatus."""
        self._accord.read_status(frame, is_ours=entry is not None and entry.is_ours)

    def read_notification(self, frame: bytes) -> None:
        """NotificationResponse, which only a backend of our own has for us."""
        if self._is_plain or not self._channels.is_heard(frame):
            self._out.append(frame)

    def read_copy(self, frame: bytes, entry: Entry | None) -> None:
        """CopyInResponse."""
        if entry is None:
            raise RemoteProtocolError("unexpected CopyInResponse from the server")
        if self._fence is not None:
            raise RemoteProtocolError("CopyInResponse to a program that cannot have asked for it")
        for _ in range(self._owed.enter_copy()):
            self._names.program.batch_answered()
        self._out.append(frame)

    def read_command(self, tag: bytes) -> None:
        """CommandComplete."""
        if tag in (b"ROLLBACK", b"COMMIT"):
            self._channels.transaction_ends(commits=tag == b"COMMIT")
        elif tag in (b"DEALLOCATE ALL", b"DISCARD ALL"):
            if self._is_plain:
                self._names.forget_all()
            else:
                self._names.dropped_all()
        if tag in (b"RESET", b"DISCARD ALL"):
            self._accord.was_reset()

    # ── inside ──

    def _make_sure(self) -> None:
        """Where a ReadyForQuery may still come, keep the backend until that is known: whoever has it next would take it
        for an answer to something else."""
        if self._owed.doubtful and not self._owed:
            self._own.mark(self._is_sure)

    def _is_sure(self, values: Sequence[bytes | None] | None) -> None:
        self._owed.doubtful = 0

    def _end_batch(self, frame: bytes, status: int) -> None:
        """Pass on a ReadyForQuery, its status being `_UNKNOWN` where more is owed; at the end of a transaction, with
        what belongs there."""
        if status == IDLE:
            self._end_transaction()
        is_settled = status == IDLE or (status == _IN_TRANSACTION and self._fence is None)
        self._accord.ready(frame, is_settled=is_settled, is_idle=status == IDLE)

    def _end_transaction(self) -> None:
        """All that was sent is answered, and no transaction is open."""
        self._requests.settle()
        gone = self._channels.settle()
        if gone:
            self._events.append(Unlisten(gone))
        if self._channels.pending:
            self._out += self._channels.take_held()

    def _is_within(self, fence: Fence, status: int) -> bool:
        """Whether a batch has ended as it should, so that its ReadyForQuery is the program's."""
        match fence.settle(status):
            case Verdict.FINE:
                return True
            case Verdict.ROLL_BACK:
                self._roll_back(fence)
            case Verdict.REFUSED:
                fields = decode_error((fence.refusal or b"")[5:])
                self._end(ClaimsFailed(f"the claims could not be set: {fields.get('M', '')}"))
            case Verdict.BROKEN:
                self._end(StatementRefused("a transaction was begun in a way that these credentials do not allow"))
        return False

    def _roll_back(self, fence: Fence) -> None:
        def done(values: Sequence[bytes | None] | None) -> None:
            if values is None:
                self._end(ClaimsFailed("the transaction could not be ended"))
                return
            fence.rolled_back()
            self._end_batch(encode_ready_for_query(b"I"), IDLE)

        self._own.run(b"ROLLBACK", done)
