"""Every error of the client, and what each says about the statement.

The tree is DB-API's, rooted in `NeonDbError`, so that one `except NeonDbError` catches all of it. What Postgres
itself reports is told apart further by SQLSTATE in `sqlhttp.errors`. Turning a reply into one of these is the work
of `_response`; deciding on another attempt that of `_retry`.
"""

from typing import Any, ClassVar

_EXCERPT = 72
"""Characters of a query's line that an error shows; a longer line is cut around the caret."""


class NeonDbError(Exception):
    """A query failed. Fields that the server did not send are None; all others are its own strings.

    The names are those of Neon's driver in Python's spelling, which are the fields of Postgres's ErrorResponse.
    """

    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without a change."""

    may_have_run: bool = False
    """Whether the statement may have taken effect although this is the answer."""

    attempts: int = 1
    """How often the request was tried before this error was the answer."""

    query: str | None = None
    """The SQL text that failed, where it is known."""

    retry_after: float | None = None
    """Seconds the server asks to wait before another attempt."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        severity: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        position: str | None = None,
        internal_position: str | None = None,
        internal_query: str | None = None,
        where: str | None = None,
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
        data_type: str | None = None,
        constraint: str | None = None,
        file: str | None = None,
        line: str | None = None,
        routine: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.severity = severity
        self.detail = detail
        self.hint = hint
        self.position = position
        self.internal_position = internal_position
        self.internal_query = internal_query
        self.where = where
        self.schema = schema
        self.table = table
        self.column = column
        self.data_type = data_type
        self.constraint = constraint
        self.file = file
        self.line = line
        self.routine = routine

    @property
    def sqlstate(self) -> str | None:
        """The five characters of Postgres's error code; None when the error is not Postgres's."""
        return self.code or None

    @property
    def source_error(self) -> BaseException | None:
        """What caused this error, as Neon's driver names it; the same as `__cause__`."""
        return self.__cause__

    def __str__(self) -> str:
        lines = [f"{self.message} (SQLSTATE {self.code})" if self.code else self.message]
        if self.query is not None and self.position is not None:
            lines += caret(self.query, self.position)
        elif self.internal_query is not None and self.internal_position is not None:
            lines += caret(self.internal_query, self.internal_position)
        if self.detail:
            lines.append(f"DETAIL: {self.detail}")
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with `args` alone and lose nothing here, but subclasses share it.
        return (_rebuilt, (type(self), self.message, self.__dict__))


def _rebuilt(cls: type[NeonDbError], message: str, state: dict[str, Any]) -> NeonDbError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


def caret(query: str, position: str) -> list[str]:
    """The line of `query` that `position` (1-based, in characters) is in, and a caret below; [] if it is outside."""
    if not position.isdecimal() or not 1 <= int(position) <= len(query) + 1:
        return []
    at = int(position) - 1
    start = query.rfind("\n", 0, at) + 1
    end = query.find("\n", at)
    line = query[start : end if end >= 0 else len(query)].replace("\t", " ").rstrip("\r")
    number = query.count("\n", 0, start) + 1
    column = at - start
    left = f"LINE {number}: "
    if len(line) > _EXCERPT:
        cut = max(0, min(column - _EXCERPT // 2, len(line) - _EXCERPT))
        if cut > 0:
            left += "..."
        tail = "..." if cut + _EXCERPT < len(line) else ""
        line, column = line[cut : cut + _EXCERPT] + tail, column - cut
    return [left + line, " " * (len(left) + column) + "^"]


# ── DB-API 2.0 ───────────────────────────────────────────────────────────────────────────────────────────────────────


class InterfaceError(NeonDbError):
    """The client was used in a way that it cannot serve, or could not understand the reply."""


class DatabaseError(NeonDbError):
    """The database, or the way to it, reports an error."""


class DataError(DatabaseError):
    """A value is out of range, malformed or too long (SQLSTATE class 22)."""


class OperationalError(DatabaseError):
    """Nothing is wrong with the statement itself: connections, resources, conflicts, shutdown."""


class IntegrityError(DatabaseError):
    """A constraint was violated (SQLSTATE class 23)."""


class InternalError(DatabaseError):
    """The database met a state it did not expect, such as an invalid transaction state (class 25, XX)."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, an unknown table, a missing privilege (SQLSTATE class 42)."""


class NotSupportedError(DatabaseError):
    """Postgres, or SQL over HTTP, cannot do what was asked (SQLSTATE class 0A)."""


# ── the way to the database ──────────────────────────────────────────────────────────────────────────────────────────


class NotSent(OperationalError):
    """The request did not reach the server whole, so that nothing ran."""

    retryable = True


class ConnectFailed(NotSent):
    """No connection: unknown host, refused, unreachable, or a failed TLS handshake."""


class ConnectTimeout(ConnectFailed):
    """No connection within the time there was."""


class CertificateRejected(ConnectFailed):
    """The server's TLS certificate is not valid for this host. Another attempt would meet the same one."""

    retryable = False


class SendFailed(NotSent):
    """The connection broke, or time ran out, before the whole request was sent."""


class Refused(OperationalError):
    """The server is up but takes no more for now (HTTP 503 or 429); the statement did not run.

    A 503 of something on the way, which has not the form of a server's, may come after the server has carried it out:
    then `may_have_run` is true, and only what can be carried out twice is tried again.
    """

    retryable = True


class KeyInFlight(OperationalError):
    """Another call with the same Idempotency-Key is being carried out (HTTP 409); this one did not run."""

    retryable = True


class KeyReused(ProgrammingError):
    """The Idempotency-Key came with another request before (HTTP 422); this one did not run."""


class BookmarkLost(OperationalError):
    """What this client has seen was lost in a failover (HTTP 409); this call did not run.

    The client has forgotten its bookmark with that, so that the next call shows what there is. Look before you rely on
    what was written last.
    """


class OutcomeUnknown(OperationalError):
    """The whole request was sent and no whole answer came back: the statement may or may not have taken effect."""

    may_have_run = True


class ConnectionLost(OutcomeUnknown):
    """The connection ended after the request was sent and before any answer."""


class ReplyCut(OutcomeUnknown):
    """The answer began and the connection ended in the middle of it."""


class RequestTimeout(OutcomeUnknown):
    """No whole answer within the time there was. The server is told by the closed connection, and cancels."""


class TransactionLost(OperationalError):
    """The connection ended, or time ran out, inside a transaction and not at its COMMIT: nothing of it takes effect."""

    retryable = True


class RequestTooLarge(OperationalError):
    """The server does not take a request of this size (HTTP 413); the statement did not run."""


class ResponseTooLarge(OperationalError):
    """The answer has more bytes than the server sends (HTTP 507). Ask for less, or page through it."""


class ServerFailed(OperationalError):
    """The server, or a proxy on the way, answered with an HTTP status that the protocol does not give a meaning."""


class ProtocolError(InterfaceError):
    """The answer is not what the protocol says. Often: the endpoint is not a SQL-over-HTTP server."""

    may_have_run = True


# ── what came back ───────────────────────────────────────────────────────────────────────────────────────────────────


class NoDataFound(ProgrammingError):
    """P0002: `sql.one` got no row, or PL/pgSQL's SELECT INTO STRICT, whose name and code it is, did."""


class TooManyRows(ProgrammingError):
    """P0003: `sql.one` got more than one row, or PL/pgSQL's SELECT INTO STRICT, whose name and code it is, did."""
