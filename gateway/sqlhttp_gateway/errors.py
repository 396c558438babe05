"""Everything the gateway can refuse or fail at, one class for each situation.

A class says how each wire tells it: `status` is the HTTP status, `sqlstate` the Postgres code, `kind` the label of
metrics and logs, `retryable` whether the same request may succeed later without a change. The message carries the
numbers a reader needs and never a password, a connection string or a parameter. Turning an error into bytes is the
work of `neon.response` and `wire.backend`.

`ran` says whether the statement has taken effect although this error is the answer: a request that is refused never
has, one whose connection was lost may have. Callers over HTTP are told in `Sqlhttp-Ran`.
"""

from enum import StrEnum
from typing import ClassVar


class HasRun(StrEnum):
    """Whether what was asked has taken effect, as far as the gateway knows."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class GatewayError(Exception):
    """The gateway refuses, or cannot do, what was asked."""

    status: ClassVar[int] = 500
    sqlstate: ClassVar[str] = "XX000"
    kind: ClassVar[str] = "gateway"
    retryable: ClassVar[bool] = False
    ran: HasRun = HasRun.NO
    """Of the class, unless more is known of the one error."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        """Whole seconds after which another try makes sense; sent as `Retry-After`."""

    @property
    def may_have_run(self) -> bool:
        """Whether another try could do it twice."""
        return self.ran is not HasRun.NO


# ── what the program sent ────────────────────────────────────────────────────────────────────────────────────────────


class BadRequest(GatewayError):
    """A header or the body is not what the protocol asks for."""

    status, sqlstate, kind = 400, "08P01", "client"


class InvalidConnectionString(BadRequest):
    """The Neon-Connection-String header is missing or cannot be used."""

    sqlstate = "08001"


class InvalidParameter(BadRequest):
    """A parameter of the start-up message has a value that cannot be used."""

    sqlstate = "22023"


class MethodNotAllowed(BadRequest):
    """The path is there and does not know this method; /sql answers what it does not know as Neon does, with 400."""

    status = 405


class EncodedBody(BadRequest):
    """The body came in a Content-Encoding, and bodies are read as they are."""

    status = 415


class UnsupportedProtocol(BadRequest):
    """The start-up message asks for a protocol, or a use of it such as replication, that the gateway does not speak."""

    sqlstate = "0A000"


class MessageTooLarge(BadRequest):
    """A statement's text in a tunnel has more than 16 MiB, and the pool mode is not session."""

    sqlstate, kind = "54000", "limit"


class RequestTooLarge(GatewayError):
    """The body has more bytes than `request.max_bytes`, or a batch has more than 10,000 statements."""

    status, sqlstate, kind = 413, "54000", "limit"


class HeadTooLarge(RequestTooLarge):
    """The head has more bytes than `request.max_head_bytes`, or more than 200 headers."""

    status = 431


class RequestTooSlow(GatewayError):
    """The head did not arrive within `request.head_timeout`, or the body within `request.read_timeout`."""

    status, sqlstate, kind = 408, "57014", "limit"


class DeadlineExceeded(GatewayError):
    """The request was not over within `Sqlhttp-Timeout` or `request.deadline`, and was cancelled while it ran."""

    status, sqlstate, kind = 504, "57014", "limit"
    ran = HasRun.MAYBE  # a statement can have committed before the cancel reached it


class DeadlineBeforeRun(DeadlineExceeded):
    """The same, while it had no connection yet: nothing was run."""

    sqlstate, retryable, ran = "53300", True, HasRun.NO


class ResponseTooLarge(GatewayError):
    """The rows have more bytes than `response.max_bytes`; the statement was cancelled."""

    status, sqlstate, kind = 507, "54000", "limit"
    ran = HasRun.MAYBE  # a single statement with RETURNING can have committed before its rows were read


class StatementTooComplex(GatewayError):
    """Postgres would take longer to read the statement than any timeout could end, for its comments are nested."""

    status, sqlstate, kind = 400, "54001", "limit"


class UnsupportedStatement(GatewayError):
    """The statement needs a conversation that one request cannot hold, such as COPY FROM STDIN."""

    status, sqlstate, kind = 400, "0A000", "client"


# ── who is asking ────────────────────────────────────────────────────────────────────────────────────────────────────


class PasswordFailed(GatewayError):
    """The password is wrong or the role does not exist; the two are told apart nowhere."""

    status, sqlstate, kind = 400, "28P01", "auth"


class TooManyFailures(GatewayError):
    """`auth.failures` passwords for this role from this address were wrong; for a while none is looked at."""

    status, sqlstate, kind, retryable = 429, "28000", "auth", True


class CredentialsMissing(GatewayError):
    """Neither a password nor another proof of identity came with the request."""

    status, sqlstate, kind = 400, "28000", "auth"


class InvalidKey(GatewayError):
    """The API key is unknown, revoked or expired; the first two are told apart nowhere."""

    status, sqlstate, kind = 400, "28000", "auth"


class KeysUnreadable(GatewayError):
    """The table of API keys cannot be read, so that nobody knows which of them are revoked."""

    status, sqlstate, kind, retryable = 503, "28000", "auth", True


class InvalidToken(GatewayError):
    """The token did not pass one of the checks; the message names which."""

    status, sqlstate, kind = 400, "28000", "auth"


class KeySetUnavailable(GatewayError):
    """The issuer's keys cannot be fetched, and none are left from before."""

    status, sqlstate, kind, retryable = 400, "28000", "auth", True


class PlaceRefused(GatewayError):
    """The credentials may not be used from this address, or by this page."""

    status, sqlstate, kind = 400, "28000", "auth"


class ScopeRefused(GatewayError):
    """The credentials are good, and not for the role, database or target that the connection string names."""

    status, sqlstate, kind = 400, "28000", "auth"


class StatementRefused(GatewayError):
    """The credentials do not allow this statement: it is not on their list, or would end a read-only transaction."""

    status, sqlstate, kind = 400, "42501", "auth"


class ClaimsFailed(GatewayError):
    """Postgres did not take the claims that go in front of the statement, which was not run."""

    status, sqlstate, kind = 500, "28000", "auth"


# ── pools and targets ────────────────────────────────────────────────────────────────────────────────────────────────


class QueueFull(GatewayError):
    """`pool.max_waiting` requests already wait for a connection."""

    status, sqlstate, kind, retryable = 503, "53300", "pool", True


class WaitTimeout(GatewayError):
    """No connection came free within `pool.wait_timeout`."""

    status, sqlstate, kind, retryable = 503, "53300", "pool", True


class RateLimited(GatewayError):
    """The tenant has sent more requests than its `limits.rate` and `limits.burst` allow."""

    status, sqlstate, kind, retryable = 429, "53400", "limit", True


class ConcurrencyLimited(GatewayError):
    """As many requests of the tenant as may already run, and wait: `limits.max_concurrent`, `limits.max_waiting`."""

    status, sqlstate, kind, retryable = 429, "53300", "limit", True


class ShuttingDown(GatewayError):
    """The gateway drains and takes no new work."""

    status, sqlstate, kind, retryable = 503, "57P01", "pool", True


class TargetUnavailable(GatewayError):
    """Postgres cannot be reached."""

    status, sqlstate, kind, retryable = 500, "08001", "backend", True


class FilesExhausted(GatewayError):
    """The gateway's process may open no more files, and so no connection to Postgres. Nothing was run."""

    status, sqlstate, kind, retryable = 503, "53000", "gateway", True


class BookmarkLost(GatewayError):
    """What the bookmark stands for was lost in a failover, and every server has older data than the program has seen.

    It was written and not copied in time, so that it is not in the primary's history. Nothing was run.
    """

    status, sqlstate, kind = 409, "58000", "backend"


class BookmarkAhead(GatewayError):
    """The bookmark is from a promotion that this gateway has not seen yet; nothing was run."""

    status, sqlstate, kind, retryable = 503, "57P03", "backend", True


class TargetDown(TargetUnavailable):
    """Postgres could not be reached `breaker.failures` times in a row; until it can, nobody waits for it."""

    status = 503


class TargetMisconfigured(GatewayError):
    """The gateway's own access to Postgres is not as it must be; the operator has to mend it."""

    status, sqlstate, kind = 500, "F0000", "backend"


class ConnectionBroken(GatewayError):
    """The connection to Postgres was lost while the statement ran."""

    status, sqlstate, kind = 400, "08006", "backend"
    ran = HasRun.MAYBE


class StatementTimeout(GatewayError):
    """The gateway's own clock ended a statement that Postgres had not ended at `statement.timeout`."""

    status, sqlstate, kind = 400, "57014", "limit"
    ran = HasRun.MAYBE  # Postgres may be done with it and its word on the way


class RequestCancelled(GatewayError):
    """The program had its statement cancelled while that waited for a connection."""

    status, sqlstate, kind = 400, "57014", "client"


class IdleInTransactionTimeout(GatewayError):
    """A program left its transaction open for `tunnel.idle_in_transaction_timeout` without a word."""

    status, sqlstate, kind = 400, "25P03", "limit"


class TransactionTimeout(GatewayError):
    """A program's transaction was open for `tunnel.transaction_timeout`."""

    status, sqlstate, kind = 400, "25P04", "limit"
    ran = HasRun.MAYBE  # its COMMIT, or a statement of its own, may be on the way


class IdleSessionTimeout(GatewayError):
    """A program said nothing for `tunnel.client_idle_timeout`, or for `tunnel.pinned_idle_timeout` with a backend."""

    status, sqlstate, kind = 400, "57P05", "limit"


class SendTimeout(GatewayError):
    """A program did not read its answers for `tunnel.send_timeout`."""

    status, sqlstate, kind = 400, "08006", "client"
    ran = HasRun.MAYBE


class PinsExhausted(GatewayError):
    """`tunnel.max_pinned` connections of the pool already stay with one program each."""

    status, sqlstate, kind = 400, "53400", "pool"
    ran = HasRun.MAYBE  # what needs one is known only of a statement that is sent


class TunnelsExhausted(GatewayError):
    """`tunnel.max_open` programs are connected."""

    status, sqlstate, kind, retryable = 503, "53300", "pool", True


class TooManyConnections(GatewayError):
    """`listen.max_connections` programs are connected, and none of them is idle; the connection is closed."""

    status, sqlstate, kind, retryable = 503, "53300", "pool", True


# ── exactly once ─────────────────────────────────────────────────────────────────────────────────────────────────────


class KeyInFlight(GatewayError):
    """A request with the same Idempotency-Key runs, and was not over within `idempotency.wait`."""

    status, sqlstate, kind, retryable = 409, "55P03", "client", True


class KeyReused(GatewayError):
    """The Idempotency-Key came with another request before."""

    status, sqlstate, kind = 422, "22023", "client"


class KeyUnanswered(GatewayError):
    """A request with this Idempotency-Key ended its own transaction, so that its answer was not kept."""

    status, sqlstate, kind = 409, "40003", "client"
    ran = HasRun.MAYBE


class IdempotencyUnavailable(GatewayError):
    """The database has no table for idempotency keys and the gateway may not make one, or the role may take no key."""

    status, sqlstate, kind = 500, "F0000", "backend"


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


class NotCached(GatewayError):
    """The request wants an answer of the cache or none (only-if-cached), and the cache has none."""

    status, sqlstate, kind, retryable = 504, "55000", "client", True


# ── what came back ───────────────────────────────────────────────────────────────────────────────────────────────────


class ResultUnreadable(GatewayError):
    """Postgres's answer cannot be expressed in JSON, for instance text that is not UTF-8."""

    status, sqlstate, kind = 500, "22021", "gateway"
    ran = HasRun.YES


class RemoteProtocolError(GatewayError):
    """The peer broke the Postgres protocol."""

    status, sqlstate, kind = 500, "08P01", "backend"
    ran = HasRun.MAYBE


_UNSURE = ("08", "40003", "57P01", "57P02", "57P04")
"""SQLSTATEs of a server that ends the connection, whatever it was at, or says itself that it does not know.

A COMMIT that waits for a standby has taken effect by then.
"""
_NOT_UNDERSTOOD = "08P01"
"""Of that class, and no end of anything: too few parameters, say, for which nothing is run."""
_LAST_WORDS = ("FATAL", "PANIC")
"""Severities of what ends the connection, a COMMIT that is written already included, whatever the SQLSTATE."""


class PostgresError(GatewayError):
    """An ErrorResponse, passed on whole. Postgres undoes what fails, but for what CALL or DO committed on the way.

    `fields` are the protocol's one-letter codes with their text, as in "Error and Notice Message Fields" of the
    Postgres manual: S severity, C code, M message, D detail, H hint, P position, …
    """

    status, kind = 400, "postgres"

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", ""), hint=fields.get("H"))
        self.fields = fields
        is_last = fields.get("V", fields.get("S")) in _LAST_WORDS
        if is_last or (self.code.startswith(_UNSURE) and self.code != _NOT_UNDERSTOOD):
            self.ran = HasRun.MAYBE

    @property
    def code(self) -> str:
        """The SQLSTATE that Postgres gave."""
        return self.fields.get("C", "")


class ConnectRefused(PostgresError):
    """Postgres refused the log-in for a reason other than the password, such as too many clients."""

    status = 500

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields)
        self.ran = HasRun.NO


class TargetOverloaded(ConnectRefused):
    """Postgres has no connection slot left, or starts up or shuts down just now."""

    status, retryable = 503, True

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields)
        self.retry_after = 1


class DatabaseMissing(PostgresError):
    """The database of the connection string does not exist, or the role may not connect to it."""

    status = 400

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields)
        self.ran = HasRun.NO


class ConfigurationError(Exception):
    """A setting is unknown, malformed or contradicts another; the text names it. Raised before anything runs."""


class AddressUnavailable(ConfigurationError):
    """Another program has an address just now, or this machine has it not yet: a later try may find it otherwise."""
