"""One connection that carries Postgres's protocol, without the waiting: questions as steps that a driver carries out.

Each step yields bytes to send, perhaps none, and is given the bytes that came next; where the connection ends or time
runs out, the driver throws `Cut` or `TimedOut` into it. What that means for a statement is decided here, once for both
drivers: inside a transaction everything is undone with the connection, but for a COMMIT that was sent.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

from sqlhttp import _errors as errors
from sqlhttp._request import Statement
from sqlhttp._response import postgres_error
from sqlhttp._scan import first_word, runs_in_parts
from sqlhttp._wire.backend import Notification
from sqlhttp._wire.conversation import Conversation

Kind = TypeVar("Kind")

Steps = Generator[bytes, bytes, Kind]

_REFUSALS = ("53", "57")
"""Classes of SQLSTATE that say "not now" to whoever has no backend yet: full, shutting down, starting up."""
_OF_THE_IDLE = ("25P03", "57P05")
"""idle_in_transaction_session_timeout and idle_session_timeout: the connection had ended before the statement came."""


class Cut(Exception):
    """The connection has ended; the text says how."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent
        """Whether any of the last question may have left."""


class TimedOut(Exception):
    """The driver's deadline has passed."""


class Line:
    """The state of one connection. After an error of the way itself, `is_usable` is False for good."""

    def __init__(self) -> None:
        self._conversation = Conversation()
        self._is_answered = True
        self._is_over = False

    @property
    def is_usable(self) -> bool:
        """Whether another question can be asked: the last one was answered whole and the connection stands."""
        return self._is_answered and not self._is_over

    @property
    def status(self) -> str:
        """I idle, T in a transaction, E in one that has failed; empty before the log-in."""
        return self._conversation.status

    def log_in(
        self, parameters: Mapping[str, str], password: bytes | None, statements: Sequence[Statement] = ()
    ) -> Steps[list[dict[str, Any]]]:
        """Log in and run the statements in the same write; their answers.

        Raises:
            NotSent, Refused: another connection may have more luck; nothing ran.
            NeonDbError: Postgres's refusal, or that of a statement.
        """
        self._is_answered = False
        return (yield from self._answers(self._conversation.log_in(parameters, password, statements), statements))

    def run(self, *statements: Statement) -> Steps[list[dict[str, Any]]]:
        """The statements' answers, in one write.

        Raises:
            TransactionLost: the connection ended inside a transaction, which is undone by that.
            OutcomeUnknown, SendFailed: it ended elsewhere.
            NeonDbError: Postgres reports an error; those that follow the statement did not run.
        """
        if not self.is_usable:
            raise errors.InterfaceError("the connection has ended; begin again")
        question = self._conversation.ask(statements)
        self._conversation.notifications.clear()  # of a LISTEN of the session's own; nobody asks for them
        self._is_answered = False
        return (yield from self._answers(question, statements))

    def wait(self) -> Steps[Notification | None]:
        """The next notification; None when the driver's deadline came first.

        Raises:
            ConnectionLost: the connection has ended; notifications may have been missed.
        """
        conversation = self._conversation
        if not self.is_usable:
            raise errors.InterfaceError("the connection has ended; listen again")
        while not conversation.notifications:
            try:
                conversation.receive((yield b""))
            except TimedOut:
                return None
            except Cut as cut:
                self._is_over = True
                if conversation.outcome.error is not None:
                    raise postgres_error(conversation.outcome.error) from None
                raise errors.ConnectionLost(f"the connection ended: {cut}") from cut.__cause__
            except errors.NeonDbError:
                self._is_over = True
                raise
        return conversation.notifications.popleft()

    def _answers(self, question: bytes, statements: Sequence[Statement]) -> Steps[list[dict[str, Any]]]:
        conversation = self._conversation
        out = question
        try:
            while not conversation.is_answered:
                out = conversation.receive((yield out))
        except Cut as cut:
            if not self._has_committed(statements):
                raise self._lost(statements, str(cut), sent=cut.sent) from cut.__cause__
        except TimedOut:
            if not self._has_committed(statements):
                raise self._lost(statements, "no whole answer came in time", timed_out=True) from None
        else:
            self._is_answered = True
        results, fields = conversation.outcome
        if fields is not None:
            failed = statements[len(results)].text if len(results) < len(statements) else None
            if not results and self.status == "I" and _is_refusal(fields) and _begins(statements):
                raise errors.Refused(**{"message": "", **fields})
            error = postgres_error(fields, query=failed)
            if self.status != "E":
                # COPY: the refusal is ours and comes late, Postgres has carried the statement out.
                late = conversation.has_copied_out or (failed is not None and runs_in_parts(failed))
                error.may_have_run = error.may_have_run or late
            raise error
        return results

    def _has_committed(self, statements: Sequence[Statement]) -> bool:
        """Whether a COMMIT was confirmed and only what follows it is missing: Postgres says so after it has."""
        results, fields = self._conversation.outcome
        return (
            fields is None
            and 0 < len(results) == len(statements)
            and results[-1]["command"] == "COMMIT"
            and self.status == "T"
        )

    def _lost(
        self, statements: Sequence[Statement], reason: str, *, sent: bool = True, timed_out: bool = False
    ) -> errors.NeonDbError:
        """What the end of the connection means for statements that were not answered whole."""
        conversation = self._conversation
        words = [first_word(statement.text) for statement in statements]
        nothing_ran = not conversation.status or _begins(statements)
        commits = sent and not {"commit", "end", "prepare"}.isdisjoint(words)
        fields = conversation.outcome.error
        is_undone = conversation.status in ("T", "E") and not commits
        if fields is not None:
            return _last_word(fields, nothing_ran=nothing_ran, stays=sent and not is_undone)
        if nothing_ran:
            kind = errors.ConnectTimeout if timed_out else errors.ConnectFailed
            return kind(f"the connection ended before anything ran: {reason}")
        if is_undone:
            return errors.TransactionLost(f"the transaction is rolled back with its connection: {reason}")
        if not sent:
            return errors.SendFailed(f"the statement could not be sent: {reason}")
        if timed_out:
            return errors.RequestTimeout(reason)
        if conversation.has_begun_to_answer:
            return errors.ReplyCut(f"the answer ended in the middle: {reason}")
        return errors.ConnectionLost(f"the connection ended before an answer came: {reason}")


def _last_word(fields: dict[str, str], *, nothing_ran: bool, stays: bool) -> errors.NeonDbError:
    """The error with which the server ended the connection. `stays`: what the statement has done by then is not undone.

    Whatever the reason, it may have been done: the server's word and the end of the statement can cross each other.
    """
    code = fields.get("code", "")
    if nothing_ran and code[:2] in _REFUSALS:
        return errors.Refused(**{"message": "", **fields})
    error = postgres_error(fields)
    error.may_have_run = stays and not nothing_ran and code not in _OF_THE_IDLE
    return error


def _is_refusal(fields: Mapping[str, str]) -> bool:
    """Whether an answer to BEGIN says "not now". The gateway lets programs in before it has a backend for them, so that
    a full pool is told there; Postgres itself refuses no BEGIN in these words.
    """
    code = fields.get("code", "")
    return code[:2] == "53" or code == "57P03"


def _begins(statements: Sequence[Statement]) -> bool:
    return bool(statements) and first_word(statements[0].text) == "begin"
