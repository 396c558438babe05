"""The client's side of one connection to Postgres: what to send, and what the bytes that come back mean.

Nothing here sends, waits or raises what Postgres reports: `Outcome` holds it, and what to make of it is decided
elsewhere. Log-in and the first statements may go out together, as Neon's driver does it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlhttp._errors import InterfaceError, ProtocolError
from sqlhttp._request import Statement
from sqlhttp._wire.backend import (
    Message,
    Messages,
    Notification,
    decode_command_complete,
    decode_data_row,
    decode_error,
    decode_notification,
    decode_row_description,
)
from sqlhttp._wire.frontend import encode_copy_fail, encode_password, encode_startup, encode_statements

_OK, _CLEARTEXT = 0, 3
_METHODS = {5: "md5", 7: "GSSAPI", 9: "SSPI", 10: "SASL"}
_NO_COPY = "COPY needs a driver of its own; it is not possible here"


class Outcome(NamedTuple):
    """Everything up to the last ReadyForQuery due, or up to now."""

    results: list[dict[str, Any]]
    """One for each statement that was completed, as Neon's JSON has it."""
    error: dict[str, str] | None
    """The first ErrorResponse."""


class Conversation:
    """Asked one thing at a time: `log_in` or `ask`, send what that returns, `receive` until `is_answered`."""

    def __init__(self) -> None:
        self.status = ""
        """As ReadyForQuery told last: I idle, T in a transaction, E in one that has failed; empty before the log-in."""
        self.notifications: deque[Notification] = deque()
        self.has_begun_to_answer = False
        """Whether anything came since the last question."""
        self.has_copied_out = False
        """Whether a COPY TO STDOUT has run since then, whose statement may be one that writes."""
        self._messages = Messages()
        self._password_sent = False
        self._due = 0
        self._fields: list[dict[str, Any]] = []
        self._rows: list[list[str | None]] = []
        self._results: list[dict[str, Any]] = []
        self._error: dict[str, str] | None = None

    def log_in(
        self, parameters: Mapping[str, str], password: bytes | None, statements: Sequence[Statement] = ()
    ) -> bytes:
        """What to send to log in and, without waiting in between, run the statements."""
        out = encode_startup(parameters)
        if password is not None:
            self._password_sent = True
            out += encode_password(password)
        if statements:
            out += encode_statements(statements)
        self._begin(2 if statements else 1)
        return out

    def ask(self, statements: Sequence[Statement]) -> bytes:
        """What to send to run the statements one after the other, up to the first error."""
        out = encode_statements(statements)
        self._begin(1)
        return out

    def _begin(self, due: int) -> None:
        self._due = due
        self._results = []
        self._error = None
        self.has_begun_to_answer = self.has_copied_out = False

    @property
    def is_answered(self) -> bool:
        return self._due == 0

    @property
    def outcome(self) -> Outcome:
        """The answer, whole when `is_answered`."""
        return Outcome(self._results, self._error)

    def receive(self, data: bytes) -> bytes:
        """Take in what came, in any pieces; what to send at once, mostly nothing.

        Raises:
            ProtocolError: it is not Postgres's protocol.
            InterfaceError: the server asks for a log-in that is not possible here.
        """
        out = b""
        for message in self._messages.receive(data):
            out += self._take(message)
        return out

    def _take(self, message: Message) -> bytes:
        tag, body = message
        self.has_begun_to_answer = True
        match tag:
            case b"D":
                self._rows.append(decode_data_row(body))
            case b"T":
                self._fields = decode_row_description(body)
            case b"C":
                self._complete(*decode_command_complete(body))
            case b"I":
                self._complete("", None)
            case b"Z":
                self._ready(body)
            case b"E":
                self._fail(decode_error(body))
            case b"A":
                self.notifications.append(decode_notification(body))
            case b"R":
                self._authenticate(int.from_bytes(body[:4], "big"))
            case b"G":
                # The Sync that came with the statement was not looked at; CopyFail brings the one that is answered.
                self._fail({"message": _NO_COPY, "code": "0A000"})
                return encode_copy_fail(_NO_COPY)
            case b"H":
                self.has_copied_out = True
                self._fail({"message": _NO_COPY, "code": "0A000"})
            case b"S" | b"N" | b"K" | b"1" | b"2" | b"3" | b"n" | b"d" | b"c" | b"v":
                pass  # settings, notices, cancel key; completions that say nothing; what COPY sends
            case _:
                raise ProtocolError(f"the server sent a message of an unknown kind: {tag!r}")
        return b""

    def _complete(self, command: str, row_count: int | None) -> None:
        self._results.append({"fields": self._fields, "rows": self._rows, "command": command, "rowCount": row_count})
        self._fields, self._rows = [], []

    def _ready(self, body: bytes) -> None:
        if self._due == 0 or body not in (b"I", b"T", b"E"):
            raise ProtocolError("the server sent a ReadyForQuery that was not due")
        self._due -= 1
        self.status = body.decode()
        self._fields, self._rows = [], []

    def _fail(self, fields: dict[str, str]) -> None:
        if self._error is None:
            self._error = fields

    def _authenticate(self, method: int) -> None:
        if method == _OK or (method == _CLEARTEXT and self._password_sent):
            return
        if method == _CLEARTEXT:
            raise InterfaceError("the server asks for a password, and the connection string has none")
        name = _METHODS.get(method, str(method))
        raise InterfaceError(
            f"the server asks for a {name} log-in; a password is sent in clear, inside TLS, to a gateway or to Neon"
        )
