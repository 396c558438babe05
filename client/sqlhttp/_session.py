"""Many statements over one connection, synchronously: `begin`, `session`, and what they hand to the program.

What is said over the connection, and what its end means, is decided in `_interactive` and `_line`; `_session_async` has
the same names for asyncio.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from sys import is_finalizing
from time import monotonic
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from sqlhttp import _options as options_of
from sqlhttp._call import Positional, asked, wanting
from sqlhttp._errors import InterfaceError, NeonDbError
from sqlhttp._interactive import OpenTransaction, begin_statement
from sqlhttp._line import Steps
from sqlhttp._options import UNSET, ClientOptions, Unset, Wanted, deadline_of
from sqlhttp._request import IsolationLevel, Statement
from sqlhttp._response import FullResults, result_of
from sqlhttp._retry import Retry, attempts
from sqlhttp._retry import Steps as Attempts
from sqlhttp._runs import Runs, TupleRow, tried
from sqlhttp._startup import startup
from sqlhttp._template import Query, Text, query_of
from sqlhttp._tunnel import CLOSE_TIMEOUT, PING_INTERVAL, Tunnel
from sqlhttp._types import Decoder

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")


class HeldCallOptions(TypedDict, total=False):
    """Options of one call over a connection, beside those that decide the type of its answer."""

    types: Mapping[int, Decoder] | None
    timeout: float | None


class BeginOptions(TypedDict, total=False):
    """How a transaction begins, and how long and how often it may be tried."""

    isolation_level: IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    timeout: float | None
    retry: Retry | None


class Held(Runs[Answer]):
    """Runs statements over a connection that is kept; threads take turns."""

    __slots__ = ("_tunnel",)

    def __init__(self, options: ClientOptions, tunnel: Tunnel) -> None:
        super().__init__(options)
        self._tunnel = tunnel

    @overload
    def query(self, text: Text, params: Sequence[Any] = (), **options: Unpack[HeldCallOptions]) -> Answer: ...
    @overload
    def query(
        self: "Held[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[Row]: ...
    @overload
    def query(
        self: "Held[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[False],
        **options: Unpack[HeldCallOptions],
    ) -> list[Row]: ...
    @overload
    def query(
        self: "Held[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[False] = ...,
        **options: Unpack[HeldCallOptions],
    ) -> list[TupleRow]: ...
    @overload
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[TupleRow]: ...
    @overload
    def query(
        self: "Held[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[False] = ...,
        **options: Unpack[HeldCallOptions],
    ) -> list[Kind]: ...
    @overload
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[Kind]: ...
    @overload
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[HeldCallOptions],
    ) -> Any: ...
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
        timeout: float | Unset | None = UNSET,
    ) -> Any:
        """Run one statement with its parameters in a sequence, and with options of its own.

        Raises:
            NeonDbError: as for a plain call.
        """
        options = options_of.changed(self._options, timeout=timeout)
        return self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

    def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        statement, shape = asked(options, query, positional=positional)
        [answer] = self._tunnel.drive(self._asking(statement), deadline_of(options))
        return result_of(answer, shape)

    def _asking(self, statement: Statement) -> Steps[list[dict[str, Any]]]:
        raise NotImplementedError

    def _drive(self, steps: Steps[Kind]) -> Kind:
        return self._tunnel.drive(steps, deadline_of(self._options))


class InteractiveTransaction(Held[Answer]):
    """A transaction that is open. It is committed at the end of its block, and rolled back when the block raises.

    A connection that ends before takes all of it back, and is a `TransactionLost`.
    """

    __slots__ = ("_open",)

    def __init__(self, options: ClientOptions, tunnel: Tunnel) -> None:
        super().__init__(options, tunnel)
        self._open = OpenTransaction(tunnel.line)

    def commit(self) -> None:
        """Commit before the end of the block; no statement can follow.

        Raises:
            OutcomeUnknown: the connection ended before Postgres said whether.
            InFailedSqlTransaction: a statement had failed before; everything is rolled back.
        """
        self._drive(self._open.commit())

    def rollback(self) -> None:
        """Undo everything, without an error; no statement can follow."""
        self._drive(self._open.roll_back())

    @contextmanager
    def savepoint(self) -> Generator["Savepoint"]:
        """A part that may fail by itself: an error that leaves the block undoes what was done in it, and goes on."""
        point = Savepoint(self, self._drive(self._open.save()))
        try:
            yield point
        except BaseException:
            if not self._open.is_over and self._tunnel.line.is_usable:
                self._drive(self._open.undo(point.name))
            raise
        if not self._open.is_over:
            self._drive(self._open.release(point.name))

    def _asking(self, statement: Statement) -> Steps[list[dict[str, Any]]]:
        return self._open.run(statement)

    @contextmanager
    def _until_its_end(self) -> Generator["InteractiveTransaction[Answer]"]:
        try:
            yield self
        except BaseException:
            self._abandon()
            raise
        if not self._open.is_over:
            self.commit()

    def _abandon(self) -> None:
        """ROLLBACK, so that locks are free when the block is left. Should it fail, the connection's end does it."""
        if not self._open.is_over and self._tunnel.line.is_usable and not is_finalizing():
            with suppress(NeonDbError):
                self._tunnel.drive(self._open.roll_back(), monotonic() + CLOSE_TIMEOUT)


class Savepoint:
    """A place inside a transaction to which it can go back."""

    __slots__ = ("_transaction", "name")

    def __init__(self, transaction: InteractiveTransaction[Any], name: str) -> None:
        self._transaction = transaction
        self.name = name
        """As Postgres knows it."""

    def rollback(self) -> None:
        """Undo what was done since the savepoint; the block goes on."""
        self._transaction._drive(self._transaction._open.undo_and_keep(self.name))


class Session(Held[Answer]):
    """One backend of Postgres's for many statements, each of which commits by itself: SET, temporary tables, locks."""

    __slots__ = ()

    @overload
    def begin(self, **options: Unpack[BeginOptions]) -> AbstractContextManager[InteractiveTransaction[Answer]]: ...
    @overload
    def begin(
        self, work: Callable[[InteractiveTransaction[Answer]], Kind], **options: Unpack[BeginOptions]
    ) -> Kind: ...
    def begin(
        self,
        work: Callable[[InteractiveTransaction[Any]], Any] | None = None,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
    ) -> Any:
        """A transaction on this backend; otherwise as `Sql.begin`."""
        options = options_of.changed(
            self._options,
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            timeout=timeout,
            retry=retry,
        )
        if work is None:
            return self._transaction(options)
        return self._worked(options, work)

    def _asking(self, statement: Statement) -> Steps[list[dict[str, Any]]]:
        return self._tunnel.line.run(statement)

    @contextmanager
    def _transaction(self, options: ClientOptions) -> Generator[InteractiveTransaction[Any]]:
        if self._tunnel.line.status in ("T", "E"):
            raise InterfaceError("a transaction is open on this session; inside it there are savepoints")
        self._tunnel.drive(self._tunnel.line.run(begin_statement(options.transaction)), deadline_of(options))
        with InteractiveTransaction[Any](options, self._tunnel)._until_its_end() as transaction:
            yield transaction

    def _worked(self, options: ClientOptions, work: Callable[[InteractiveTransaction[Any]], Any]) -> Any:
        deadline = deadline_of(options)

        def attempt(deadline: float | None) -> Any:
            with self._transaction(options._replace(deadline=deadline)) as transaction:
                return work(transaction)

        return tried(retrying(options, deadline, is_possible=lambda: self._tunnel.line.is_usable), attempt)


# ── of a client ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def transaction(options: ClientOptions, token: str | None) -> Generator[InteractiveTransaction[Any]]:
    """A transaction over a connection of its own; connecting is tried again as `retry` says, the block is not."""
    tunnel = opened(options, token, first=(begin_statement(options.transaction),))
    try:
        with InteractiveTransaction[Any](options, tunnel)._until_its_end() as transaction:
            yield transaction
    finally:
        tunnel.close()


def worked(options: ClientOptions, token: str | None, work: Callable[[InteractiveTransaction[Any]], Any]) -> Any:
    """What `work` returns, done in a transaction; again after a conflict or a loss, as `retry` says."""
    begin = begin_statement(options.transaction)
    tunnel: Tunnel | None = None

    def attempt(deadline: float | None) -> Any:
        nonlocal tunnel
        if tunnel is not None and not tunnel.line.is_usable:
            tunnel.close()
            tunnel = None
        if tunnel is None:
            tunnel = _open(options, token, deadline, first=(begin,))
        else:
            tunnel.drive(tunnel.line.run(begin), deadline)
        own = options._replace(deadline=deadline)
        with InteractiveTransaction[Any](own, tunnel)._until_its_end() as transaction:
            return work(transaction)

    try:
        return tried(retrying(options, deadline_of(options)), attempt)
    finally:
        if tunnel is not None:
            tunnel.close()


@contextmanager
def session(options: ClientOptions, token: str | None) -> Generator[Session[Any]]:
    """One backend for the length of the block."""
    tunnel = opened(options, token, pool_mode="session", ping_interval=PING_INTERVAL)
    try:
        yield Session(options, tunnel)
    finally:
        tunnel.close()


def opened(
    options: ClientOptions,
    token: str | None,
    *,
    first: tuple[Statement, ...] = (),
    pool_mode: str | None = None,
    ping_interval: float | None = None,
) -> Tunnel:
    """A connection that is logged in and has run the first statements; tried again as `retry` says.

    Raises:
        NeonDbError: nothing has run.
    """
    return tried(  # type: ignore[no-any-return]  # it brings what the function gives
        retrying(options, deadline_of(options)),
        lambda deadline: _open(options, token, deadline, first=first, pool_mode=pool_mode, ping_interval=ping_interval),
    )


def _open(
    options: ClientOptions,
    token: str | None,
    deadline: float | None,
    *,
    first: tuple[Statement, ...] = (),
    pool_mode: str | None = None,
    ping_interval: float | None = None,
) -> Tunnel:
    where = options.destination
    parameters, password = startup(where.connection_string, token, pool_mode=pool_mode)
    tunnel: Tunnel = (options.tunnel or Tunnel)(
        where.websocket,
        headers=options.headers,
        context=options.ssl_context,
        deadline=deadline,
        ping_interval=ping_interval,
    )
    try:
        tunnel.drive(tunnel.line.log_in(parameters, password, first), deadline)
    except BaseException:
        tunnel.close()
        raise
    return tunnel


def retrying(
    options: ClientOptions, deadline: float | None, *, is_possible: Callable[[], bool] = lambda: True
) -> Attempts:
    """When to try again to connect, or to do the work of a whole transaction."""
    return attempts(
        lambda brought, number: brought,
        retry=options.retry,
        is_repeatable=lambda: bool(options.transaction.read_only),
        deadline=deadline,
        is_possible=is_possible,
    )
