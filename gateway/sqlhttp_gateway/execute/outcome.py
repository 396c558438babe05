"""What it means that an exchange with a request has failed: whether to try again, and what its caller is told.

A statement that the connection has prepared is only bound. When the server refuses to bind such a statement, it may
have gone missing, or stale by a change of the schema: of the columns it returns, or of the types that its parameters
were found to have. Of some things only the run tells that they are gone. The request may then run once more with fresh
ones, provided that nothing of it can have stayed.
"""

import re
from collections.abc import Sequence

from sqlhttp_gateway.errors import GatewayError, HasRun, PostgresError, ResponseTooLarge
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import ScrubbedExchange
from sqlhttp_gateway.wire.exchange import IDLE, Exchange

_ENDS_TRANSACTION = (b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION", b"CALL", b"DO")
_STALE_CODES = ("0A000", "22", "26000", "42", "XX000")
"""Codes, or classes of codes, of what a fresh Parse may heal: a changed result, a parameter that does not fit its type,
a missing statement, a name that means something else now, a type that was made anew (an internal error to Postgres)."""
_INTERNAL, _GONE = "XX000", "cache lookup failed for "
"""What Postgres, in no other language, says of a constant in a plan that stands for what was dropped, and perhaps made
anew: a text search configuration, say."""
_BAD_PARAMETER = "22"
_NO_PRIVILEGE = "42501"
_QUERY_CANCELED = "57014"
_PROTOCOL_VIOLATION = "08P01"
"""Of a Bind with more or fewer parameters than the statement has, which Postgres calls by its name."""
_OUR_NAME = re.compile(r"\bsqlhttp_[0-9]+\b")  # in quotes of whatever language the server speaks
_CLOCK_STEP = 0.002
"""Seconds by which two readings of the loop's clock, which has whole milliseconds, may say less than went by."""


class NothingRan(Exception):
    """The connection was at its end before Postgres began with the request, which can go to another one."""

    def __init__(self, reason: GatewayError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class StaleStatement(PostgresError):
    """A statement of ours, not of the caller, may be out of date or gone, and nothing of the request has stayed."""


def refused_to_bind(exchange: Exchange, cached: Sequence[bool]) -> int | None:
    """Which of the statements that were prepared before could not be bound, if that is what went wrong; or not be run,
    as it names by its number what is there no more."""
    error, step = exchange.error, exchange.bound
    if not isinstance(error, PostgresError):
        return None
    if error.code == _INTERNAL and error.message.startswith(_GONE):
        step = len(exchange.results)
    if len(exchange.results) != step or step >= len(cached) or not cached[step]:
        return None
    return step if error.code.startswith(_STALE_CODES) and error.code != _NO_PRIVILEGE else None


def may_be_stale(exchange: Exchange, ahead: int) -> bool:
    """Whether another try is worth it and does no harm: all before it is rolled back with the transaction. `ahead` are
    the gateway's own statements.
    """
    error, before = exchange.error, exchange.results
    assert isinstance(error, PostgresError)
    if any(result.tag is not None and result.tag.startswith(_ENDS_TRANSACTION) for result in before):
        return False
    # A bad parameter is nearly always the caller's own: for that, what ran before it is not run twice.
    return len(before) <= ahead or not error.code.startswith(_BAD_PARAMETER)


def with_outcome(exchange: Exchange, lease: Lease, limits: Limits, *, in_transaction: bool) -> GatewayError:
    """The error to raise, taken from the exchange, and what the caller cannot know of it.

    A statement is called by no name, as its caller has given it none. A batch that was refused for its size says
    whether its COMMIT was quicker; a statement that Postgres ended at the gateway's limit says that it was the
    gateway's.
    """
    error = exchange.take_error()
    assert error is not None
    if isinstance(error, PostgresError) and error.code == _PROTOCOL_VIOLATION:
        return PostgresError(error.fields | {"M": _OUR_NAME.sub("", error.message)})
    if isinstance(error, PostgresError) and error.code == _QUERY_CANCELED and limits.statement_timeout:
        pool, timeout = lease.pool, limits.statement_timeout
        if pool.loop.time() - pool.leased[lease.backend] >= timeout - _CLOCK_STEP:
            return PostgresError(
                {"H": f"The limit is the gateway's: statement.timeout is {timeout:g} s."} | error.fields
            )
    if isinstance(error, ResponseTooLarge) and in_transaction:
        if _is_committed(exchange):
            fate, ran = "it was committed before it could be stopped", HasRun.YES
        elif exchange.status:
            fate, ran = "it was rolled back", HasRun.NO
        else:
            fate, ran = "whether it was committed is unknown", HasRun.MAYBE
        told = ResponseTooLarge(f"{error.message}; of the transaction: {fate}")
        told.ran = ran
        return told
    return error


def _is_committed(exchange: Exchange) -> bool:
    if isinstance(exchange, ScrubbedExchange):
        return exchange.is_committed
    return bool(exchange.results) and exchange.results[-1].tag == b"COMMIT" and exchange.status == IDLE
