"""A tunnel's traffic over backends that are only borrowed.

One Pipeline lives as long as its tunnel. Its holder moves bytes and borrows backends:

    receive_frontend(data)      what the program sent
    receive_backend(data)       what the backend sent
    to_frontend(), to_backend() what to write now
    needs_backend               borrow one, then `attach`; or `decline`
    may_release                 `detach` and give it back
    next_event()                the rest

A backend may go when every ReadyForQuery it owes has come, the last one idle, and nothing of the session lives in it
alone. Prepared statements hold on any backend (`naming`), parameters are set on each (`accord`), and where a statement
may have left something else behind, the server is asked, which decides whether the backend has to stay (`session`).
With Pin.SESSION nothing is rewritten and the backend stays until the end. What backends answer is read by `answers`.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum, auto

from sqlhttp_gateway.errors import BadRequest, GatewayError
from sqlhttp_gateway.wire.accord import Accord
from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.answers import IDLE, Answers
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.channels import Channels
from sqlhttp_gateway.wire.effects import Effects, Pin
from sqlhttp_gateway.wire.fence import Check, Fence, MakePrologue
from sqlhttp_gateway.wire.fenced import FencedRequests
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.prepared import Sources, Undo
from sqlhttp_gateway.wire.replies import Replies
from sqlhttp_gateway.wire.requests import Requests
from sqlhttp_gateway.wire.session import BackendSession, Session
from sqlhttp_gateway.wire.told import Greeting
from sqlhttp_gateway.wire.tunnel_events import Event, Failed, Listen, changes
from sqlhttp_gateway.wire.unproven import Unproven

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of a message that has to be read whole: a statement's text, mostly. Parameters and COPY data pass unbounded."""


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
        self._channels = Channels(is_shared=shares_listen)
        self._events: deque[Event] = deque()
        self._told_pins = self._session.pins

        self._frontend: list[bytes] = []
        self._backward: list[bytes] = []
        self._owed = Owed()
        self._names = Naming(sources, self._session, self._owed)
        own = OwnStatements(waiting=self._owed, names=self._names, sources=sources, to_backend=self._backward)
        self._fence: Fence | None = None
        if is_fenced:
            self._fence = Fence(check=check, waiting=self._owed, names=self._names)
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
        self._accord = accord = Accord(
            session=self._session,
            own=own,
            key_data=key_data,
            to_frontend=self._frontend,
            events=self._events,
            say_ready=self.say_ready,
            end=self._end,
        )
        self._answers = Answers(
            waiting=self._owed,
            requests=self._requests,
            names=self._names,
            own=own,
            accord=accord,
            channels=self._channels,
            fence=self._fence,
            is_plain=self._is_plain,
            to_frontend=self._frontend,
            events=self._events,
            end=self._end,
        )
        self._replies = Replies(waiting=self._owed, reader=self._answers, to_frontend=self._frontend)
        self._unproven = Unproven(
            waiting=self._owed,
            requests=self._requests,
            own=own,
            session=self._session,
            to_backend=self._backward,
            to_frontend=self._frontend,
            on_status=lambda frame: accord.read_status(frame, is_ours=True),
        )

        self._has_backend = False
        self._awaits_listen = False
        self._is_dead = False
        self._last_words = 0  # how much of `_frontend` there was when the tunnel failed
        self._declined: GatewayError | None = None
        self._told_declined = b""

    # ── for the holder ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def needs_backend(self) -> bool:
        """The program's next message has to go to a backend, and there is none."""
        return self._requests.needs_backend

    @property
    def is_greeted(self) -> bool:
        """The program has been let in: errors from now on are answers, and not the end."""
        return self._accord.is_greeted

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
        """A transaction is open, failed ones included, or a batch whose Sync the program still owes."""
        return self._answers.status != IDLE or (self._requests.is_open and not self._owed)

    @property
    def is_busy(self) -> bool:
        """Answers are outstanding, or messages wait to be sent."""
        return len(self._owed) > 0 or self.needs_backend or self._requests.is_held

    @property
    def may_release(self) -> bool:
        """Nothing depends on the backend any more."""
        return (
            self._has_backend
            and not self._requests.is_open
            and not self._owed
            and self._answers.status == IDLE
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
        """The program said goodbye and whatever it sent before is done, or a COPY that it gives no more data."""
        return self.is_terminated and (not self.is_busy or self._owed.in_copy)

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
            if self._is_dead:
                del self._frontend[self._last_words :]  # answers to what was sent behind that which has failed
        self._go_on()  # something may have waited for this

    def attach(
        self, backend: BackendSession, make_prologue: MakePrologue | None = None, *, ahead: Ahead | None = None
    ) -> None:
        """Use this backend from now on. It has to be clean, nothing open, no parameter set, or become so by `ahead`.

        `make_prologue` is what a fenced program's transactions begin with on it.
        """
        assert not self._has_backend
        self._has_backend = True
        if self._fence is not None:
            assert make_prologue is not None, "a fenced program without what its transactions begin with"
            self._fence.attach(make_prologue)
        self._names.attach(backend)
        self._requests.attach()
        if self._is_plain and backend.statements.size:
            backend.statements.close_later(b"")  # whose it is, nobody keeps account of here
        needed = self._session.needed(backend.defaults)
        if ahead is not None:
            needed = self._unproven.begin(ahead, needed, is_greeted=self._accord.is_greeted)
        self._accord.meet(backend.reported, needed)
        if ahead is not None and not needed:
            try:
                self._unproven.send_first()
            except BadRequest as error:
                self._end(error)
        self._go_on()

    def greet(self, greeting: Greeting) -> None:
        """Let the program in before there is a backend, with what another of the same pool was told."""
        self._requests.needs_backend = False
        self._accord.recall(greeting)
        self._go_on()

    def detach(self) -> Residue:
        """The backend goes back to its pool. Says what it has to be cleaned of."""
        self._has_backend = False
        self._answers.status = IDLE
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
            self._answers.say_ready()
        self._go_on()

    def listening(self, channels: Iterable[bytes]) -> None:
        """Somebody hears these channels for the program, as the Listen event asked."""
        self._channels.heard(channels)
        self._awaits_listen = False
        self._go_on()

    def listen_alone(self) -> None:
        """Nobody can hear for the program: from now on its own backend does, and stays with it."""
        self._channels.is_shared = self._awaits_listen = False
        self._go_on()

    def notify(self, notification: bytes) -> None:
        """Pass a NotificationResponse to the program, at once or when its transaction is over, as Postgres does."""
        if self._answers.status == IDLE and not self._requests.is_open and not self._owed and self._accord.is_greeted:
            self._frontend.append(notification)
        else:
            self._channels.hold(notification)

    def refuse_ahead(self) -> None:
        """The backend has ended before it was known to be clean: nothing of what was sent is done."""
        self._unproven.refuse()
        self._refused()

    # ── what texts do (Texts of `requests`) ──────────────────────────────────────────────────────────────────────────

    def has_to_wait(self, effects: Effects) -> bool:
        """Whether a text with these effects cannot be sent yet."""
        if self._names.needs_certainty(effects):
            return True
        missing = self._channels.missing(effects.listens)
        # What another connection hears is in UTF-8, whatever the program's encoding.
        if missing and not (self._accord.is_in_utf8 and self._channels.has_room(missing)):
            self._channels.is_shared = False
        if not missing or not self._channels.is_shared:
            return False
        self._awaits_listen = self._requests.is_held = True
        self._events.append(Listen(missing))
        return True

    def run(self, effects: Effects) -> tuple[bytes, Undo | None]:
        """A text with these effects is about to be sent: what goes first, and how to take back what was assumed."""
        if effects.listens and not self._channels.is_shared:
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

    def say_ready(self) -> None:
        """ReadyForQuery of our own, outside any transaction."""
        self._answers.say_ready()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self) -> None:
        unproven = self._unproven
        self._requests.is_held = (
            self._accord.is_pending or self._awaits_listen or unproven.cleansing is not None or unproven.is_refused
        )
        try:
            self._requests.advance()
        except BadRequest as error:  # in what had to wait until now: whoever calls has not done it
            self._end(error)

    def _refused(self) -> None:
        self._channels.transaction_ends(commits=False)
        self._accord.refused()

    def _end(self, error: GatewayError) -> None:
        self._frontend.append(encode_error_response(error, severity="FATAL"))
        self._last_words = len(self._frontend)
        self._events.append(Failed(error))
        self._requests.is_terminated = self._is_dead = True


def _take(parts: list[bytes]) -> bytes:
    if not parts:
        return b""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    return data
