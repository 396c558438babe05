"""`neon_async(url)` and what it returns: the same names as `_neon`, to be awaited.

Imported on first use, since it needs httpx. Everything but sending, sleeping and fetching a token is shared.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack, overload

import httpx

from sqlhttp import _options as options_of
from sqlhttp._call import Call, Positional, batch_call, column_of, first_of, one_of, single_call, value_of, wanting
from sqlhttp._endpoint import destination
from sqlhttp._errors import InterfaceError, NeonDbError
from sqlhttp._httpx import LOOPS, AsyncHttpxTransport, AsyncTransport, LoopTransport
from sqlhttp._neon import DictRow, Transaction, TupleRow
from sqlhttp._options import TIMEOUT, UNSET, ClientOptions, FetchOptions, Unset, Wanted
from sqlhttp._request import IsolationLevel
from sqlhttp._response import FullResults
from sqlhttp._retry import Pause, Retry
from sqlhttp._template import Maker, Query, Text, query_of
from sqlhttp._types import Decoder

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

AsyncToken = str | Callable[[], str | Awaitable[str]]
"""An auth token, or a function that is asked for one at every call and may have to be awaited."""


class AsyncCallOptions(TypedDict, total=False):
    """Options of one call beside those that decide the type of its answer."""

    types: Mapping[int, Decoder] | None
    auth_token: AsyncToken | None
    isolation_level: IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    fetch_options: FetchOptions | None
    timeout: float | None
    retry: Retry | None


class NewAsyncClientOptions(AsyncCallOptions, total=False):
    """Options of `neon_async()` beside those that decide the type of its answers."""

    endpoint: str | None
    transport: httpx.AsyncClient | None


class AsyncSql(Maker, Generic[Answer]):
    """Runs SQL over HTTP. `Answer` is what a call returns, `list[dict[str, Any]]` unless the client was told otherwise.

    Safe to keep at module level: it may be used from any number of threads, and after a fork. Closing is optional.
    """

    __slots__ = ("_options",)

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    @overload
    async def __call__(self, text: Text, *params: Any) -> Answer: ...
    @overload
    async def __call__(
        self: "AsyncSql[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]
    ) -> list[Kind]: ...
    @overload
    async def __call__(self, text: Text, *params: Any, row: Callable[..., Any]) -> Any: ...
    async def __call__(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """Run one statement: `sql("select * from users where id = $1", 7)`, or with a template string.

        Raises:
            NeonDbError: its subclasses say what went wrong, `may_have_run` whether the statement may have taken effect.
        """
        query = query_of(text, params)
        return await self._run(self._options, query if row is None else wanting(query, Wanted(row=row)))

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
        )
        return await self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

    @overload
    def q(self, text: Text, *params: Any) -> Query[Answer]: ...
    @overload
    def q(self: "AsyncSql[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]) -> Query[list[Kind]]: ...
    @overload
    def q(
        self,
        text: Text,
        *params: Any,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        types: Mapping[int, Decoder] | None = ...,
    ) -> Query[Any]: ...
    def q(
        self,
        text: Text,
        *params: Any,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
    ) -> Query[Any]:
        """A query to run later, in `transaction`, or to put into another one in place of a parameter."""
        return wanting(query_of(text, params), Wanted(array_mode, full_results, row, types))

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
        )
        wanted = list(queries(Transaction()) if callable(queries) else queries)
        return await self._drive(options, batch_call(options, wanted, await _token(options)))  # type: ignore[no-any-return]

    # ── less than a list of rows ─────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def one(self: "AsyncSql[Iterable[Row]]", text: Text, *params: Any) -> Row: ...
    @overload
    async def one(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind: ...
    async def one(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The only row.

        Raises:
            NoDataFound, TooManyRows: there is none, or another one. The statement has run.
        """
        return one_of(await (self(text, *params) if row is None else self(text, *params, row=row)))

    @overload
    async def first(self: "AsyncSql[Iterable[Row]]", text: Text, *params: Any) -> Row | None: ...
    @overload
    async def first(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind | None: ...
    async def first(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The first row, or None."""
        return first_of(await (self(text, *params) if row is None else self(text, *params, row=row)))

    async def val(self, text: Text, *params: Any) -> Any:
        """The first column of the first row; None without a row."""
        return value_of(await self._run(self._options, query_of(text, params), Positional.ROWS))

    async def col(self, text: Text, *params: Any) -> list[Any]:
        """The first column of every row."""
        return column_of(await self._run(self._options, query_of(text, params), Positional.ROWS))

    async def execute(self, text: Text, *params: Any) -> int | None:
        """How many rows the statement inserted, changed, deleted or selected; None where Postgres counts none."""
        answer = await self._run(self._options, query_of(text, params), Positional.FULL)
        return answer.row_count  # type: ignore[no-any-return]

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

    async def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        return await self._drive(options, single_call(options, query, await _token(options), positional=positional))

    async def _drive(self, options: ClientOptions, call: Call) -> Any:
        request, endpoint, steps = call
        send = options.transport.send
        step = next(steps)
        try:
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    reply = await send(endpoint, request, step.deadline)
                except NeonDbError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            return done.value


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
    options = ClientOptions(where, sends, auth_token=auth_token, timeout=timeout, retry=retry)
    return AsyncSql(
        options_of.changed(
            options,
            wanted=Wanted(array_mode or None, full_results, row, types),
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            fetch_options=options_of.without_tls(fetch_options),
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
