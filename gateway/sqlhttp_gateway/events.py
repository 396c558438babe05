"""What happened, as values. Whoever wants to count, log or trace it is an `Observer`.

The core tells each event once and never asks who listens, so that pools and codecs carry no logger and no counter.
Durations are seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Answered(NamedTuple):  # made for every request, at half the price of a frozen dataclass
    """One request is over. `outcome` is "ok", the error's kind, or "cancelled" when the program left before its answer.

    `target`, `database` and `role` are empty until known, and the program's mere claim until `is_proven`. `reason` is
    the error's class. `waited` is from asking for a connection to having it, or to giving up; `executed` is the time
    on it, in which `parsed` statements were parsed and `reused` were found prepared. `connected` is the part of
    `waited` in which a connection was opened; `encoded` is the time that the answer's JSON took. `traceparent` is that
    of the request, if it had one of the standard's form.
    """

    request_id: str
    status: int
    outcome: str
    sqlstate: str
    database: str
    role: str
    statements: int
    rows: int
    bytes_out: int
    seconds: float
    waited: float
    message: str = ""
    target: str = ""
    is_proven: bool = False
    is_batch: bool = False
    reason: str = ""
    executed: float = 0.0
    parsed: int = 0
    reused: int = 0
    bytes_in: int = 0
    connected: float = 0.0
    encoded: float = 0.0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A program did not take its answer and was cut off. `reason` is send_timeout or deadline; `peer` an address."""

    reason: str
    message: str
    request_id: str
    peer: str


class Cached(NamedTuple):
    """A request asked for the cache. `outcome` is hit, stale, miss, collapsed or bypass, with its `reason`.

    `saved` is how many seconds the answer once took to fetch, if it was not fetched for this request.
    """

    target: str
    database: str
    outcome: str
    reason: str = ""
    saved: float = 0.0


@dataclass(frozen=True, slots=True)
class Evicted:
    """The cache gave up an answer to make room."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend connection was opened."""

    pool: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A backend connection was closed, and why: idle, lifetime, evicted, replaced, lost, broken, unclean, drain,
    pause, reconnect."""

    pool: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Requests for a database, or with "" for all, have to wait from now on, or no longer."""

    database: str
    is_paused: bool


@dataclass(frozen=True, slots=True)
class TargetChanged:
    """A server cannot be reached, and why; or can again, after so many seconds."""

    target: str
    is_up: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A running exchange was cancelled; `confirmed` is whether Postgres's answer to it came in time."""

    pool: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Slow:
    """A request's statements took long. Their texts may hold values, so that no observer may show them as they are."""

    request_id: str
    target: str
    database: str
    role: str
    seconds: float
    waited: float
    texts: tuple[str, ...]
    traceparent: str


@dataclass(frozen=True, slots=True)
class Audited:
    """A request whose statements were read is over, told only where an audit is kept.

    `tenant` is the key's or token's, else the role. `rows` has a number for each statement that gave its result; a
    batch that failed has none. The texts may hold values.
    """

    request_id: str
    tenant: str
    target: str
    database: str
    role: str
    is_proven: bool
    outcome: str
    sqlstate: str
    seconds: float
    texts: tuple[str, ...]
    rows: tuple[int, ...]
    traceparent: str


@dataclass(frozen=True, slots=True)
class Leaked:
    """A lease was forgotten by its holder without being released; the gateway gave the connection back itself."""

    pool: str


@dataclass(frozen=True, slots=True)
class AlertChanged:
    """Something crossed its threshold, or went back. `state` is firing or over."""

    name: str
    severity: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """A program could not connect, for all places were taken and nobody made room. `door` is http or tcp."""

    door: str


@dataclass(frozen=True, slots=True)
class ConnectionDisplaced:
    """An HTTP connection that was `idle` for so many seconds was closed to make room for another."""

    idle: float


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """A program has connected over a WebSocket or the TCP door."""

    door: str


@dataclass(frozen=True, slots=True)
class TunnelClosed:
    """A program's tunnel is over. `outcome` is "ok" or the kind of the error that ended it; `seconds` its life."""

    door: str
    outcome: str
    sqlstate: str
    database: str
    role: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class TunnelPinned:
    """A backend has to stay with one program, and why: one of the pins of `wire.effects`."""

    pool: str
    reason: str


class Routed(NamedTuple):
    """A request went to one of several servers of its target; `reason` is one of `pools.routing.Reason`."""

    target: str
    server: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeyShown:
    """A CancelRequest came; `known` is whether its key is that of an open tunnel."""

    known: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The settings were read again. `faults` is why nothing of them was taken up, a line each, and else empty; `live`
    are the names of those that changed, `restart` of those that changed and need a restart."""

    faults: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateLoaded:
    """The certificate in use is good until `expires_at`, in Unix time. With a `fault` it is the old one, as the new one
    cannot be used."""

    expires_at: float
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Bug:
    """Something that is nobody's fault but ours; it goes to the log only, and there without what its text may quote."""

    request_id: str
    error: BaseException


Event = (
    Answered
    | Unsent
    | Cached
    | Evicted
    | Opened
    | Closed
    | Paused
    | TargetChanged
    | Cancelled
    | Slow
    | Audited
    | Leaked
    | AlertChanged
    | ConnectionRefused
    | ConnectionDisplaced
    | TunnelOpened
    | TunnelClosed
    | TunnelPinned
    | Routed
    | KeyShown
    | Reloaded
    | CertificateLoaded
    | Bug
)
Observer = Callable[[Event], None]


def unobserved(event: Event) -> None:
    """Tell nobody."""


def each(*observers: Observer) -> Observer:
    """Tell all of them, in this order."""
    if len(observers) == 1:
        return observers[0]

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observe
