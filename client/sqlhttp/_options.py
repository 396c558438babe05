"""What a client was told, and how a call's own options change it. Values only; nothing is sent from here."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, get_args

from sqlhttp._bookmark import Bookmark
from sqlhttp._cache import Cache
from sqlhttp._endpoint import Destination
from sqlhttp._errors import InterfaceError
from sqlhttp._request import IsolationLevel, TransactionOptions
from sqlhttp._response import Shape
from sqlhttp._retry import Retry
from sqlhttp._types import Decoder

if TYPE_CHECKING:
    from ssl import SSLContext

TIMEOUT = 75.0
"""Seconds a call may take. Above the gateway's own 60 s for a statement, so that its clearer word arrives first."""

MOST_SECONDS = 1e9
"""Of a timeout; three decades, and no system's clock ends before."""

MOST_TOLD = 999_999.0
"""Seconds that `Sqlhttp-Timeout` takes; more than these eleven days are not worth telling."""

Consistency = Literal["primary", "replica"]
"""Which server may answer a call that only reads."""

CONSISTENCIES: tuple[str, ...] = get_args(Consistency)


class Unset(Enum):
    """Stands for an option that was not given, where None means something."""

    UNSET = "unset"


UNSET = Unset.UNSET


class FetchOptions(TypedDict, total=False):
    """What concerns HTTP alone."""

    headers: Mapping[str, str]
    """Sent with every request; one with the name of a header of ours replaces it."""
    ssl_context: "SSLContext"
    """How TLS is done, for instance with a certificate authority of your own."""


class SharedCallOptions(TypedDict, total=False):
    """Options of one call, for both drivers: all but the auth token, and what decides the type of the answer."""

    types: Mapping[int, Decoder] | None
    isolation_level: IsolationLevel | None
    read_only: bool | None
    deferrable: bool | None
    fetch_options: FetchOptions | None
    timeout: float | None
    retry: Retry | None
    idempotency_key: str | None
    consistency: Consistency | None
    cache: Cache | None


class Wanted(NamedTuple):
    """What a single query asks of its rows; None leaves it to the client."""

    array_mode: bool | None = None
    full_results: bool | None = None
    row: Callable[..., Any] | None = None
    types: Mapping[int, Decoder] | None = None


class ClientOptions(NamedTuple):
    """Everything that a call needs but its statements."""

    destination: Destination
    transport: Any
    """A `Transport` of the synchronous or of the asynchronous driver."""
    auth_token: Any = None
    """A string, or a function that gives one; the asynchronous driver also takes one that gives an awaitable."""
    shape: Shape = Shape()
    transaction: TransactionOptions = TransactionOptions()
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float | None = TIMEOUT
    retry: Retry | None = Retry()
    deadline: float | None = None
    """A moment on the monotonic clock at which every call ends, whatever its timeout."""
    ssl_context: "SSLContext | None" = None
    """The caller's own, for WebSockets; that of HTTP is the transport's."""
    idempotency_key: str | None = None
    """Under which the server carries a call out once; "auto" makes one for each call that may write."""
    consistency: Consistency = "primary"
    """Where calls that only read go."""
    cache: Cache | None = None
    """What calls that only read ask of the gateway's result cache."""
    bookmark: Bookmark | None = None
    """What the client has seen; None for one that keeps no bookmark."""
    tunnel: Any = None
    """Makes what carries a `Line` in place of a WebSocket, for tests; the arguments are those of `_tunnel.Tunnel`."""

    def __repr__(self) -> str:
        return f"ClientOptions({self.destination})"  # never the token; a trace that shows variables shows this


def shaped(shape: Shape, wanted: Wanted) -> Shape:
    """The shape with a query's own wishes.

    Raises:
        InterfaceError: rows are asked for as arrays and as something else.
    """
    array_mode, full_results, row, types = wanted
    if array_mode and row is not None and row is not tuple:
        raise InterfaceError("array_mode=True and row= ask for different rows")
    if array_mode is not None:
        shape = shape._replace(row=tuple if array_mode else dict)
    if row is not None:
        if not callable(row):
            raise InterfaceError("row= takes dict, tuple, a class or a function")
        shape = shape._replace(row=row)
    if full_results is not None:
        shape = shape._replace(full_results=full_results)
    if types is not None:
        shape = shape._replace(types={**shape.types, **types} if shape.types else types)
    return shape


def changed(
    options: ClientOptions,
    *,
    wanted: Wanted = Wanted(),  # noqa: B008  a frozen value
    auth_token: Any = UNSET,
    isolation_level: IsolationLevel | None = None,
    read_only: bool | None = None,
    deferrable: bool | None = None,
    fetch_options: FetchOptions | None = None,
    timeout: float | Unset | None = UNSET,
    retry: Retry | Unset | None = UNSET,
    idempotency_key: str | Unset | None = UNSET,
    consistency: Consistency | None = None,
    cache: Cache | Unset | None = UNSET,
) -> ClientOptions:
    """The options with those of one call, or of a derived client."""
    if any(wish is not None for wish in wanted):
        options = options._replace(shape=shaped(options.shape, wanted))
    if auth_token is not UNSET:
        options = options._replace(auth_token=auth_token)
    if isolation_level is not None or read_only is not None or deferrable is not None:
        own = options.transaction
        options = options._replace(
            transaction=TransactionOptions(
                own.isolation_level if isolation_level is None else isolation_level,
                own.read_only if read_only is None else read_only,
                own.deferrable if deferrable is None else deferrable,
            )
        )
    if fetch_options is not None:
        unknown = [key for key in fetch_options if key != "headers"]
        if unknown:
            raise InterfaceError(f"fetch_options takes headers here, not {', '.join(unknown)}")
        options = options._replace(headers=merged_headers(options.headers, fetch_options.get("headers", {}).items()))
    if timeout is not UNSET:
        options = options._replace(timeout=checked_timeout(timeout))
    if retry is not UNSET:
        options = options._replace(retry=retry)
    if idempotency_key is not UNSET:
        options = options._replace(idempotency_key=idempotency_key)
    if consistency is not None:
        if consistency not in CONSISTENCIES:
            raise InterfaceError(f"consistency is one of {', '.join(CONSISTENCIES)}")
        options = options._replace(consistency=consistency)
    if cache is not UNSET:
        if cache is not None and not isinstance(cache, Cache):
            raise InterfaceError("cache= takes a Cache, or None")
        options = options._replace(cache=cache)
    return options


def checked_timeout(timeout: float | None) -> float | None:
    """The seconds, or None for no limit, which is also what more of them mean than a socket can count.

    Raises:
        InterfaceError: it is no number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or timeout != timeout:
        raise InterfaceError(f"timeout= takes seconds, or None for no limit, not {timeout!r}")
    return timeout if timeout < MOST_SECONDS else None


def without_tls(fetch_options: FetchOptions | None) -> FetchOptions | None:
    """What remains of a new client's options once its transport has its TLS settings."""
    if fetch_options is None or "ssl_context" not in fetch_options:
        return fetch_options
    rest = fetch_options.copy()
    del rest["ssl_context"]
    return rest


def merged_headers(
    headers: tuple[tuple[str, str], ...], more: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Both, where the later one of two with the same name stays."""
    merged = {name.lower(): (name, value) for name, value in headers}
    for name, value in more:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InterfaceError("names and values of headers are strings")
        merged[name.lower()] = (name, value)
    return tuple(merged.values())


def deadline_of(options: ClientOptions) -> float | None:
    """The moment at which a call that begins now must be over."""
    if options.timeout is None:
        return options.deadline
    by_timeout = monotonic() + options.timeout
    return by_timeout if options.deadline is None else min(by_timeout, options.deadline)


def timeout_to_tell(options: ClientOptions) -> str | None:
    """Seconds that the gateway may take: a little less than the client has, so that its word, which says what took so
    long, arrives first. None with the client's own default, which is longer than the gateway's limits.
    """
    if options.timeout == TIMEOUT and options.deadline is None:
        return None
    deadline = deadline_of(options)
    if deadline is None:
        return None
    left = deadline - monotonic()
    left -= min(0.1, left / 10)
    return f"{left:.3f}" if 0.001 <= left < MOST_TOLD else None


def deadline_from(limit: Any, margin: float) -> float:
    """The moment that is `margin` seconds before the end of `limit`: seconds, or a Lambda context.

    Raises:
        InterfaceError: `limit` is neither.
    """
    remaining = getattr(limit, "get_remaining_time_in_millis", None)
    if remaining is not None:
        return monotonic() + float(remaining()) / 1000 - margin
    if isinstance(limit, int | float):
        return monotonic() + limit - margin
    raise InterfaceError("with_deadline takes seconds, or a context that has get_remaining_time_in_millis()")
