"""`neon(url)` and what it returns: a callable that runs SQL over HTTP, synchronously.

`_async` has the same names for asyncio. What both mean by them is in `_call`; this file sends, sleeps and asks for a
token, and tells an editor which answer comes of which call.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import sleep
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack, overload

from sqlhttp import _options as options_of
from sqlhttp._call import Call, Positional, batch_call, column_of, first_of, one_of, single_call, value_of, wanting
from sqlhttp._endpoint import destination
from sqlhttp._errors import InterfaceError, NeonDbError
from sqlhttp._options import TIMEOUT, UNSET, ClientOptions, FetchOptions, Unset, Wanted
from sqlhttp._request import IsolationLevel
from sqlhttp._response import FullResults
from sqlhttp._retry import Pause, Retry
from sqlhttp._template import Maker, Query, Text, query_of
from sqlhttp._transport import SocketTransport, Transport
from sqlhttp._types import Decoder

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

DictRow = dict[str, Any]
TupleRow = tuple[Any, ...]
Token = str | Callable[[], str]
"""An auth token, or a function that is asked for one at every call."""


class CallOptions(TypedDict, total=False):
    """Options of one call beside those that decide the type of its answer."""

    types: Mapping[int, Decoder] | None
    auth_token: Token | None
    isolation_level: IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    fetch_options: FetchOptions | None
    timeout: float | None
    retry: Retry | None


class NewClientOptions(CallOptions, total=False):
    """Options of `neon()` beside those that decide the type of its answers."""

    endpoint: str | None
    transport: "httpx.Client | None"


class Transaction(Maker):
    """Makes the queries of a transaction that is given as a function: `lambda tx: [tx("…"), tx.query("…", […])]`."""

    __slots__ = ()

    def __call__(self, text: Text, *params: Any) -> Query[Any]:
        """A query to run in the transaction."""
        return query_of(text, params)

    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
    ) -> Query[Any]:
        """A query to run in the transaction, with wishes of its own for its rows."""
        return wanting(query_of(text, params), Wanted(array_mode, full_results, row, types))


class Sql(Maker, Generic[Answer]):
    """Runs SQL over HTTP. `Answer` is what a call returns, `list[dict[str, Any]]` unless the client was told otherwise.

    Safe to keep at module level: it may be used from any number of threads, and after a fork. Closing is optional.
    """

    __slots__ = ("_options",)

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    @overload
    def __call__(self, text: Text, *params: Any) -> Answer: ...
    @overload
    def __call__(self: "Sql[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]) -> list[Kind]: ...
    @overload
    def __call__(self, text: Text, *params: Any, row: Callable[..., Any]) -> Any: ...
    def __call__(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """Run one statement: `sql("select * from users where id = $1", 7)`, or with a template string.

        Raises:
            NeonDbError: its subclasses say what went wrong, `may_have_run` whether the statement may have taken effect.
        """
        query = query_of(text, params)
        return self._run(self._options, query if row is None else wanting(query, Wanted(row=row)))

    @overload
    def query(self, text: Text, params: Sequence[Any] = (), **options: Unpack[CallOptions]) -> Answer: ...
    @overload
    def query(
        self: "Sql[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[True],
        **options: Unpack[CallOptions],
    ) -> FullResults[Row]: ...
    @overload
    def query(
        self: "Sql[Iterable[Row]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        full_results: Literal[False],
        **options: Unpack[CallOptions],
    ) -> list[Row]: ...
    @overload
    def query(
        self: "Sql[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[False] = ...,
        **options: Unpack[CallOptions],
    ) -> list[TupleRow]: ...
    @overload
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        array_mode: Literal[True],
        full_results: Literal[True],
        **options: Unpack[CallOptions],
    ) -> FullResults[TupleRow]: ...
    @overload
    def query(
        self: "Sql[list[Any]]",
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[False] = ...,
        **options: Unpack[CallOptions],
    ) -> list[Kind]: ...
    @overload
    def query(
        self,
        text: Text,
        params: Sequence[Any] = (),
        *,
        row: Callable[..., Kind],
        full_results: Literal[True],
        **options: Unpack[CallOptions],
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
        **options: Unpack[CallOptions],
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
        auth_token: Token | Unset | None = UNSET,
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
        return self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

    @overload
    def q(self, text: Text, *params: Any) -> Query[Answer]: ...
    @overload
    def q(self: "Sql[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]) -> Query[list[Kind]]: ...
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
    def transaction(
        self,
        queries: Iterable[Query[Kind]] | Callable[[Transaction], Iterable[Query[Kind]]],
        **options: Unpack[CallOptions],
    ) -> list[Kind]: ...
    @overload
    def transaction(
        self,
        queries: Iterable[Query[Any]] | Callable[[Transaction], Iterable[Query[Any]]],
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[CallOptions],
    ) -> list[Any]: ...
    def transaction(
        self,
        queries: Iterable[Query[Any]] | Callable[[Transaction], Iterable[Query[Any]]],
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
        auth_token: Token | Unset | None = UNSET,
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
        return self._drive(options, batch_call(options, wanted, _token(options)))  # type: ignore[no-any-return]

    # ── less than a list of rows ─────────────────────────────────────────────────────────────────────────────────────

    @overload
    def one(self: "Sql[Iterable[Row]]", text: Text, *params: Any) -> Row: ...
    @overload
    def one(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind: ...
    def one(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The only row.

        Raises:
            NoDataFound, TooManyRows: there is none, or another one. The statement has run.
        """
        return one_of(self(text, *params) if row is None else self(text, *params, row=row))

    @overload
    def first(self: "Sql[Iterable[Row]]", text: Text, *params: Any) -> Row | None: ...
    @overload
    def first(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind | None: ...
    def first(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The first row, or None."""
        return first_of(self(text, *params) if row is None else self(text, *params, row=row))

    def val(self, text: Text, *params: Any) -> Any:
        """The first column of the first row; None without a row."""
        return value_of(self._run(self._options, query_of(text, params), Positional.ROWS))

    def col(self, text: Text, *params: Any) -> list[Any]:
        """The first column of every row."""
        return column_of(self._run(self._options, query_of(text, params), Positional.ROWS))

    def execute(self, text: Text, *params: Any) -> int | None:
        """How many rows the statement inserted, changed, deleted or selected; None where Postgres counts none."""
        return self._run(self._options, query_of(text, params), Positional.FULL).row_count  # type: ignore[no-any-return]

    # ── clients of this client ───────────────────────────────────────────────────────────────────────────────────────

    @overload
    def with_(self, **options: Unpack[CallOptions]) -> "Sql[Answer]": ...
    @overload
    def with_(
        self: "Sql[Iterable[Row]]", *, full_results: Literal[True], **options: Unpack[CallOptions]
    ) -> "Sql[FullResults[Row]]": ...
    @overload
    def with_(
        self: "Sql[Iterable[Row]]", *, full_results: Literal[False], **options: Unpack[CallOptions]
    ) -> "Sql[list[Row]]": ...
    @overload
    def with_(
        self: "Sql[list[Any]]", *, array_mode: Literal[True], **options: Unpack[CallOptions]
    ) -> "Sql[list[TupleRow]]": ...
    @overload
    def with_(
        self: "Sql[list[Any]]", *, row: Callable[..., Kind], **options: Unpack[CallOptions]
    ) -> "Sql[list[Kind]]": ...
    @overload
    def with_(
        self,
        *,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        **options: Unpack[CallOptions],
    ) -> "Sql[Any]": ...
    def with_(
        self,
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
        auth_token: Token | Unset | None = UNSET,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        fetch_options: FetchOptions | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
    ) -> "Sql[Any]":
        """A client that differs in these options and shares the connections."""
        return Sql(
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

    def with_deadline(self, limit: Any, *, margin: float = 0.5) -> "Sql[Answer]":
        """A client whose calls all end `margin` seconds before `limit` does: seconds from now, or a Lambda context."""
        return Sql(self._options._replace(deadline=options_of.deadline_from(limit, margin)))

    def close(self) -> None:
        """Close idle connections. Never needed; the client can be used afterwards and connects again."""
        self._options.transport.close()

    def __enter__(self) -> "Sql[Answer]":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sqlhttp.Sql {self._options.destination.endpoint.url}>"  # never the connection string

    def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        return self._drive(options, single_call(options, query, _token(options), positional=positional))

    def _drive(self, options: ClientOptions, call: Call) -> Any:
        request, endpoint, steps = call
        send = options.transport.send
        step = next(steps)
        try:
            while True:
                if isinstance(step, Pause):
                    sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    reply = send(endpoint, request, step.deadline)
                except NeonDbError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            return done.value


@overload
def neon(url: str | None = None, **options: Unpack[NewClientOptions]) -> Sql[list[DictRow]]: ...
@overload
def neon(
    url: str | None = None, *, full_results: Literal[True], **options: Unpack[NewClientOptions]
) -> Sql[FullResults[DictRow]]: ...
@overload
def neon(
    url: str | None = None,
    *,
    array_mode: Literal[True],
    full_results: Literal[False] = ...,
    **options: Unpack[NewClientOptions],
) -> Sql[list[TupleRow]]: ...
@overload
def neon(
    url: str | None = None,
    *,
    array_mode: Literal[True],
    full_results: Literal[True],
    **options: Unpack[NewClientOptions],
) -> Sql[FullResults[TupleRow]]: ...
@overload
def neon(
    url: str | None = None,
    *,
    row: Callable[..., Kind],
    full_results: Literal[False] = ...,
    **options: Unpack[NewClientOptions],
) -> Sql[list[Kind]]: ...
@overload
def neon(
    url: str | None = None,
    *,
    row: Callable[..., Kind],
    full_results: Literal[True],
    **options: Unpack[NewClientOptions],
) -> Sql[FullResults[Kind]]: ...
@overload
def neon(
    url: str | None = None,
    *,
    array_mode: bool = ...,
    full_results: bool = ...,
    row: Callable[..., Any] | None = ...,
    **options: Unpack[NewClientOptions],
) -> Sql[Any]: ...
def neon(
    url: str | None = None,
    *,
    endpoint: str | None = None,
    auth_token: Token | None = None,
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
    transport: "httpx.Client | None" = None,
) -> Sql[Any]:
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
        transport: an `httpx.Client` to send with instead of the connections of this process.

    Raises:
        InterfaceError: there is no URL, or an argument that cannot be used.
    """
    if transport is None:
        sends: Transport = SocketTransport(fetch_options.get("ssl_context") if fetch_options else None)
    else:
        from sqlhttp._httpx import HttpxTransport

        sends = HttpxTransport(transport)
    where = destination(url, endpoint, os.environ)
    options = ClientOptions(where, sends, auth_token=auth_token, timeout=timeout, retry=retry)
    return Sql(
        options_of.changed(
            options,
            wanted=Wanted(array_mode or None, full_results, row, types),
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            fetch_options=options_of.without_tls(fetch_options),
        )
    )


def _token(options: ClientOptions) -> str | None:
    token = options.auth_token
    if token is None or isinstance(token, str):
        return token
    given = token()
    if given is None or isinstance(given, str):
        return given
    if hasattr(given, "close"):
        given.close()  # a coroutine that nobody will await
    raise InterfaceError(f"auth_token= gave {type(given).__name__}, not a string; with neon_async it may be awaitable")
