"""What is worth waking somebody: a sample and the gateway's own report against thresholds. Pure, the clock included.

The same thresholds are in deploy/prometheus for those who alert there; a test compares the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlhttp_gateway.model import place
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.pools.snapshot import PoolSnapshot
from sqlhttp_gateway.settings import WatchSettings

RESOLVED_AFTER = 30.0
"""Seconds that an alert's reason must be gone before it counts as over, so that a value on the edge makes no noise."""
NAMES = ("database", "connections", "idle_in_transaction", "waiting", "long_query", "pool_wait", "target_down")
"""Every alert there is."""


class Severity(StrEnum):
    """How bad."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something is above its threshold. `value` and `threshold` are in the unit that `text` says them in."""

    name: str
    severity: Severity
    value: float
    threshold: float
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """An alert began, became another severity, or is over. `since` is Unix time."""

    alert: Alert
    is_over: bool
    since: float


def alerts_of(sample: Sample | None, pools: Iterable[PoolSnapshot], settings: WatchSettings) -> list[Alert]:
    """What is too much now, each alert at most once."""
    pools = list(pools)
    found = [*_of_targets(pools), *_of_pools(pools, settings)]
    if sample is None:
        return found
    if sample.error:
        text = f"Postgres could not be asked how it does: {sample.error}"
        return [*found, Alert("database", Severity.CRITICAL, 0, 1, text)]
    return [*found, *_of_connections(sample, settings), *_of_sessions(sample, settings)]


def _of_connections(sample: Sample, settings: WatchSettings) -> list[Alert]:
    if sample.limit <= 0:
        return []
    share = sample.connections / sample.limit
    if share < settings.connections_warning:
        return []
    is_critical = share >= settings.connections_critical
    severity = Severity.CRITICAL if is_critical else Severity.WARNING
    threshold = settings.connections_critical if is_critical else settings.connections_warning
    most = ", ".join(f"{name} {number}" for name, number in list(sample.by_application.items())[:3])
    text = (
        f"{sample.connections} of {sample.limit} connections are taken ({share:.0%}): max_connections is "
        f"{sample.max_connections}, of which {sample.reserved} are reserved. Most are of {most}."
    )
    return [Alert("connections", severity, round(share, 4), threshold, text)]


def _of_sessions(sample: Sample, settings: WatchSettings) -> list[Alert]:
    found = []
    idle = sample.idle_in_transaction
    if idle > settings.idle_in_transaction:
        text = f"{idle} sessions are idle in transaction, the longest for {sample.longest_idle_in_transaction:.0f} s."
        found.append(Alert("idle_in_transaction", Severity.WARNING, idle, settings.idle_in_transaction, text))
    waiting = sum(sample.waiting.values())
    if waiting > settings.waiting:
        what = ", ".join(f"{name} {number}" for name, number in sorted(sample.waiting.items()))
        text = f"{waiting} sessions wait for something other than their client: {what}."
        found.append(Alert("waiting", Severity.WARNING, waiting, settings.waiting, text))
    if sample.longest_query > settings.long_query:
        text = (
            f"{sample.long_queries} queries run longer than {settings.long_query:g} s, "
            f"the longest for {sample.longest_query:.0f} s."
        )
        found.append(Alert("long_query", Severity.WARNING, round(sample.longest_query, 1), settings.long_query, text))
    return found


def _of_targets(pools: Iterable[PoolSnapshot]) -> list[Alert]:
    down = sorted({f"{pool.target} ({place(pool.host, pool.port)})" for pool in pools if pool.is_down})
    if not down:
        return []
    text = f"What needs a new connection is refused, since it cannot be opened: target {', '.join(down)}."
    return [Alert("target_down", Severity.CRITICAL, len(down), 0, text)]


def _of_pools(pools: Iterable[PoolSnapshot], settings: WatchSettings) -> list[Alert]:
    worst = max(pools, key=lambda pool: pool.longest_wait, default=None)
    if worst is None or worst.longest_wait <= settings.pool_wait:
        return []
    text = (
        f"{worst.waiting} requests wait for a connection to database {worst.database} as role {worst.role}, the first "
        f"for {worst.longest_wait:.1f} s: {worst.leased} of {worst.max_size} connections are in use."
    )
    return [Alert("pool_wait", Severity.WARNING, round(worst.longest_wait, 3), settings.pool_wait, text)]


@dataclass(slots=True)
class _Firing:
    alert: Alert
    since: float
    seen: float


class Alarms:
    """Which alerts are firing, from one look to the next."""

    def __init__(self) -> None:
        self._firing: dict[str, _Firing] = {}

    @property
    def firing(self) -> tuple[Change, ...]:
        """Those that are not over, in the order in which they began."""
        return tuple(Change(each.alert, is_over=False, since=each.since) for each in self._firing.values())

    def update(self, alerts: Iterable[Alert], *, now: float) -> list[Change]:
        """What is new at `now`, in Unix time: told once each, however long it lasts."""
        changes = []
        for alert in alerts:
            known = self._firing.get(alert.name)
            if known is None:
                self._firing[alert.name] = _Firing(alert, now, now)
                changes.append(Change(alert, is_over=False, since=now))
                continue
            has_changed = alert.severity != known.alert.severity
            known.alert, known.seen = alert, now
            if has_changed:
                changes.append(Change(alert, is_over=False, since=known.since))
        for name, each in list(self._firing.items()):
            each.seen = min(each.seen, now)  # a clock that was set back would have it fire for as long again
            if now - each.seen >= RESOLVED_AFTER:
                del self._firing[name]
                changes.append(Change(each.alert, is_over=True, since=each.since))
        return changes
