"""`neon(url)` and what it returns: a callable that runs SQL over HTTP, synchronously.

`_async` has the same names for asyncio. What both mean by them is in `_call`; this file sends, sleeps and asks for a
token, and tells an editor which answer comes of which call.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from sqlhttp import _options as options_of
from sqlhttp._bookmark import Bookmark
from sqlhttp._cache import Cache
from sqlhttp._call import Call, Positional, batch_call, invalidate_call, single_call, wanting
from sqlhttp._endpoint import destination
from sqlhttp._errors import InterfaceError
from sqlhttp._options import TIMEOUT, UNSET, ClientOptions, Consistency, FetchOptions, SharedCallOptions, Unset, Wanted
from sqlhttp._request import IsolationLevel
from sqlhttp._response import FullResults
from sqlhttp._retry import Retry
from sqlhttp._runs import DictRow, Runs, TupleRow, tried
from sqlhttp._template import Maker, Query, Text, query_of
from sqlhttp._transport import SocketTransport, Transport
from sqlhttp._types import Decoder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import httpx

    from sqlhttp._listen import Listener
    from sqlhttp._session import BeginOptions, InteractiveTransaction, Session

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

Token = str | Callable[[], str]
"""An auth token, or a function that is asked for one at every call."""


class CallOptions(SharedCallOptions, total=False):
    """Options of one call beside those that decide the type of its answer."""

    auth_token: Token | None


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


class SqlCache:
    """The gateway's result cache, as far as it is this client's."""

    __slots__ = ("_sql",)

    def __init__(self, sql: "Sql[Any]") -> None:
        self._sql = sql

    def invalidate(
        self, *tags: str, relations: Sequence[str] = (), all: bool = False, everywhere: bool = False
    ) -> None:
        """End the answers with one of these tags, or that read one of these relations; or all of the database.

        When it returns, nobody is given any of them. `everywhere` is for the gateway's own role.

        Raises:
            NeonDbError: the gateway refused.
        """
        sql = self._sql
        options = sql._options
        call = invalidate_call(options, _token(options), tags, relations=relations, all=all, everywhere=everywhere)
        sql._drive(options, call)


class Sql(Runs[Answer]):
    """Runs SQL over HTTP. `Answer` is what a call returns, `list[dict[str, Any]]` unless the client was told otherwise.

    Safe to keep at module level: it may be used from any number of threads, and after a fork. Closing is optional.
    """

    __slots__ = ()

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
        return self._run(options, wanting(query_of(text, params), Wanted(array_mode, full_results, row, types)))

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
        return self._drive(options, batch_call(options, wanted, _token(options)))  # type: ignore[no-any-return]

    # ── over a connection ────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def begin(self, **options: Unpack["BeginOptions"]) -> "AbstractContextManager[InteractiveTransaction[Answer]]": ...
    @overload
    def begin(
        self, work: "Callable[[InteractiveTransaction[Answer]], Kind]", **options: Unpack["BeginOptions"]
    ) -> Kind: ...
    def begin(
        self,
        work: "Callable[[InteractiveTransaction[Any]], Any] | None" = None,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
    ) -> Any:
        """A transaction whose statements depend on each other's answers, over a WebSocket.

        `with sql.begin() as tx:` commits at the end of the block, and rolls back when it raises; `timeout` is for each
        call in it. `sql.begin(work)` calls `work(tx)` and gives what that returns; after a conflict (40001, 40P01) or
        a lost connection it is called again, as `retry` says, and `timeout` is for all of it.

        Raises:
            NeonDbError: nothing has taken effect, unless it is an `OutcomeUnknown`, which only COMMIT can be.
            ImportError: the package websockets is missing.
        """
        from sqlhttp import _session

        options = options_of.changed(
            self._options,
            isolation_level=isolation_level,
            read_only=read_only,
            deferrable=deferrable,
            timeout=timeout,
            retry=retry,
        )
        token = _token(options)
        return _session.transaction(options, token) if work is None else _session.worked(options, token, work)

    def session(
        self, *, timeout: float | Unset | None = UNSET, retry: Retry | Unset | None = UNSET
    ) -> "AbstractContextManager[Session[Answer]]":
        """One backend for the length of a `with` block, over a WebSocket: what SET, LOCK or a temporary table need.

        Raises:
            ImportError: the package websockets is missing.
        """
        from sqlhttp import _session

        options = options_of.changed(self._options, timeout=timeout, retry=retry)
        return _session.session(options, _token(options))

    def listen(self, *channels: str, timeout: float | None = None) -> "Listener":
        """Notifications of these channels, over a WebSocket: `for notification in sql.listen("jobs"): …`.

        The iteration ends after `timeout` seconds without one; None for never.

        Raises:
            ImportError: the package websockets is missing.
        """
        from sqlhttp._listen import Listener

        return Listener(self._options, _token(self._options), channels, timeout=timeout)

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
        idempotency_key: str | Unset | None = UNSET,
        consistency: Consistency | None = None,
        cache: Cache | Unset | None = UNSET,
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
                idempotency_key=idempotency_key,
                consistency=consistency,
                cache=cache,
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

    @property
    def cache(self) -> "SqlCache":
        """The gateway's result cache: `sql.cache.invalidate("users")`."""
        return SqlCache(self)

    def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        return self._drive(options, single_call(options, query, _token(options), positional=positional))

    def _drive(self, options: ClientOptions, call: Call) -> Any:
        request, endpoint, steps = call
        send = options.transport.send
        return tried(steps, lambda deadline: send(endpoint, request, deadline))


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
    idempotency_key: str | None = None,
    consistency: Consistency | None = None,
    cache: Cache | Unset | None = UNSET,
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
        idempotency_key: "auto" gives every call that may write a key, so that a retry cannot carry it out twice.
        consistency: "replica" sends calls that only read to a replica, where the gateway has one; none shows less than
            this client has seen before. "primary" is the default.
        cache: what calls that only read ask of the gateway's result cache, such as `Cache(ttl=60, tags=["users"])`.
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
    options = ClientOptions(
        where,
        sends,
        auth_token=auth_token,
        retry=retry,
        ssl_context=fetch_options.get("ssl_context") if fetch_options else None,
        bookmark=Bookmark(),
    )
    return Sql(
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
