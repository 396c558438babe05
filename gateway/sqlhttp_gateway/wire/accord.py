"""A tunnel's session and its backend, made to agree: what has to be set there, asked there, and told to the program.

What the parameters are and what answers mean for them is the work of `session`, what the program knows that of `told`.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.session import IDENTITY, Parameters, Question, Session
from sqlhttp_gateway.wire.told import UTF8, Greeting, Told
from sqlhttp_gateway.wire.tunnel_events import Event, Greeted, Outdated


class Accord:
    """One tunnel's. `to_frontend` is where the bytes go for the program."""

    __slots__ = (
        "_end",
        "_events",
        "_held_ready",
        "_is_reset",
        "_key_data",
        "_own",
        "_replies",
        "_reported",
        "_say_ready",
        "_session",
        "_told",
        "is_greeted",
        "is_pending",
    )

    def __init__(
        self,
        *,
        session: Session,
        own: OwnStatements,
        key_data: bytes,
        to_frontend: list[bytes],
        events: deque[Event],
        say_ready: Callable[[], None],
        end: Callable[[GatewayError], None],
    ) -> None:
        """`key_data` is the BackendKeyData that the program gets; `say_ready` tells it that it may begin, and `end` why
        it may not go on."""
        self.is_greeted = False
        """The program has been let in: errors from now on are answers, and not the end."""
        self.is_pending = True
        """Nothing of the program's may be sent until something has been set or answered."""
        self._session = session
        self._own = own
        self._key_data = key_data
        self._replies = to_frontend
        self._events = events
        self._say_ready = say_ready
        self._end = end
        self._told = Told()
        self._reported: Mapping[str, str] = {}
        self._is_reset = False  # and it is not known yet what that has taken from the program
        self._held_ready = b""  # a ReadyForQuery that waits until this is mended

    def meet(self, reported: Mapping[str, str], needed: Parameters) -> None:
        """A backend is used from now on that `reported` this at its log-in, and has to be given these parameters."""
        self._reported = reported
        if needed:
            # What says who we are has to be in force before anything is sent; the rest goes ahead of it.
            self.is_pending |= not IDENTITY.isdisjoint(name for name, _ in needed)
            self._set(needed)
        elif not self.is_greeted:
            self._greet()
        if self.is_greeted and (self._told.is_recalled or reported is not self._told.baseline):
            self._tell_differences(reported)

    @property
    def is_in_utf8(self) -> bool:
        """Whether the program is sent its texts in UTF-8, as the gateway is itself."""
        return self._told.encoding == UTF8

    def recall(self, greeting: Greeting) -> None:
        """Let the program in before there is a backend, with what another of the same pool was told."""
        self._told.recall(greeting)
        self._say_greeting()

    def refused(self) -> None:
        """Nothing of what was sent to the backend is done."""
        self.is_pending = not self.is_greeted

    def was_reset(self) -> None:
        """A RESET, or DISCARD ALL, is done."""
        self._is_reset = True

    def ready(self, frame: bytes, *, is_settled: bool, is_idle: bool) -> None:
        """Pass on the program's ReadyForQuery; at the end of a transaction, ask the server what that has left behind,
        where its texts are suspect.

        RESET takes a session back to what its start-up asked for, and a pool's connection to something else. Where
        that is to be mended, the program hears that it may go on only then: what it is told, such as its encoding, it
        takes for the truth. `is_settled` where the server waits for the program, and what is asked can be answered.
        """
        question = self._session.question() if is_idle else None
        if question is None and not (self._is_reset and is_settled):
            self._replies.append(frame)
            return
        self._is_reset = False
        self._held_ready = frame
        if question is None:
            self._ask_for_lost()
        else:
            self._ask(question)
        if not self.is_pending:
            self._go_on()

    def read_status(self, frame: bytes, *, is_ours: bool) -> None:
        """A ParameterStatus, which is the program's unless what `is_ours` caused it and it is of no interest.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        name, value, is_new = self._told.read(frame)
        if not is_ours:
            self._session.reported(name.lower(), value)
        if is_new and (not is_ours or self.is_greeted):
            self._replies.append(frame)

    # ── inside ──

    def _ask(self, question: Question) -> None:
        def done(values: Sequence[bytes | None] | None) -> None:
            self._restore(self._session.answered(question, values))

        self.is_pending = question.may_restore
        self._own.run(question.text, done)

    def _ask_for_lost(self) -> None:
        def done(values: Sequence[bytes | None] | None) -> None:
            self._restore(self._session.lost(values))

        names = self._session.may_lose
        if names:
            self.is_pending = True
            self._own.find_reset(names, done)

    def _restore(self, restored: Parameters) -> None:
        if restored:
            self._set(restored)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Nothing has to be set or answered any more."""
        self.is_pending = False
        if self._held_ready:
            self._replies.append(self._held_ready)
            self._held_ready = b""

    def _set(self, needed: Parameters) -> None:
        """Give the backend the session's parameters, ahead of whatever the program sends."""

        def done(values: Sequence[bytes | None] | None) -> None:
            if values is None or len(values) != len(needed):
                self._fail(batch.error)
                return
            for (name, _), value in zip(needed, values, strict=True):
                self._session.was_set(name, value or b"")
            self._go_on()
            if not self.is_greeted:
                self._greet()

        batch = self._own.set_parameters(needed, done)

    def _fail(self, error_response: bytes | None) -> None:
        """Without its parameters the session must not go on: what follows could run as somebody else."""
        fields = decode_error(error_response[5:]) if error_response else {"M": "a parameter could not be set"}
        self._end(PostgresError(fields | {"S": "FATAL", "V": "FATAL"}))

    def _greet(self) -> None:
        """The log-in is over: every ParameterStatus of the server, the key, and the first ReadyForQuery."""
        self._events.append(Greeted(self._told.learn(self._reported)))
        self._say_greeting()

    def _say_greeting(self) -> None:
        self.is_greeted, self.is_pending = True, False
        self._replies += self._told.statuses()
        self._replies.append(self._key_data)
        self._say_ready()

    def _tell_differences(self, reported: Mapping[str, str]) -> None:
        """Another backend may have other defaults: the program is told, as it would be of any change."""
        is_recalled, self._told.is_recalled = self._told.is_recalled, False
        if reported == self._told.baseline:
            return
        if is_recalled:
            self._events.append(Outdated())
        self._replies += self._told.differences(reported, self._session.parameters)
