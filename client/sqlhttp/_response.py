"""A reply becomes results, or raises. Pure: the same for both drivers and for any transport.

Values arrive as Postgres's text and rows as arrays, since that is what `_request` asks for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from json import loads
from typing import Any, Generic, NamedTuple, TypeVar

from sqlhttp import _errors as errors
from sqlhttp._cache_status import CacheStatus, status_of
from sqlhttp._http1 import Reply
from sqlhttp._rows import Field, row_maker
from sqlhttp._types import Decoder, decoder

Row = TypeVar("Row")

# Neon's keys in the order of its error body, with their names here.
_ERROR_FIELDS = {
    "code": "code",
    "detail": "detail",
    "hint": "hint",
    "position": "position",
    "internalPosition": "internal_position",
    "internalQuery": "internal_query",
    "severity": "severity",
    "where": "where",
    "table": "table",
    "column": "column",
    "schema": "schema",
    "dataType": "data_type",
    "constraint": "constraint",
    "file": "file",
    "line": "line",
    "routine": "routine",
}


class FullResults(Iterable[Row], Generic[Row]):
    """One statement's whole answer, as `full_results=True` gives it."""

    __slots__ = ("attempts", "cache", "command", "fields", "row_count", "rows")

    def __init__(
        self, rows: list[Row], fields: list[Field], command: str, row_count: int | None, attempts: int = 1
    ) -> None:
        self.cache: CacheStatus | None = None
        """What the gateway's result cache did with the call; None where it was not asked."""
        self.rows = rows
        self.fields = fields
        self.command = command
        """The first word of the command tag: SELECT, INSERT, CREATE, …; empty after an empty query."""
        self.row_count = row_count
        """Rows selected or changed; None where the command counts none."""
        self.attempts = attempts
        """How often the request was sent until this answer came."""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"FullResults({self.command} {self.row_count}, {len(self.rows)} rows)"


class Shape(NamedTuple):
    """What the caller wants of one statement's answer."""

    row: Any = None
    full_results: bool = False
    types: Mapping[int, Decoder] | None = None


def single(reply: Reply, shape: Shape, *, query: str | None = None, attempts: int = 1) -> Any:
    """Rows, or FullResults, of a reply to one statement.

    Raises:
        NeonDbError: the reply is an error; its class says which.
    """
    result = result_of(_json(reply, (query,)), shape, attempts)
    if shape.full_results:
        result.cache = status_of(reply.headers)
    return result


def batch(
    reply: Reply, shapes: Sequence[Shape], *, queries: tuple[str | None, ...] = (), attempts: int = 1
) -> list[Any]:
    """The answers to a batch, in the order of its statements.

    Raises:
        NeonDbError: the reply is an error; its class says which.
    """
    answer = _json(reply, queries)
    results = answer.get("results")
    if not isinstance(results, list) or len(results) != len(shapes):
        raise errors.ProtocolError("the answer to a batch does not hold one result for each statement")
    return [result_of(result, shape, attempts) for result, shape in zip(results, shapes, strict=True)]


def result_of(answer: Any, shape: Shape, attempts: int = 1) -> Any:
    """Rows, or FullResults, of one statement's answer as Neon's JSON has it.

    Raises:
        ProtocolError: it has no fields and rows.
        DataError: a value cannot be read as its type is.
        InterfaceError: the columns' names do not fit what a row is to become.
    """
    try:
        described = answer["fields"]
        rows = answer["rows"]
        names = [field["name"] for field in described]
        decoders = [decoder(field["dataTypeID"], shape.types) for field in described]
    except (KeyError, TypeError):
        raise errors.ProtocolError("the answer has no fields and rows as the protocol has them") from None
    index = 0
    converting = [(index, decode) for index, decode in enumerate(decoders) if decode is not None]
    try:
        for row in rows:
            for index, decode in converting:
                text = row[index]
                if text is not None:
                    row[index] = decode(text)
    except (IndexError, TypeError, KeyError, ValueError, ArithmeticError) as error:
        field = described[index]
        unread = errors.DataError(
            f"cannot read a value of column {field['name']!r} (type {field['dataTypeID']}): {error}"
        )
        unread.may_have_run = True
        raise unread from error
    try:
        make = row_maker(shape.row, names)
    except errors.InterfaceError as error:
        error.may_have_run = True  # only what its rows are to become does not fit them
        raise
    made = [make(row) for row in rows]
    if not shape.full_results:
        return made
    fields = [
        Field(
            field["name"],
            field["dataTypeID"],
            field.get("tableID", 0),
            field.get("columnID", 0),
            field.get("dataTypeSize", -1),
            field.get("dataTypeModifier", -1),
            field.get("format", "text"),
        )
        for field in described
    ]
    return FullResults(made, fields, answer.get("command") or "", answer.get("rowCount"), attempts)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json(reply: Reply, queries: tuple[str | None, ...]) -> Any:
    """The JSON object of a successful reply."""
    if reply.status != 200:
        raise error_of(reply, queries)
    try:
        answer = loads(reply.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise errors.ProtocolError("the answer is not a JSON object; is the endpoint a SQL-over-HTTP server?")
    return answer


def error_of(reply: Reply, queries: tuple[str | None, ...] = ()) -> errors.NeonDbError:
    """The error that a reply other than 200 stands for."""
    try:
        body = loads(reply.body)
    except ValueError:
        body = None
    fields = {}
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        message = body["message"]
        fields = {ours: str(body[key]) for key, ours in _ERROR_FIELDS.items() if body.get(key) is not None}
    else:
        text = body if isinstance(body, str) else reply.body[:500].decode("utf-8", "replace")
        message = f"HTTP status {reply.status}: {text}".rstrip(": ")
    error = _class(reply.status, fields.get("code", ""), message)(message, **fields)
    ran = reply.headers.get("sqlhttp-ran")  # our gateway knows; of Neon's answers it has to be concluded
    if ran is not None:
        error.may_have_run = ran != "no"
    else:
        # Envoy, a mesh or an API gateway also says 503 when the server went away with the request.
        own = reply.status != 503 or (isinstance(body, dict) and "code" in body)
        error.may_have_run = (
            not own
            or _may_have_run(reply.status, fields.get("code", ""), message, batch=len(queries) > 1)
            or (len(queries) == 1 and "code" in fields and reply.status == 400 and _in_parts(queries[0]))
        )
    error.retry_after = _retry_after(reply.headers.get("retry-after"))
    if len(queries) == 1:
        error.query = queries[0]
    return error


def postgres_error(fields: Mapping[str, str], *, query: str | None = None) -> errors.NeonDbError:
    """The error that an ErrorResponse stands for; `fields` by their names here."""
    rest = dict(fields)
    message, code = rest.pop("message", ""), rest.get("code", "")
    error = _class(400, code, message)(message, **rest)
    error.may_have_run = _may_have_run(400, code, message, batch=False)
    error.query = query
    return error


def _class(status: int, code: str, message: str) -> type[errors.NeonDbError]:
    if status in (429, 503):
        return errors.Refused
    if status == 409 and code == "55P03":
        return errors.KeyInFlight
    if status == 409 and code == "58000":
        return errors.BookmarkLost
    if status == 422:
        return errors.KeyReused
    if status == 413:
        return errors.RequestTooLarge
    if status == 507:
        return errors.ResponseTooLarge
    if len(code) == 5:
        from sqlhttp.errors import class_of

        return class_of(code)
    if status == 400:
        return errors.OperationalError if message.startswith("password authentication failed") else errors.DatabaseError
    return errors.ServerFailed


_NOT_EXECUTED = (
    "invalid ",
    "missing ",
    "incorrect scheme",
    "password authentication failed",
    "could not parse the HTTP request body",
    "could not read the HTTP request body",
    "request is too large",
    "Couldn't connect to compute node",
    "Control plane request failed",
    "HTTP status 400: query is not supported",
)
"""How messages of Neon begin that carry no code and come before anything runs."""


_REFUSED_AT_LOGIN = ("28", "3D", "53", "57")
"""Classes of SQLSTATE with which Postgres refuses a connection; the gateway passes them on with status 500."""


def _may_have_run(status: int, code: str, message: str, *, batch: bool) -> bool:
    """Whether the statement may have taken effect. When in doubt, yes.

    An error of Postgres's own undoes its statement, or the whole batch. What remains are answers that are given after
    the statement may already have committed.
    """
    if status in (413, 429, 503) or status in (401, 403, 404, 405, 407, 411, 414, 415, 417, 421, 431):
        return False
    if status == 507:
        return not batch
    if status == 504 and code:  # the gateway's deadline: 57014 while it ran, something else before that
        return code == "57014"
    if status == 409 and code == "58000":
        return False
    if code == "08P01":  # also Postgres's word for a wrong number of parameters
        return status >= 500 or message.startswith("Query cancelled")
    if code[:2] == "08":  # 08001 and 08004: the connection was never made
        return code not in ("08001", "08004")
    if code == "40003":  # statement_completion_unknown
        return True
    if code:
        return status >= 500 and code[:2] not in _REFUSED_AT_LOGIN
    return not message.startswith(_NOT_EXECUTED)


def _in_parts(query: str | None) -> bool:
    """Whether Postgres's error may have come after a part of the statement was committed."""
    from sqlhttp._scan import runs_in_parts

    return query is not None and runs_in_parts(query)


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None
