"""Many statements over one connection, to be awaited: the same names as in `_session`."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic
from typing import Any, Literal, TypeVar, Unpack, overload

from sqlhttp import _options as options_of
from sqlhttp._call import Positional, asked, wanting
from sqlhttp._errors import InterfaceError, NeonDbError
from sqlhttp._interactive import OpenTransaction, begin_statement
from sqlhttp._line import Line, Steps
from sqlhttp._options import UNSET, ClientOptions, Unset, Wanted, deadline_of
from sqlhttp._request import IsolationLevel, Statement
from sqlhttp._response import FullResults, result_of
from sqlhttp._retry import Retry
from sqlhttp._runs import TupleRow
from sqlhttp._runs_async import AsyncRuns, tried
from sqlhttp._session import BeginOptions, HeldCallOptions, retrying
from sqlhttp._startup import startup
from sqlhttp._template import Query, Text, query_of
from sqlhttp._tunnel import CLOSE_TIMEOUT, PING_INTERVAL
from sqlhttp._tunnel_async import AsyncTunnel
from sqlhttp._types import Decoder

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

Token = Callable[[], Awaitable[str | None]]
"""Fetches the auth token, which is done where it can be awaited."""


class AsyncHeld(AsyncRuns[Answer]):
    """Runs statements over a connection that is kept; tasks take turns."""

    __slots__ = ("_tunnel",)

    def __init__(self, options: ClientOptions, tunnel: AsyncTunnel) -> None:
        super().__init__(options)
        self._tunnel = tunnel

    @overload
    async def query(self, text: Text, params: Sequence[Any] = (), **options: Unpack[HeldCallOptions]) -> Answer: ...
    @overload
    async def query(
        self: "AsyncHeld[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[Row]: ...
    @overload
    async def query(
        self: "AsyncHeld[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[False],
        **options: Unpack[HeldCallOptions],
    ) -> list[Row]: ...
    @overload
    async def query(
        self: "AsyncHeld[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[False] = ...,
        **options: Unpack[HeldCallOptions],
    ) -> list[TupleRow]: ...
    @overload
    async def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[TupleRow]: ...
    @overload
    async def query(
        self: "AsyncHeld[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[False] = ...,
        **options: Unpack[HeldCallOptions],
    ) -> list[Kind]: ...
    @overload
    async def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[True],
        **options: Unpack[HeldCallOptions],
    ) -> FullResults[Kind]: ...
    @overload
    async def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[HeldCallOptions],
    ) -> Any: ...
    async def query(
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
        return await self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

    async def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        statement, shape = asked(options, query, positional=positional)
        [answer] = await self._tunnel.drive(self._asking(statement), deadline_of(options))
        return result_of(answer, shape)

    def _asking(self, statement: Statement) -> Steps[list[dict[str, Any]]]:
        raise NotImplementedError

    async def _drive(self, steps: Steps[Kind]) -> Kind:
        return await self._tunnel.drive(steps, deadline_of(self._options))


class AsyncInteractiveTransaction(AsyncHeld[Answer]):
    """A transaction that is open. It is committed at the end of its block, and rolled back when the block raises.

    A connection that ends before takes all of it back, and is a `TransactionLost`.
    """

    __slots__ = ("_open",)

    def __init__(self, options: ClientOptions, tunnel: AsyncTunnel) -> None:
        super().__init__(options, tunnel)
        self._open = OpenTransaction(tunnel.line)

    async def commit(self) -> None:
        """Commit before the end of the block; no statement can follow.

        Raises:
            OutcomeUnknown: the connection ended before Postgres said whether.
            InFailedSqlTransaction: a statement had failed before; everything is rolled back.
        """
        await self._drive(self._open.commit())

    async def rollback(self) -> None:
        """Undo everything, without an error; no statement can follow."""
        await self._drive(self._open.roll_back())

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator["AsyncSavepoint"]:
        """A part that may fail by itself: an error that leaves the block undoes what was done in it, and goes on."""
        point = AsyncSavepoint(self, await self._drive(self._open.save()))
        try:
            yield point
        except BaseException:
            if not self._open.is_over and self._tunnel.line.is_usable:
                await self._drive(self._open.undo(point.name))
            raise
        if not self._open.is_over:
            await self._drive(self._open.release(point.name))

    def _asking(self, statement: Statement) -> Steps[list[dict[str, Any]]]:
        return self._open.run(statement)

    @asynccontextmanager
    async def _until_its_end(self) -> AsyncGenerator["AsyncInteractiveTransaction[Answer]"]:
        try:
            yield self
        except BaseException:
            await self._abandon()
            raise
        if not self._open.is_over:
            await self.commit()

    async def _abandon(self) -> None:
        """ROLLBACK, so that locks are free when the block is left. Should it fail, the connection's end does it."""
        if not self._open.is_over and self._tunnel.line.is_usable:
            with suppress(NeonDbError):
                await self._tunnel.drive(self._open.roll_back(), monotonic() + CLOSE_TIMEOUT)


class AsyncSavepoint:
    """A place inside a transaction to which it can go back."""

    __slots__ = ("_transaction", "name")

    def __init__(self, transaction: AsyncInteractiveTransaction[Any], name: str) -> None:
        self._transaction = transaction
        self.name = name
        """As Postgres knows it."""

    async def rollback(self) -> None:
        """Undo what was done since the savepoint; the block goes on."""
        await self._transaction._drive(self._transaction._open.undo_and_keep(self.name))


class AsyncSession(AsyncHeld[Answer]):
    """One backend of Postgres's for many statements, each of which commits by itself: SET, temporary tables, locks."""

    __slots__ = ()

    @overload
    def begin(
        self, **options: Unpack[BeginOptions]
    ) -> AbstractAsyncContextManager[AsyncInteractiveTransaction[Answer]]: ...
    @overload
    def begin(
        self, work: Callable[[AsyncInteractiveTransaction[Answer]], Awaitable[Kind]], **options: Unpack[BeginOptions]
    ) -> Awaitable[Kind]: ...
    def begin(
        self,
        work: Callable[[AsyncInteractiveTransaction[Any]], Awaitable[Any]] | None = None,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
    ) -> Any:
        """A transaction on this backend; otherwise as `AsyncSql.begin`."""
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
        line: Line = self._tunnel.line
        return line.run(statement)

    @asynccontextmanager
    async def _transaction(self, options: ClientOptions) -> AsyncGenerator[AsyncInteractiveTransaction[Any]]:
        if self._tunnel.line.status in ("T", "E"):
            raise InterfaceError("a transaction is open on this session; inside it there are savepoints")
        await self._tunnel.drive(self._tunnel.line.run(begin_statement(options.transaction)), deadline_of(options))
        async with AsyncInteractiveTransaction[Any](options, self._tunnel)._until_its_end() as transaction:
            yield transaction

    async def _worked(
        self, options: ClientOptions, work: Callable[[AsyncInteractiveTransaction[Any]], Awaitable[Any]]
    ) -> Any:
        deadline = deadline_of(options)

        async def attempt(deadline: float | None) -> Any:
            async with self._transaction(options._replace(deadline=deadline)) as transaction:
                return await work(transaction)

        return await tried(retrying(options, deadline, is_possible=lambda: self._tunnel.line.is_usable), attempt)


# ── of a client ──────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def transaction(options: ClientOptions, token: Token) -> AsyncGenerator[AsyncInteractiveTransaction[Any]]:
    """A transaction over a connection of its own; connecting is tried again as `retry` says, the block is not."""
    tunnel = await opened(options, await token(), first=(begin_statement(options.transaction),))
    try:
        async with AsyncInteractiveTransaction[Any](options, tunnel)._until_its_end() as transaction:
            yield transaction
    finally:
        await tunnel.close()


async def worked(
    options: ClientOptions, token: Token, work: Callable[[AsyncInteractiveTransaction[Any]], Awaitable[Any]]
) -> Any:
    """What `work` returns, done in a transaction; again after a conflict or a loss, as `retry` says."""
    begin = begin_statement(options.transaction)
    shown = await token()
    tunnel: AsyncTunnel | None = None

    async def attempt(deadline: float | None) -> Any:
        nonlocal tunnel
        if tunnel is not None and not tunnel.line.is_usable:
            await tunnel.close()
            tunnel = None
        if tunnel is None:
            tunnel = await _open(options, shown, deadline, first=(begin,))
        else:
            await tunnel.drive(tunnel.line.run(begin), deadline)
        own = options._replace(deadline=deadline)
        async with AsyncInteractiveTransaction[Any](own, tunnel)._until_its_end() as transaction:
            return await work(transaction)

    try:
        return await tried(retrying(options, deadline_of(options)), attempt)
    finally:
        if tunnel is not None:
            await tunnel.close()


@asynccontextmanager
async def session(options: ClientOptions, token: Token) -> AsyncGenerator[AsyncSession[Any]]:
    """One backend for the length of the block."""
    tunnel = await opened(options, await token(), pool_mode="session", ping_interval=PING_INTERVAL)
    try:
        yield AsyncSession(options, tunnel)
    finally:
        await tunnel.close()


async def opened(
    options: ClientOptions,
    token: str | None,
    *,
    first: tuple[Statement, ...] = (),
    pool_mode: str | None = None,
    ping_interval: float | None = None,
) -> AsyncTunnel:
    """A connection that is logged in and has run the first statements; tried again as `retry` says.

    Raises:
        NeonDbError: nothing has run.
    """
    return await tried(  # type: ignore[no-any-return]  # it brings what the function gives
        retrying(options, deadline_of(options)),
        lambda deadline: _open(options, token, deadline, first=first, pool_mode=pool_mode, ping_interval=ping_interval),
    )


async def _open(
    options: ClientOptions,
    token: str | None,
    deadline: float | None,
    *,
    first: tuple[Statement, ...] = (),
    pool_mode: str | None = None,
    ping_interval: float | None = None,
) -> AsyncTunnel:
    where = options.destination
    parameters, password = startup(where.connection_string, token, pool_mode=pool_mode)
    tunnel: AsyncTunnel = await (options.tunnel or AsyncTunnel.open)(
        where.websocket,
        headers=options.headers,
        context=options.ssl_context,
        deadline=deadline,
        ping_interval=ping_interval,
    )
    try:
        await tunnel.drive(tunnel.line.log_in(parameters, password, first), deadline)
    except BaseException:
        await tunnel.close()
        raise
    return tunnel
