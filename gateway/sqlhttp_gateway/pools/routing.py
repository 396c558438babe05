"""Which server of a target gets a request. Pure: a view, the wish, and the load of each server in; a choice out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sqlhttp_gateway.neon.hosts import Wanted
from sqlhttp_gateway.pools.view import Role, Server, View

_ALIKE = 2.0
"""Servers that answer a look within this factor of the quickest, or five milliseconds, are equally quick: a busy
machine answers that much later by chance, and another region is farther away."""
_NEGLIGIBLE = 0.005


class Reason(StrEnum):
    """Why a request went where it went; the label of a metric."""

    WRITE = "write"
    """It may write."""
    READ = "read"
    """It only reads, and a replica has it."""
    WANTED = "wanted"
    """It only reads, and target_session_attrs or its isolation level asks for the primary."""
    NO_REPLICA = "no_replica"
    """It only reads, and no replica was fit to have it: the primary has it."""
    BEHIND = "behind"
    """It only reads, and no replica reached its bookmark in time: the primary has it."""


@dataclass(slots=True)
class Load:
    """What the gateway itself knows of a server's work."""

    outstanding: int = 0
    chosen: int = 0
    """The number of the last choice that fell on it: among equals it is the turn of the smallest."""
    failures: int = 0
    """In a row."""
    out_until: float = 0.0
    """When it may be tried again."""


class Choice(NamedTuple):
    """A server by name, and why; no name: there is none now that would do."""

    server: str | None
    reason: Reason


def choose(
    view: View,
    loads: Mapping[str, Load],
    *,
    wanted: Wanted = Wanted.ANY,
    reads: bool,
    max_lag: float,
    now: float,
    without: frozenset[str] = frozenset(),
) -> Choice:
    """The server for a request that only `reads`, or may write.

    `max_lag` is in seconds, 0 for any; `now` is the clock of `out_until`; `without` names servers that this request
    has tried in vain.
    """
    primary = view.primary
    if wanted in {Wanted.READ_ONLY, Wanted.STANDBY}:
        return Choice(_best(view, loads, max_lag=max_lag, now=now, without=without), Reason.READ)
    if wanted is Wanted.PREFER_STANDBY or (reads and wanted is Wanted.ANY):
        found = _best(view, loads, max_lag=max_lag, now=now, without=without)
        if found is not None:
            return Choice(found, Reason.READ)
        return Choice(primary.name if primary else None, Reason.NO_REPLICA)
    return Choice(primary.name if primary else None, Reason.WANTED if reads else Reason.WRITE)


def _best(view: View, loads: Mapping[str, Load], *, max_lag: float, now: float, without: frozenset[str]) -> str | None:
    fit = [
        server
        for server in view.servers
        if server.role is Role.REPLICA
        and server.name not in without
        and (not max_lag or server.lag <= max_lag)
        and loads[server.name].out_until <= now
    ]
    if not fit:
        return None
    quickest = min(server.round_trip for server in fit)
    return min(fit, key=lambda server: _cost(server, loads[server.name], quickest)).name


def _cost(server: Server, load: Load, quickest: float) -> tuple[float, int]:
    """How long a request is likely to wait there, in units of the quickest server's work; then whose turn it is."""
    alike = server.round_trip - quickest <= _NEGLIGIBLE or server.round_trip <= quickest * _ALIKE
    weight = 1.0 if alike else server.round_trip / quickest
    return (load.outstanding + 1) * weight, load.chosen
