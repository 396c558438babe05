"""DB-API 2.0 (PEP 249) over SQL-over-HTTP, for what expects a DB-API connection, such as `pandas.read_sql`.

Every statement is a request of its own and commits by itself. There is no session that could hold a transaction, a
setting or a cursor from one statement to the next; what needs one is refused with an error that says so.
`executemany` is one transaction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Self

from sqlhttp._errors import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NeonDbError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from sqlhttp._neon import Sql, Token, neon
from sqlhttp._options import TIMEOUT, FetchOptions
from sqlhttp._paramstyle import numbered
from sqlhttp._reads import only_reads
from sqlhttp._response import FullResults
from sqlhttp._retry import Retry
from sqlhttp._rows import Field
from sqlhttp._scan import tokens
from sqlhttp._types import Decoder

if TYPE_CHECKING:
    import httpx

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

apilevel = "2.0"
threadsafety = 2
"""Threads may share the module and connections, but not a cursor."""
paramstyle = "pyformat"
"""`%s` with a sequence, `%(name)s` with a mapping; `%%` is a percent sign wherever parameters are given."""

Error = NeonDbError


class Warning(Exception):
    """PEP 249 asks for it; nothing here raises it."""


Parameters = Sequence[Any] | Mapping[str, Any] | None
Column = tuple[str, int, None, int | None, int | None, int | None, None]
"""Name, type OID, display size, internal size in bytes, precision, scale, null_ok."""

_NUMERIC = 1700

_NEEDS_SESSION = {
    **dict.fromkeys(
        ("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"),
        "commits by itself; run statements together with neon(…).transaction([…])",
    ),
    **dict.fromkeys(
        ("set", "reset", "prepare", "deallocate", "declare", "listen", "unlisten", "lock", "discard", "load"),
        "has a session of its own, which ends with it",
    ),
}
"""First words of statements whose effect is over before the next statement runs."""


def connect(
    url: str | None = None,
    *,
    endpoint: str | None = None,
    auth_token: Token | None = None,
    fetch_options: FetchOptions | None = None,
    timeout: float | None = TIMEOUT,
    types: Mapping[int, Decoder] | None = None,
    retry: Retry | None = Retry(),  # noqa: B008  a frozen value
    transport: "httpx.Client | None" = None,
) -> "Connection":
    """A connection to the database of `url`; the arguments are those of `neon`. Nothing is sent until it is used.

    Raises:
        InterfaceError: there is no URL, or an argument that cannot be used.
    """
    return Connection(
        neon(
            url,
            endpoint=endpoint,
            auth_token=auth_token,
            array_mode=True,
            full_results=True,
            fetch_options=fetch_options,
            timeout=timeout,
            types=types,
            retry=retry,
            transport=transport,
        )
    )


class Connection:
    """A connection as PEP 249 has it. Autocommit: what has run stays."""

    Warning = Warning
    Error = NeonDbError
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError

    autocommit = True

    def __init__(self, sql: Sql[FullResults[tuple[Any, ...]]]) -> None:
        self._sql = sql
        self._closed = False
        self._wrote = False
        """Whether a statement since the last commit may have changed something."""

    def cursor(self) -> "Cursor":
        """A cursor; any number of them may be in use."""
        self._check_open()
        return Cursor(self)

    def commit(self) -> None:
        """Nothing: every statement has committed by itself."""
        self._check_open()
        self._wrote = False

    def rollback(self) -> None:
        """Nothing, as long as nothing was changed since the last commit; a statement that failed has undone itself.

        Raises:
            NotSupportedError: a statement has changed something, or may have, and cannot be undone.
        """
        self._check_open()
        if self._wrote:
            self._wrote = False
            raise NotSupportedError(
                "cannot roll back: over HTTP every statement commits by itself; "
                "run statements together with neon(…).transaction([…])"
            )

    def close(self) -> None:
        """Make the connection unusable, and its cursors with it. Closing twice is an error of PEP 249's."""
        self._check_open()
        self._closed = True

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._closed:
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed")

    def _run(self, text: str, params: tuple[Any, ...]) -> FullResults[tuple[Any, ...]]:
        self._check_open()
        refuse_what_needs_session(text)
        with self._noting(text):
            return self._sql.query(self._sql.unsafe(text, *params))

    def _run_together(self, statements: list[tuple[str, tuple[Any, ...]]]) -> list[FullResults[tuple[Any, ...]]]:
        self._check_open()
        for text in {text for text, _ in statements}:
            refuse_what_needs_session(text)
        with self._noting(*(text for text, _ in statements)):
            return self._sql.transaction([self._sql.q(self._sql.unsafe(text, *params)) for text, params in statements])

    @contextmanager
    def _noting(self, *texts: str) -> Iterator[None]:
        """Note whether statements may have changed something, and so do those whose answer was lost."""
        may_have_run = True
        try:
            yield
        except NeonDbError as error:
            may_have_run = error.may_have_run
            raise
        finally:
            self._wrote = self._wrote or (may_have_run and not all(map(only_reads, texts)))


class Cursor:
    """A cursor as PEP 249 has it. A result is whole when `execute` returns; fetching only hands it out."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.description: list[Column] | None = None
        self.rowcount = -1
        """Rows selected or changed; -1 where that is not known."""
        self._rows: Iterator[tuple[Any, ...]] | None = None
        self._closed = False

    def execute(self, operation: str, parameters: Parameters = None) -> Self:
        """Run a statement.

        Raises:
            NotSupportedError: the statement needs a session that goes on after it.
            ProgrammingError: placeholders and parameters do not fit.
            Error: as for `sql(…)`.
        """
        self._forget()
        answer = self.connection._run(*numbered(operation, parameters))
        self.rowcount = -1 if answer.row_count is None else answer.row_count
        if answer.fields:
            self.description = [described(field) for field in answer.fields]
            self._rows = iter(answer.rows)
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[Any] | Mapping[str, Any]]) -> Self:
        """Run a statement once for each set of parameters, all in one transaction and one round trip."""
        self._forget()
        answers = self.connection._run_together([numbered(operation, one) for one in seq_of_parameters])
        self.rowcount = sum(answer.row_count or 0 for answer in answers)
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None when there is none."""
        return next(self._result(), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, at most `size` of them, `arraysize` by default."""
        rows = self._result()
        return [row for _, row in zip(range(self.arraysize if size is None else size), rows, strict=False)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        return list(self._result())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._result()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing, as PEP 249 allows: Postgres tells the types of parameters from the statement."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing, as PEP 249 allows."""

    def close(self) -> None:
        """Make the cursor unusable."""
        self._forget()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._closed:
            self.close()

    def _forget(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.description, self.rowcount, self._rows = None, -1, None

    def _result(self) -> Iterator[tuple[Any, ...]]:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.connection._check_open()
        if self._rows is None:
            raise ProgrammingError("there is no result to fetch from; the last statement gave none")
        return self._rows


def refuse_what_needs_session(text: str) -> None:
    """Let pass what one request can hold.

    Raises:
        NotSupportedError: the statement's effect would be gone before the next one.
    """
    first = next((text[token.start : token.end].lower() for token in tokens(text) if token.kind == "word"), "")
    if first in _NEEDS_SESSION:
        raise NotSupportedError(f"{first.upper()} has no effect over HTTP: every statement {_NEEDS_SESSION[first]}")


def described(field: Field) -> Column:
    """One column of a cursor's description."""
    precision = scale = None
    modifier = field.data_type_modifier
    if field.data_type_id == _NUMERIC and modifier >= 4:
        # As numeric_typmod_precision and numeric_typmod_scale of Postgres; the scale has 11 bits and a sign.
        precision = ((modifier - 4) >> 16) & 0xFFFF
        scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    size = field.data_type_size if field.data_type_size >= 0 else None
    return field.name, field.data_type_id, None, size, precision, scale, None


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class TypeObject:
    """Equal to the OID of every type that is of its kind; compare it with a description's type."""

    def __init__(self, *type_ids: int) -> None:
        self._type_ids = frozenset(type_ids)

    def __eq__(self, other: object) -> bool:
        return other in self._type_ids if isinstance(other, int) else self is other

    def __hash__(self) -> int:
        return id(self)


STRING = TypeObject(18, 19, 25, 1042, 1043)
BINARY = TypeObject(17)
NUMBER = TypeObject(20, 21, 23, 700, 701, _NUMERIC)
DATETIME = TypeObject(1082, 1083, 1114, 1184, 1186, 1266)
ROWID = TypeObject(26)

Date = date
Time = time
Timestamp = datetime
Binary = bytes

DateFromTicks: Callable[[float], date] = date.fromtimestamp
TimestampFromTicks: Callable[[float], datetime] = datetime.fromtimestamp


def TimeFromTicks(ticks: float) -> time:
    """The local time of day at `ticks` seconds since the epoch."""
    return datetime.fromtimestamp(ticks).time()
