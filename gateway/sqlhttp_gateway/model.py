"""The nouns that every floor shares: what is asked, of whom, and what comes back.

Text that goes to or comes from Postgres is bytes here, in UTF-8, exactly as it is on the wire. `repr` of what a caller
sent or gets leaves out its values, so that no log can carry them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import ceil
from typing import NamedTuple, Protocol


class Statement(NamedTuple):  # like Result made for every request, at half the price of a frozen dataclass
    """One SQL text with its parameters in Postgres's text format; None is NULL."""

    text: str
    params: tuple[bytes | None, ...] = ()
    array_mode: bool | None = None
    """Whether rows are arrays; None leaves it to the request's header."""

    def __repr__(self) -> str:
        return f"Statement({len(self.text)} characters, {len(self.params)} parameters)"


class IsolationLevel(StrEnum):
    """Values as Neon spells them in a header; `sql` is how Postgres spells them."""

    READ_UNCOMMITTED = "ReadUncommitted"
    READ_COMMITTED = "ReadCommitted"
    REPEATABLE_READ = "RepeatableRead"
    SERIALIZABLE = "Serializable"

    @property
    def sql(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Batch:
    """Several statements that succeed or fail together."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """How the transaction of a batch begins. False leaves out the clause, as Neon does."""

    isolation_level: IsolationLevel | None = None
    read_only: bool = False
    deferrable: bool = False

    @property
    def begin(self) -> str:
        """The START TRANSACTION statement."""
        parts = []
        if self.isolation_level is not None:
            parts.append(f"ISOLATION LEVEL {self.isolation_level.sql}")
        if self.read_only:
            parts.append("READ ONLY")
        if self.deferrable:
            parts.append("DEFERRABLE")
        return " ".join(["START TRANSACTION", ", ".join(parts)]).rstrip()


@dataclass(frozen=True, slots=True)
class Prologue:
    """What the gateway itself runs at the start of the transaction in front of a caller's statements.

    It makes a transaction around a single statement, too. With `read_only` that is READ ONLY; a first statement that
    reads then keeps the caller from making it READ WRITE again, which Postgres allows only before any query.
    """

    statements: tuple[Statement, ...]
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What the headers ask for besides the statement."""

    raw_text: bool = False
    array_mode: bool = False
    transaction: TransactionOptions = TransactionOptions()
    read_only: bool = False
    """Whether the whole request only reads, a single statement or a batch, and may not change its mind."""


class Bookmark(NamedTuple):
    """How much a program has seen of a target: the log of `system` up to `position`, as it is on `timeline`.

    `system` is Postgres's system identifier, the same for a primary and all its replicas. Each promotion begins a
    timeline, on which positions that were beyond its beginning mean something else.
    """

    system: int
    timeline: int
    position: int

    def covers(self, other: "Bookmark") -> bool:
        """Whether who has seen this much has seen the other, too. Of another timeline nobody can tell."""
        return self[:2] == other[:2] and self.position >= other.position


class RowReader(Protocol):
    """Whoever makes of many rows what is wanted of them while they arrive, so that they need not be kept."""

    def read(self, data: bytes, start: int) -> tuple[int, int]:
        """How many whole rows it took from `start` on, where a DataRow begins, and where they end. It may take none."""

    def keep(self, rows: bytes, count: int) -> None:
        """Take these whole DataRow messages, which `read` did not."""

    def json(self) -> "list[bytes | memoryview]":
        """All rows as a JSON array, in pieces."""


ReadRows = Callable[[bytes], RowReader | None]
"""Begins to read rows, given the body of their RowDescription; None where they had better be kept."""


class Result(NamedTuple):
    """One statement's answer, still in Postgres's own bytes.

    `description` is the body of RowDescription, or None for a statement that returns no rows. `rows` is a run of
    whole DataRow messages, each with its tag and length; `row_count` is how many. `tag` is the text of
    CommandComplete, None after an empty query. Rows that were `read` as they arrived are not in `rows`.
    """

    description: bytes | None
    rows: bytes
    row_count: int
    tag: bytes | None
    read: RowReader | None = None

    def __repr__(self) -> str:
        return f"Result({self.row_count} rows, {len(self.rows)} bytes, {self.tag!r})"


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a result, as RowDescription tells it."""

    name: str
    table_id: int
    column_id: int
    type_id: int
    type_size: int
    type_modifier: int


@dataclass(frozen=True, slots=True)
class Dsn:
    """A parsed connection string. `repr` leaves the password out, so that no log can carry it."""

    host: str
    port: int | None
    database: str
    role: str
    password: bytes | None
    """Bytes, since a percent-encoded password need not be UTF-8."""
    parameters: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Dsn({self.role}@{self.host}:{self.port}/{self.database})"


@dataclass(frozen=True, slots=True)
class Target:
    """A Postgres server the gateway knows. `name` is how settings and metrics call it."""

    name: str
    host: str
    """A name, an address, or the folder of a Unix socket, which begins with a slash as in libpq."""
    port: int

    @property
    def is_socket(self) -> bool:
        """It is asked by a Unix socket, and so runs on this machine."""
        return self.host.startswith("/")

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return place(self.host, self.port)


def place(host: str, port: int) -> str:
    """`host:port`, or the path of the Unix socket in the folder that `host` is, named as Postgres names it."""
    return f"{host.rstrip('/')}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class PoolKey:
    """Connections are shared within one target, database and role, never across."""

    target: str
    database: str
    role: str

    def __str__(self) -> str:
        return f"{self.target}/{self.database}/{self.role}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one tenant may take of the gateway; None is no limit, or leaves it to whoever is asked next."""

    max_concurrent: int | None = None
    max_waiting: int | None = None
    rate: float | None = None
    """Requests a second."""
    burst: int | None = None
    statement_timeout: float | None = None
    """Seconds."""
    max_response_bytes: int | None = None

    @property
    def burst_or_rate(self) -> int:
        """How many requests may come at once when none came before; without a `burst`, as many as in a second."""
        return self.burst if self.burst is not None else max(1, ceil(self.rate or 1.0))

    def or_else(self, other: "Allowance") -> "Allowance":
        """This one, with the other's word where it says nothing."""
        names = [each.name for each in fields(self)]
        return Allowance(**{name: getattr(other if getattr(self, name) is None else self, name) for name in names})

    def share_of(self, workers: int) -> "Allowance":
        """That of one of so many processes; each may run one request at least."""
        return replace(
            self,
            max_concurrent=None if self.max_concurrent is None else max(1, self.max_concurrent // workers),
            max_waiting=None if self.max_waiting is None else self.max_waiting // workers,
            rate=None if self.rate is None else self.rate / workers,
            burst=None if self.burst is None else max(1, self.burst // workers),
        )


NO_LIMITS = Allowance()


@dataclass(frozen=True, slots=True)
class ArrayType:
    """What typed output needs to know of an array: the type of its elements and what separates them."""

    element: int
    delimiter: str = ","
