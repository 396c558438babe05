"""Numbers that only grow: what one worker has counted since it started, as values that can be added and sent.

No labels are decided here and no names: `observe.metrics` does both.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Self

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds: from a statement on loopback to the default of `statement.timeout`."""


class Histogram:
    """Durations in seconds by bucket. `counts` has one entry more than BUCKETS, for what is longer than all."""

    __slots__ = ("counts", "sum")

    def __init__(self, counts: list[int] | None = None, total: float = 0.0) -> None:
        self.counts = counts or [0] * (len(BUCKETS) + 1)
        self.sum = total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.counts == other.counts and self.sum == other.sum

    __hash__ = None  # type: ignore[assignment]  # it changes

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def observe_all(self, values: Iterable[float]) -> None:
        """Many more, each some seconds: sorted, so that each bucket is looked for once and not each value."""
        ordered = sorted(values)
        below = 0
        for number, bound in enumerate(BUCKETS):
            upto = bisect_right(ordered, bound, below)
            self.counts[number] += upto - below
            below = upto
            if below == len(ordered):
                break
        self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)

    def add(self, other: "Histogram") -> None:
        """Those of another one, too."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(slots=True)
class DatabaseCounts:
    """What was done for one database of one target."""

    outcomes: dict[str, int] = field(default_factory=dict)
    statements: int = 0
    executed: int = 0
    """Requests that reached Postgres, each of which is one transaction."""
    parsed: int = 0
    reused: int = 0
    rows: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    request_seconds: Histogram = field(default_factory=Histogram)
    wait_seconds: Histogram = field(default_factory=Histogram)
    query_seconds: Histogram = field(default_factory=Histogram)
    transaction_seconds: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Counts:
    """Everything counted. Keys of `databases` are (target, database), both empty for what named none."""

    databases: dict[tuple[str, str], DatabaseCounts] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    sqlstate_classes: dict[str, int] = field(default_factory=dict)
    unsent: dict[str, int] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    opened: Histogram = field(default_factory=Histogram)
    cancels: int = 0
    cancels_confirmed: int = 0
    connections_refused: dict[str, int] = field(default_factory=dict)
    connections_displaced: int = 0
    tunnels_opened: dict[str, int] = field(default_factory=dict)
    tunnels_closed: dict[str, int] = field(default_factory=dict)
    pins: dict[str, int] = field(default_factory=dict)
    routed: dict[str, int] = field(default_factory=dict)
    """Requests to one of several servers; keys are target, server and reason, with tabs between."""
    keys_shown: int = 0
    keys_unknown: int = 0
    cache: dict[str, int] = field(default_factory=dict)
    """Requests that asked for the cache, by outcome."""
    cache_bypasses: dict[str, int] = field(default_factory=dict)
    cache_saved_seconds: float = 0.0
    cache_evictions: int = 0
    leaked: int = 0
    slow: int = 0
    reloads: dict[str, int] = field(default_factory=dict)
    bugs: int = 0
    cpu_seconds: float = 0.0

    def add(self, other: "Counts") -> None:
        """Those of another worker, too."""
        _add(self, other)

    def to_plain(self) -> dict[str, Any]:
        """The same as lists and dicts that JSON can hold."""
        return _to_plain(self) | {"databases": [[*key, _to_plain(each)] for key, each in self.databases.items()]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """The opposite of `to_plain`."""
        counts: Self = _from_plain(cls, plain)
        counts.databases = {
            (target, database): _from_plain(DatabaseCounts, each) for target, database, each in plain["databases"]
        }
        return counts


def _add(mine: Any, theirs: Any) -> None:
    for each in fields(mine):
        own, other = getattr(mine, each.name), getattr(theirs, each.name)
        if isinstance(own, Histogram):
            own.add(other)
        elif isinstance(own, dict):
            for key, value in other.items():
                if isinstance(value, DatabaseCounts):
                    _add(own.setdefault(key, DatabaseCounts()), value)
                else:
                    own[key] = own.get(key, 0) + value
        else:
            setattr(mine, each.name, own + other)


def _to_plain(counts: Any) -> dict[str, Any]:
    plain = {each.name: getattr(counts, each.name) for each in fields(counts)}
    return {name: [value.counts, value.sum] if isinstance(value, Histogram) else value for name, value in plain.items()}


def _from_plain(kind: Any, plain: dict[str, Any]) -> Any:
    given = {}
    for each in fields(kind):
        value = plain[each.name]
        given[each.name] = Histogram(*value) if each.type in (Histogram, "Histogram") else value
    return kind(**given)
