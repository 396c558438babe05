"""`neon_async(url)` and what it returns: the same names as `_neon`, to be awaited.

Imported on first use, since it needs httpx. Everything but sending, sleeping and fetching a token is shared.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import httpx

from sqlhttp import _options as options_of
from sqlhttp._bookmark import Bookmark
from sqlhttp._cache import Cache
from sqlhttp._call import Call, Positional, batch_call, invalidate_call, single_call, wanting
from sqlhttp._endpoint import destination
from sqlhttp._errors import InterfaceError
from sqlhttp._httpx import LOOPS, AsyncHttpxTransport, AsyncTransport, LoopTransport
from sqlhttp._neon import Transaction
from sqlhttp._options import TIMEOUT, UNSET, ClientOptions, Consistency, FetchOptions, SharedCallOptions, Unset, Wanted
from sqlhttp._request import IsolationLevel
from sqlhttp._response import FullResults
from sqlhttp._retry import Retry
from sqlhttp._runs import DictRow, TupleRow
from sqlhttp._runs_async import AsyncRuns, tried
from sqlhttp._template import Query, Text, query_of
from sqlhttp._types import Decoder

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sqlhttp._listen_async import AsyncListener
    from sqlhttp._session import BeginOptions
    from sqlhttp._session_async import AsyncInteractiveTransaction, AsyncSession

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

AsyncToken = str | Callable[[], str | Awaitable[str]]
"""An auth token, or a function that is asked for one at every call and may have to be awaited."""


class AsyncCallOptions(SharedCallOptions, total=False):
    """Options of one call beside those that decide the type of its answer."""

    auth_token: AsyncToken | None


class NewAsyncClientOptions(AsyncCallOptions, total=False):
    """Options of `neon_async()` beside those that decide the type of its answers."""

    endpoint: str | None
    transport: httpx.AsyncClient | None


class AsyncSqlCache:
    """The gateway's result cache, as far as it is this client's."""

    __slots__ = ("_sql",)

    def __init__(self, sql: "AsyncSql[Any]") -> None:
        self._sql = sql

    async def invalidate(
        self, *tags: str, relations: Sequence[str] = (), all: bool = False, everywhere: bool = False
    ) -> None:
        """As `SqlCache.invalidate`."""
        sql = self._sql
        options = sql._options
        call = invalidate_call(
            options, await _token(options), tags, relations=relations, all=all, everywhere=everywhere
        )
        await sql._drive(options, call)


class AsyncSql(AsyncRuns[Answer]):
    """Runs SQL over HTTP. `Answer` is what a call returns, `list[dict[str, Any]]` unless the client was told otherwise.

    Safe to keep at module level: it may be used from any number of threads, and after a fork. Closing is optional.
    """

    __slots__ = ()

    @overload
    async def query(self, text: Text, params: Sequence[Any] = (), **options: Unpack[AsyncCallOptions]) -> Answer: ...
    @overload
    async def query(
        self: "AsyncSql[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[True],
        **options: Unpack[AsyncCallOptions],
    ) -> FullResults[Row]: ...
    @overload
    async def query(
        self: "AsyncSql[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[False],
        **options: Unpack[AsyncCallOptions],
    ) -> list[Row]: ...
    @overload
    async def query(
        self: "AsyncSql[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[False] = ...,
        **options: Unpack[AsyncCallOptions],
    ) -> list[TupleRow]: ...
    @overload
    async def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[True],
        **options: Unpack[AsyncCallOptions],
    ) -> FullResults[TupleRow]: ...
    @overload
    async def query(
        self: "AsyncSql[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[False] = ...,
        **options: Unpack[AsyncCallOptions],
    ) -> list[Kind]: ...
    @overload
    async def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[True],
        **options: Unpack[AsyncCallOptions],
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
        **options: Unpack[AsyncCallOptions],
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
        auth_token: AsyncToken | Unset | None = UNSET,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        fetch_options: FetchOptions | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        consistency: Consistency | None = None,
        cache: Cache | Unset | None = UNSET,
    ) -> Any:
        """Run one statement with its parameters in a sequence, and with options of its own.

        A statement with `isolation_level`, `read_only` or `deferrable` runs in a transaction of its own that has them.

        Raises:
            NeonDbError: as for a plain call.
        """
        options = options_of.changed(
            self._options,
            auth_token=auth_token,
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            fetch_options=fetch_options,
            timeout=timeout,
            retry=retry,
            idempotency_key=idempotency_key,
            consistency=consistency,
            cache=cache,
        )
        return await self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

    @overload
    async def transaction(
        self,
        queries: Iterable[Query[Kind]] | Callable[[Transaction], Iterable[Query[Kind]]],
        **options: Unpack[AsyncCallOptions],
    ) -> list[Kind]: ...
    @overload
    async def transaction(
        self,
        queries: Iterable[Query[Any]] | Callable[[Transaction], Iterable[Query[Any]]],
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[AsyncCallOptions],
    ) -> list[Any]: ...
    async def transaction(
        self,
        queries: Iterable[Query[Any]] | Callable[[Transaction], Iterable[Query[Any]]],
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
        auth_token: AsyncToken | Unset | None = UNSET,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        fetch_options: FetchOptions | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        consistency: Consistency | None = None,
        cache: Cache | Unset | None = UNSET,
    ) -> list[Any]:
        """Run the queries in one transaction and one round trip; either all take effect or none.

        Raises:
            NeonDbError: the first error, after which nothing has taken effect; `may_have_run` tells the exception.
        """
        options = options_of.changed(
            self._options,
            wanted=Wanted(array_mode, full_results, row, types),
            auth_token=auth_token,
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            fetch_options=fetch_options,
            timeout=timeout,
            retry=retry,
            idempotency_key=idempotency_key,
            consistency=consistency,
            cache=cache,
        )
        wanted = list(queries(Transaction()) if callable(queries) else queries)
        return await self._drive(options, batch_call(options, wanted, await _token(options)))  # type: ignore[no-any-return]

    # ── over a connection ────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def begin(
        self, **options: Unpack["BeginOptions"]
    ) -> "AbstractAsyncContextManager[AsyncInteractiveTransaction[Answer]]": ...
    @overload
    def begin(
        self,
        work: "Callable[[AsyncInteractiveTransaction[Answer]], Awaitable[Kind]]",
        **options: Unpack["BeginOptions"],
    ) -> Awaitable[Kind]: ...
    def begin(
        self,
        work: "Callable[[AsyncInteractiveTransaction[Any]], Awaitable[Any]] | None" = None,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
    ) -> Any:
        """A transaction whose statements depend on each other's answers, over a WebSocket.

        `async with sql.begin() as tx:` commits at the end of the block, and rolls back when it raises; `timeout` is for
        each call in it. `await sql.begin(work)` awaits `work(tx)` and gives what that returns; after a conflict (40001,
        40P01) or a lost connection it is called again, as `retry` says, and `timeout` is for all of it.

        Raises:
            NeonDbError: nothing has taken effect, unless it is an `OutcomeUnknown`, which only COMMIT can be.
            ImportError: the package websockets is missing.
        """
        from sqlhttp import _session_async

        options = options_of.changed(
            self._options,
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            timeout=timeout,
            retry=retry,
        )
        token = partial(_token, options)
        if work is None:
            return _session_async.transaction(options, token)
        return _session_async.worked(options, token, work)

    def session(
        self, *, timeout: float | Unset | None = UNSET, retry: Retry | Unset | None = UNSET
    ) -> "AbstractAsyncContextManager[AsyncSession[Answer]]":
        """One backend for the length of an `async with` block, over a WebSocket: for SET, LOCK, a temporary table.

        Raises:
            ImportError: the package websockets is missing.
        """
        from sqlhttp import _session_async

        options = options_of.changed(self._options, timeout=timeout, retry=retry)
        return _session_async.session(options, partial(_token, options))

    def listen(self, *channels: str, timeout: float | None = None) -> "AsyncListener":
        """Notifications of these channels, over a WebSocket: `async for notification in sql.listen("jobs"): …`.

        The iteration ends after `timeout` seconds without one; None for never.

        Raises:
            ImportError: the package websockets is missing.
        """
        from sqlhttp._listen_async import AsyncListener

        return AsyncListener(self._options, partial(_token, self._options), channels, timeout=timeout)

    # ── clients of this client ───────────────────────────────────────────────────────────────────────────────────────

    @overload
    def with_(self, **options: Unpack[AsyncCallOptions]) -> "AsyncSql[Answer]": ...
    @overload
    def with_(
        self: "AsyncSql[Iterable[Row]]", *, full_results: Literal[True], **options: Unpack[AsyncCallOptions]
    ) -> "AsyncSql[FullResults[Row]]": ...
    @overload
    def with_(
        self: "AsyncSql[Iterable[Row]]", *, full_results: Literal[False], **options: Unpack[AsyncCallOptions]
    ) -> "AsyncSql[list[Row]]": ...
    @overload
    def with_(
        self: "AsyncSql[list[Any]]", *, array_mode: Literal[True], **options: Unpack[AsyncCallOptions]
    ) -> "AsyncSql[list[TupleRow]]": ...
    @overload
    def with_(
        self: "AsyncSql[list[Any]]", *, row: Callable[..., Kind], **options: Unpack[AsyncCallOptions]
    ) -> "AsyncSql[list[Kind]]": ...
    @overload
    def with_(
        self,
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[AsyncCallOptions],
    ) -> "AsyncSql[Any]": ...
    def with_(
        self,
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
        auth_token: AsyncToken | Unset | None = UNSET,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        fetch_options: FetchOptions | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        consistency: Consistency | None = None,
        cache: Cache | Unset | None = UNSET,
    ) -> "AsyncSql[Any]":
        """A client that differs in these options and shares the connections."""
        return AsyncSql(
            options_of.changed(
                self._options,
                wanted=Wanted(array_mode, full_results, row, types),
                auth_token=auth_token,
                isolation_level=isolation_level,
                read_only=read_only,
                deferrable=deferrable,
                fetch_options=fetch_options,
                timeout=timeout,
                retry=retry,
                idempotency_key=idempotency_key,
                consistency=consistency,
                cache=cache,
            )
        )

    def with_deadline(self, limit: Any, *, margin: float = 0.5) -> "AsyncSql[Answer]":
        """A client whose calls all end `margin` seconds before `limit` does: seconds from now, or a Lambda context."""
        return AsyncSql(self._options._replace(deadline=options_of.deadline_from(limit, margin)))

    async def close(self) -> None:
        """Close idle connections. Never needed; the client can be used afterwards and connects again."""
        await self._options.transport.close()

    async def __aenter__(self) -> "AsyncSql[Answer]":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<sqlhttp.AsyncSql {self._options.destination.endpoint.url}>"  # never the connection string

    @property
    def cache(self) -> "AsyncSqlCache":
        """The gateway's result cache: `await sql.cache.invalidate("users")`."""
        return AsyncSqlCache(self)

    async def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        return await self._drive(options, single_call(options, query, await _token(options), positional=positional))

    async def _drive(self, options: ClientOptions, call: Call) -> Any:
        request, endpoint, steps = call
        send = options.transport.send
        return await tried(steps, lambda deadline: send(endpoint, request, deadline))


@overload
def neon_async(url: str | None = None, **options: Unpack[NewAsyncClientOptions]) -> AsyncSql[list[DictRow]]: ...
@overload
def neon_async(
    url: str | None = None, *, full_results: Literal[True], **options: Unpack[NewAsyncClientOptions]
) -> AsyncSql[FullResults[DictRow]]: ...
@overload
def neon_async(
    url: str | None = None,
    *,
    array_mode: Literal[True],
    full_results: Literal[False] = ...,
    **options: Unpack[NewAsyncClientOptions],
) -> AsyncSql[list[TupleRow]]: ...
@overload
def neon_async(
    url: str | None = None,
    *,
    array_mode: Literal[True],
    full_results: Literal[True],
    **options: Unpack[NewAsyncClientOptions],
) -> AsyncSql[FullResults[TupleRow]]: ...
@overload
def neon_async(
    url: str | None = None,
    *,
    row: Callable[..., Kind],
    full_results: Literal[False] = ...,
    **options: Unpack[NewAsyncClientOptions],
) -> AsyncSql[list[Kind]]: ...
@overload
def neon_async(
    url: str | None = None,
    *,
    row: Callable[..., Kind],
    full_results: Literal[True],
    **options: Unpack[NewAsyncClientOptions],
) -> AsyncSql[FullResults[Kind]]: ...
@overload
def neon_async(
    url: str | None = None,
    *,
    array_mode: bool = ...,
    full_results: bool = ...,
    row: Callable[..., Any] | None = ...,
    **options: Unpack[NewAsyncClientOptions],
) -> AsyncSql[Any]: ...
def neon_async(
    url: str | None = None,
    *,
    endpoint: str | None = None,
    auth_token: AsyncToken | None = None,
    array_mode: bool = False,
    full_results: bool = False,
    isolation_level: IsolationLevel | None = None,
    read_only: bool | None = None,
    deferrable: bool | None = None,
    fetch_options: FetchOptions | None = None,
    timeout: float | None = TIMEOUT,
    types: Mapping[int, Decoder] | None = None,
    row: Callable[..., Any] | None = None,
    retry: Retry | None = Retry(),  # noqa: B008  a frozen value
    idempotency_key: str | None = None,
    consistency: Consistency | None = None,
    cache: Cache | Unset | None = UNSET,
    transport: "httpx.AsyncClient | None" = None,
) -> AsyncSql[Any]:
    """A client for the database of `url`, `DATABASE_URL` by default. Nothing is sent until it is used.

    Args:
        url: `postgresql://role:password@host/database`, or the `https://` URL of a gateway.
        endpoint: where requests go; `SQLHTTP_ENDPOINT` by default, else derived from `url`.
        auth_token: a JWT sent as bearer token instead of a password, or a function that gives one at every call.
        array_mode: rows as tuples instead of dicts.
        full_results: `FullResults` with fields, command and row count instead of a list of rows.
        isolation_level, read_only, deferrable: how transactions begin.
        fetch_options: what concerns HTTP alone: more headers, TLS settings.
        timeout: seconds a call may take, all attempts together; None for no limit.
        types: how values of a type are read, by its OID: `{1700: float}`.
        row: what a row becomes: dict, tuple, a class or a function that takes the columns as keyword arguments.
        retry: when another attempt is made; None for never.
        idempotency_key: "auto" gives every call that may write a key, so that a retry cannot carry it out twice.
        consistency: "replica" sends calls that only read to a replica, where the gateway has one; none shows less than
            this client has seen before. "primary" is the default.
        cache: what calls that only read ask of the gateway's result cache, such as `Cache(ttl=60, tags=["users"])`.
        transport: an `httpx.AsyncClient` to send with instead of the connections of this process.

    Raises:
        InterfaceError: there is no URL, or an argument that cannot be used.
    """
    sends: AsyncTransport
    if transport is None:
        context = fetch_options.get("ssl_context") if fetch_options else None
        sends = LOOPS if context is None else LoopTransport(context)
    else:
        sends = AsyncHttpxTransport(transport)
    where = destination(url, endpoint, os.environ)
    options = ClientOptions(
        where,
        sends,
        auth_token=auth_token,
        retry=retry,
        ssl_context=fetch_options.get("ssl_context") if fetch_options else None,
        bookmark=Bookmark(),
    )
    return AsyncSql(
        options_of.changed(
            options,
            wanted=Wanted(array_mode or None, full_results, row, types),
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            fetch_options=options_of.without_tls(fetch_options),
            timeout=timeout,
            idempotency_key=idempotency_key,
            consistency=consistency,
            cache=cache,
        )
    )


async def _token(options: ClientOptions) -> str | None:
    token = options.auth_token
    if token is None or isinstance(token, str):
        return token
    given = token()
    if isinstance(given, Awaitable):
        given = await given
    if given is None or isinstance(given, str):
        return given
    raise InterfaceError(f"auth_token= gave {type(given).__name__}, not a string")
