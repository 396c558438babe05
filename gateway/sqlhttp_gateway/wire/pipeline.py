"""A tunnel's traffic over backends that are only borrowed.

One Pipeline lives as long as its tunnel. Its holder moves bytes and borrows backends:

    receive_frontend(data)      what the program sent
    receive_backend(data)       what the backend sent
    to_frontend(), to_backend() what to write now
    needs_backend               borrow one, then `attach`; or `decline`
    may_release                 `detach` and give it back
    next_event()                the rest

A backend may go when every ReadyForQuery it owes has come, the last one idle, and nothing of the session lives in it
alone. Prepared statements hold on any backend (`naming`), parameters are set on each, and where a statement may have
left something else behind, the server is asked, which decides whether the backend has to stay (`session`). With
Pin.SESSION nothing is rewritten and the backend stays until the end.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto

from sqlhttp_gateway.errors import (
    BadRequest,
    ClaimsFailed,
    GatewayError,
    PostgresError,
    RemoteProtocolError,
    StatementRefused,
)
from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.backend import decode_error, encode_error_response, encode_ready_for_query
from sqlhttp_gateway.wire.channels import Channels
from sqlhttp_gateway.wire.effects import Effects, Pin
from sqlhttp_gateway.wire.fence import Check, Fence, MakePrologue, Verdict
from sqlhttp_gateway.wire.fenced import FencedRequests
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import AHEAD, Entry, Kind, Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.prepared import Sources, Undo
from sqlhttp_gateway.wire.replies import Replies
from sqlhttp_gateway.wire.requests import Requests
from sqlhttp_gateway.wire.session import IDENTITY, BackendSession, Parameters, Session
from sqlhttp_gateway.wire.told import Greeting, Told
from sqlhttp_gateway.wire.tunnel_events import Event, Failed, Greeted, Listen, Outdated, Unlisten, changes
from sqlhttp_gateway.wire.unproven import Unproven

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of a message that has to be read whole: a statement's text, mostly. Parameters and COPY data pass unbounded."""

_IDLE = ord("I")


class Residue(Enum):
    """What a tunnel leaves on the backend it gives back, beside what a scrub after every use undoes."""

    NOTHING = auto()
    STATEMENTS = auto()  # prepared statements under the program's own names: DISCARD ALL
    LIBRARY = auto()  # something that only the end of the connection undoes


class Pipeline:
    """One tunnel's traffic. See the module's text for how it is held."""

    def __init__(
        self,
        parameters: Mapping[str, str],
        sources: Sources,
        *,
        key_data: bytes = b"",
        pins: Iterable[Pin] = (),
        shares_listen: bool = True,
        max_message: int = MAX_MESSAGE,
        is_fenced: bool = False,
        check: Check | None = None,
    ) -> None:
        """`parameters` are those of the start-up message; `key_data` is the BackendKeyData that the program gets.

        With `shares_listen`, LISTEN is an event and notifications come by `notify`; else it pins the backend. Where it
        `is_fenced`, the `check` lets each text pass, and transactions begin with what `attach` is given.
        """
        self._session = Session(parameters, pins=pins)
        self._is_plain = Pin.SESSION in self._session.pins and not is_fenced
        self._key_data = key_data
        self._shares_listen = shares_listen
        self._channels = Channels()
        self._events: deque[Event] = deque()
        self._told_pins = self._session.pins

        self._frontend: list[bytes] = []
        self._backward: list[bytes] = []
        self._owed = Owed()
        self._names = Naming(sources, self._session, self._owed)
        self._own = OwnStatements(waiting=self._owed, names=self._names, sources=sources, to_backend=self._backward)
        self._fence: Fence | None = None
        if is_fenced:
            self._fence = Fence(check=check, waiting=self._owed, names=self._names, sources=sources)
            self._requests: Requests = FencedRequests(
                self._fence,
                waiting=self._owed,
                names=self._names,
                texts=self,
                to_backend=self._backward,
                to_frontend=self._frontend,
                max_message=max_message,
            )
        else:
            self._requests = Requests(
                waiting=self._owed,
                names=self._names,
                texts=self,
                to_backend=self._backward,
                to_frontend=self._frontend,
                max_message=max_message,
                is_plain=self._is_plain,
            )
        self._requests.needs_backend = True  # to learn what the server reports, and to check the parameters
        self._replies = Replies(waiting=self._owed, reader=self, to_frontend=self._frontend)
        self._unproven = Unproven(
            waiting=self._owed,
            requests=self._requests,
            own=self._own,
            session=self._session,
            to_backend=self._backward,
            to_frontend=self._frontend,
            on_status=lambda frame: self.read_status(frame, AHEAD),
        )

        self._backend: BackendSession | None = None
        self._status = _IDLE
        self._awaits_parameters = True
        self._awaits_listen = False
        self._is_greeted = False
        self._is_dead = False
        self._declined: GatewayError | None = None
        self._told_declined = b""
        self._told = Told()

    # ── for the holder ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def needs_backend(self) -> bool:
        """The program's next message has to go to a backend, and there is none."""
        return self._requests.needs_backend

    @property
    def is_greeted(self) -> bool:
        """The program has been let in: errors from now on are answers, and not the end."""
        return self._is_greeted

    @property
    def takes_unclean(self) -> bool:
        """Whether a backend may be attached that is not clean."""
        return not self._is_plain and self._fence is None

    @property
    def is_cleansing(self) -> bool:
        """It is not known yet whether the backend is clean, and so whether anything of what was sent is done."""
        return self._unproven.cleansing is not None

    @property
    def has_failed_ahead(self) -> bool:
        """The backend has refused to become clean, and is about to say that it waits for the next."""
        return self._unproven.has_failed

    @property
    def is_refused(self) -> bool:
        """The backend could not be made clean, and nothing of what was sent is done: `detach`, and attach another."""
        return self._unproven.is_refused

    @property
    def in_transaction(self) -> bool:
        """A transaction is open, failed ones included."""
        return self._status != _IDLE

    @property
    def is_busy(self) -> bool:
        """Answers are outstanding, or messages wait to be sent."""
        return len(self._owed) > 0 or self.needs_backend or self._requests.is_held

    @property
    def may_release(self) -> bool:
        """Nothing depends on the backend any more."""
        return (
            self._backend is not None
            and not self._requests.is_open
            and not self._owed
            and self._status == _IDLE
            and not self._session.is_pinned
            and not self._requests.is_held
            and not self._requests.is_amid_message
            and not self._replies.is_amid_message
        )

    @property
    def has_parsed(self) -> bool:
        """The backend has run more since `attach` than what it had prepared before."""
        return self._is_plain or self._fence is not None or self._names.has_parsed

    @property
    def is_terminated(self) -> bool:
        """The program said goodbye, or the tunnel failed."""
        return self._requests.is_terminated

    @property
    def is_finished(self) -> bool:
        """The program said goodbye and whatever it sent before is done."""
        return self.is_terminated and not self.is_busy

    @property
    def pins(self) -> frozenset[Pin]:
        """Why the backend has to stay."""
        return self._session.pins

    @property
    def pending_notifications(self) -> int:
        """Notifications that wait for the end of a transaction."""
        return self._channels.pending

    def next_event(self) -> Event | None:
        """What else has happened, oldest first."""
        pins = self._session.pins
        if pins is not self._told_pins:
            before, self._told_pins = self._told_pins, pins
            self._events += changes(before, pins)
        return self._events.popleft() if self._events else None

    def to_frontend(self) -> bytes:
        """What the program is to get now."""
        return _take(self._frontend)

    def to_backend(self) -> bytes:
        """What the backend is to get now."""
        return _take(self._backward)

    def receive_frontend(self, data: bytes) -> None:
        """Take what the program sent.

        Raises:
            BadRequest: it breaks the protocol. What it sent before that is in `to_backend`; the tunnel has to end.
        """
        self._requests.receive(data)

    def pass_whole(self, data: bytes) -> bytes | None:
        """`receive_frontend` and `to_backend` of a question that is known at sight, while nothing is outstanding; None,
        and nothing has happened, for anything else."""
        return _take(self._backward) if self._requests.pass_whole(data) else None

    def receive_backend(self, data: bytes) -> None:
        """Take what the backend sent.

        Raises:
            RemoteProtocolError: it answers what nobody asked; the tunnel has to end, and the backend with it.
        """
        if self._is_dead:
            return
        if self._unproven.cleansing is not None:
            data = self._unproven.receive(data)
            if self._unproven.is_refused:
                self._refused()
        if data:
            self._replies.receive(data)
        self._go_on()  # something may have waited for this

    def attach(
        self, backend: BackendSession, make_prologue: MakePrologue | None = None, *, ahead: Ahead | None = None
    ) -> None:
        """Use this backend from now on. It has to be clean, nothing open, no parameter set, or become so by `ahead`.

        `make_prologue` is what a fenced program's transactions begin with on it.
        """
        assert self._backend is None
        self._backend = backend
        if self._fence is not None:
            assert make_prologue is not None, "a fenced program without what its transactions begin with"
            self._fence.attach(make_prologue)
        self._names.attach(backend)
        self._requests.attach()
        needed = self._session.needed(backend.defaults)
        if ahead is not None:
            needed = self._unproven.begin(ahead, needed, is_greeted=self._is_greeted)
        if needed:
            # What says who we are has to be in force before anything is sent; the rest goes ahead of it.
            self._awaits_parameters |= not IDENTITY.isdisjoint(name for name, _ in needed)
            self._set_parameters(needed)
        elif not self._is_greeted:
            self._greet()
        if self._is_greeted and (self._told.is_recalled or backend.reported is not self._told.baseline):
            self._tell_differences(backend.reported)
        if ahead is not None and not needed:
            try:
                self._unproven.send_first()
            except BadRequest as error:
                self._end(error)
        self._go_on()

    def greet(self, greeting: Greeting) -> None:
        """Let the program in before there is a backend, with what another of the same pool was told."""
        self._told.recall(greeting)
        self._requests.needs_backend = False
        self._say_greeting()
        self._go_on()

    def detach(self) -> Residue:
        """The backend goes back to its pool. Says what it has to be cleaned of."""
        self._backend = None
        self._status = _IDLE
        self._owed.clear()
        self._names.detach()
        if self._fence is not None:
            self._fence.detach()
        self._replies.reset()
        self._requests.detach()
        unproven = self._unproven
        if (unproven.cleansing is not None or unproven.is_refused) and unproven.detach():
            self._go_on()  # what was sent in vain wants another
        pins = self._session.pins
        if pins & {Pin.LOAD, Pin.CONNECTION}:
            return Residue.LIBRARY
        return Residue.STATEMENTS if pins else Residue.NOTHING

    def decline(self, error: GatewayError) -> None:
        """There is no backend to be had: the program is told, and may go on.

        Not where it may have sent already what counts on what was declined, and means something else without it: an
        INSERT behind BEGIN would be a transaction of its own as soon as there is a backend. Then the tunnel ends.
        """
        self._declined, said = error, encode_error_response(error)
        self._told_declined = said
        self._frontend.append(said)
        if self._requests.refuse():
            self.say_ready()
        self._go_on()

    def listening(self, channels: Iterable[bytes]) -> None:
        """Somebody hears these channels for the program, as the Listen event asked."""
        self._channels.heard(channels)
        self._awaits_listen = False
        self._go_on()

    def listen_alone(self) -> None:
        """Nobody can hear for the program: from now on its own backend does, and stays with it."""
        self._shares_listen = self._awaits_listen = False
        self._go_on()

    def notify(self, notification: bytes) -> None:
        """Pass a NotificationResponse to the program, at once or when its transaction is over, as Postgres does."""
        if self._status == _IDLE and not self._requests.is_open and not self._owed and self._is_greeted:
            self._frontend.append(notification)
        else:
            self._channels.hold(notification)

    def _go_on(self) -> None:
        unproven = self._unproven
        self._requests.is_held = (
            self._awaits_parameters or self._awaits_listen or unproven.cleansing is not None or unproven.is_refused
        )
        try:
            self._requests.advance()
        except BadRequest as error:  # in what had to wait until now: whoever calls has not done it
            self._end(error)

    def refuse_ahead(self) -> None:
        """The backend has ended before it was known to be clean: nothing of what was sent is done."""
        self._unproven.refuse()
        self._refused()

    def _refused(self) -> None:
        self._channels.transaction_ends(commits=False)
        self._awaits_parameters = not self._is_greeted

    # ── what texts do (Texts of `requests`) ──────────────────────────────────────────────────────────────────────────

    def has_to_wait(self, effects: Effects) -> bool:
        """Whether a text with these effects cannot be sent yet."""
        if self._names.needs_certainty(effects):
            return True
        missing = self._channels.missing(effects.listens)
        if not missing or not self._shares_listen:
            return False
        self._awaits_listen = self._requests.is_held = True
        self._events.append(Listen(missing))
        return True

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        """A text with these effects is about to be sent: what goes first, and how to take back what was assumed."""
        if effects.listens and not self._shares_listen:
            self._session.pin(Pin.LISTEN)
        self._channels.run(unlistens=effects.unlistens, listens=effects.listens)
        if effects.reads_sequence and not self.in_transaction and not self._requests.is_open:
            self._session.pin(Pin.SEQUENCE)
        self._session.note(effects)
        return self._names.run(effects)

    def missed(self) -> None:
        """What was declined cannot be left out: nothing that the program sends may run any more."""
        assert self._declined is not None
        if self._frontend and self._frontend[-1] is self._told_declined:
            self._frontend.pop()  # it is told once, as the end
        self._end(self._declined)

    # ── what backends say (Reader of `replies`) ──────────────────────────────────────────────────────────────────────

    def read_ready(self, status: int, frame: bytes, entry: Entry | None) -> None:
        """ReadyForQuery."""
        if entry is None:
            self._frontend.append(frame)  # of a Sync that was thought to be lost to a COPY
            return
        if entry.kind not in (Kind.SYNC, Kind.QUERY):
            raise RemoteProtocolError("unexpected ReadyForQuery from the server")
        local = self._owed.pop()
        self._status = status
        is_over = not self._owed
        if entry.batch is None:
            self._names.program.batch_answered()
        if is_over:
            self._requests.is_open = False
            self._names.settle()
        if entry.batch is not None:
            entry.batch.finish()
        elif self._fence is None or self._is_within(self._fence, status):
            self._end_batch(frame, is_idle=is_over and status == _IDLE)
        if local:
            self._frontend.append(local)

    def read_whole(self, answer: bytes) -> bool:
        """All that is owed, and nothing to be told of: `read_ready` of the last message."""
        if self._fence is not None or self._channels.pending:
            return False  # they belong between the answer and its ReadyForQuery
        self._status = answer[-1]
        self._owed.clear()
        self._requests.is_open = False
        self._names.settle()
        self._frontend.append(answer)
        if self._status == _IDLE:
            self._end_transaction()
            self._ask()
        return True

    def _end_batch(self, frame: bytes, *, is_idle: bool) -> None:
        """Pass on a ReadyForQuery; at the end of a transaction, with what belongs there."""
        if is_idle:
            self._end_transaction()
        self._frontend.append(frame)
        if is_idle:
            self._ask()

    def read_error(self, frame: bytes, entry: Entry | None) -> None:
        """ErrorResponse."""
        self._channels.transaction_ends(commits=False)
        if self._fence is not None:
            self._fence.error()
            if entry is not None and entry.instead:
                frame = entry.instead
        if entry is not None and entry.batch is not None:
            entry.batch.error = frame
        else:
            self._frontend.append(self._names.with_own_names(frame))
        if entry is None:
            return
        if entry.kind is Kind.QUERY:
            self._owed.in_copy = False
            if entry.undo is not None:
                entry.undo(True)
        elif entry.kind is not Kind.SYNC:
            self._names.batch_failed(self._owed.fail())

    def read_status(self, frame: bytes, entry: Entry | None) -> None:
        """ParameterStatus."""
        name, value, is_new = self._told.read(frame)
        is_ours = entry is not None and entry.is_ours
        if not is_ours:
            self._session.reported(name.lower(), value)
        if is_new and (not is_ours or self._is_greeted):
            self._frontend.append(frame)

    def read_notification(self, frame: bytes) -> None:
        """NotificationResponse, which only a backend of our own has for us."""
        if self._is_plain or not self._shares_listen:
            self._frontend.append(frame)

    def read_copy(self, frame: bytes, entry: Entry | None) -> None:
        """CopyInResponse."""
        if entry is None:
            raise RemoteProtocolError("unexpected CopyInResponse from the server")
        if self._fence is not None:
            raise RemoteProtocolError("CopyInResponse to a program that cannot have asked for it")
        for _ in range(self._owed.enter_copy()):
            self._names.program.batch_answered()
        self._frontend.append(frame)

    def read_command(self, tag: bytes) -> None:
        """CommandComplete."""
        if tag in (b"ROLLBACK", b"COMMIT"):
            self._channels.transaction_ends(commits=tag == b"COMMIT")
        elif tag in (b"DEALLOCATE ALL", b"DISCARD ALL") and not self._is_plain:
            self._names.dropped_all()

    def _end_transaction(self) -> None:
        """All that was sent is answered, and no transaction is open."""
        self._requests.settle()
        gone = self._channels.settle()
        if gone:
            self._events.append(Unlisten(gone))
        if self._channels.pending:
            self._frontend += self._channels.take_held()

    # ── the fence ──

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
            self._end_batch(encode_ready_for_query(b"I"), is_idle=True)

        self._own.run(b"ROLLBACK", done)

    # ── what we ask and set ourselves ────────────────────────────────────────────────────────────────────────────────

    def _ask(self) -> None:
        """Ask the server what the transaction has left behind, where its texts are suspect."""
        question = self._session.question()
        if question is None:
            return

        def done(values: Sequence[bytes | None] | None) -> None:
            restored = self._session.answered(question, values)
            self._awaits_parameters = False
            if restored:
                self._set_parameters(restored)

        self._awaits_parameters = question.may_restore
        self._own.run(question.text, done)

    def _set_parameters(self, needed: Parameters) -> None:
        """Give the backend the session's parameters, ahead of whatever the program sends."""

        def done(values: Sequence[bytes | None] | None) -> None:
            if values is None or len(values) != len(needed):
                self._fail(batch.error)
                return
            for (name, _), value in zip(needed, values, strict=True):
                self._session.was_set(name, value or b"")
            self._awaits_parameters = False
            if not self._is_greeted:
                self._greet()

        batch = self._own.set_parameters(needed, done)

    def _fail(self, error_response: bytes | None) -> None:
        """Without its parameters the session must not go on: what follows could run as somebody else."""
        fields = decode_error(error_response[5:]) if error_response else {"M": "a parameter could not be set"}
        self._end(PostgresError(fields | {"S": "FATAL", "V": "FATAL"}))

    def _end(self, error: GatewayError) -> None:
        self._frontend.append(encode_error_response(error, severity="FATAL"))
        self._events.append(Failed(error))
        self._requests.is_terminated = self._is_dead = True

    def _greet(self) -> None:
        """The log-in is over: every ParameterStatus of the server, the key, and the first ReadyForQuery."""
        assert self._backend is not None
        self._events.append(Greeted(self._told.learn(self._backend.reported)))
        self._say_greeting()

    def _say_greeting(self) -> None:
        self._is_greeted, self._awaits_parameters = True, False
        self._frontend += self._told.statuses()
        self._frontend.append(self._key_data)
        self.say_ready()

    def say_ready(self) -> None:
        """ReadyForQuery of our own, outside any transaction."""
        self._end_transaction()
        self._frontend.append(encode_ready_for_query(b"I"))

    def _tell_differences(self, reported: Mapping[str, str]) -> None:
        """Another backend may have other defaults: the program is told, as it would be of any change."""
        is_recalled, self._told.is_recalled = self._told.is_recalled, False
        if reported == self._told.baseline:
            return
        if is_recalled:
            self._events.append(Outdated())
        self._frontend += self._told.differences(reported, self._session.parameters)


def _take(parts: list[bytes]) -> bytes:
    if not parts:
        return b""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    return data
