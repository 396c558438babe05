"""Counts what happened: the observer behind `/metrics`. One call a request, a microsecond or two each.

Names of databases become labels only when their number is bounded and their user was proven, so that a stranger who
makes names up makes no series. How the counts look to Prometheus is said in `observe.families`.
"""

import time

from sqlhttp_gateway.events import (
    Answered,
    Bug,
    Cached,
    Cancelled,
    Closed,
    ConnectionDisplaced,
    ConnectionRefused,
    Event,
    Evicted,
    KeyShown,
    Leaked,
    Opened,
    Reloaded,
    Routed,
    Slow,
    TunnelClosed,
    TunnelOpened,
    TunnelPinned,
    Unsent,
)
from sqlhttp_gateway.observe.counts import Counts, DatabaseCounts
from sqlhttp_gateway.observe.tally import HitTally, Tally

OTHER = "other"
_UNKNOWN = ("", "")
_MAX_SQLSTATE_CLASSES = 64
"""Postgres has some forty; RAISE can make more up."""


class Metrics:
    """An Observer that counts."""

    def __init__(self, max_labels: int, *, before: Counts | None = None) -> None:
        """`max_labels` databases have a label of their own before the rest is called other.

        `before` is what a worker counted whose place this one takes, so that no counter ever falls.
        """
        self._max_labels = max_labels
        self._before = before or Counts()
        self._counts = Counts()
        self._databases = self._counts.databases
        self._named = len(self._before.databases)
        self._tallies: dict[int, Tally] = {}
        """By the identity of their numbers, of which one may be that of many databases."""
        self._hit_tallies: dict[int, HitTally] = {}

    def __call__(self, event: Event) -> None:
        """Count it."""
        if event.__class__ is Answered:
            self._answered(event)  # by far the most frequent, so not left to `match`
            return
        counts = self._counts
        match event:
            case Cached():
                _count(counts.cache, event.outcome)
                counts.cache_saved_seconds += event.saved
                if event.reason:
                    _count(counts.cache_bypasses, event.reason)
            case Evicted():
                counts.cache_evictions += 1
            case Opened():
                counts.opened.observe(event.seconds)
            case Closed():
                _count(counts.closed, event.reason)
            case Cancelled():
                counts.cancels += 1
                counts.cancels_confirmed += event.confirmed
            case ConnectionRefused():
                _count(counts.connections_refused, event.door)
            case ConnectionDisplaced():
                counts.connections_displaced += 1
            case TunnelOpened():
                _count(counts.tunnels_opened, event.door)
            case TunnelClosed():
                _count(counts.tunnels_closed, event.outcome)
            case TunnelPinned():
                _count(counts.pins, event.reason)
            case Routed():
                _count(counts.routed, "\t".join(event))
            case KeyShown():
                counts.keys_shown += 1
                counts.keys_unknown += not event.known
            case Unsent():
                _count(counts.unsent, event.reason)
            case Slow():
                counts.slow += 1
            case Leaked():
                counts.leaked += 1
            case Reloaded():
                _count(counts.reloads, "failed" if event.faults else "ok")
            case Bug():
                counts.bugs += 1

    def tally(self, target: str, database: str) -> Tally:
        """Where plain requests of a proven caller are noted, so that they need not be told one by one."""
        series = self._series((target, database))
        return self._tallies.setdefault(id(series), Tally(series))

    def hit_tally(self, target: str, database: str) -> HitTally:
        """The same for those that the cache answered at once."""
        series = self._series((target, database))
        return self._hit_tallies.setdefault(id(series), HitTally(series, self._counts))

    def counts(self) -> Counts:
        """All that was counted, as a value of its own."""
        for tally in self._tallies.values():
            tally.settle()
        for hits in self._hit_tallies.values():
            hits.settle()
        total = Counts()
        total.add(self._before)
        total.add(self._counts)
        total.cpu_seconds += time.process_time()
        return total

    def _answered(self, event: Answered) -> None:
        key = (event.target, event.database) if event.is_proven else _UNKNOWN
        series = self._databases.get(key) or self._series(key)
        outcome = event.outcome
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.request_seconds.observe(event.seconds)
        series.bytes_in += event.bytes_in
        series.bytes_out += event.bytes_out
        if event.waited:
            series.wait_seconds.observe(event.waited)
        if event.executed:
            series.executed += 1
            series.statements += event.statements
            series.rows += event.rows
            series.parsed += event.parsed
            series.reused += event.reused
            (series.transaction_seconds if event.is_batch else series.query_seconds).observe(event.executed)
        if outcome != "ok":
            self._failed(event)

    def _failed(self, event: Answered) -> None:
        if event.outcome == "postgres":
            classes, name = self._counts.sqlstate_classes, event.sqlstate[:2]
            if name not in classes and len(classes) >= _MAX_SQLSTATE_CLASSES:
                name = OTHER
            classes[name] = classes.get(name, 0) + 1
        elif event.reason:
            refusals = self._counts.refusals
            refusals[event.reason] = refusals.get(event.reason, 0) + 1

    def _series(self, key: tuple[str, str]) -> DatabaseCounts:
        """The numbers of a database."""
        known = self._databases.get(key)
        if known is not None:
            return known
        if key not in self._before.databases and key != _UNKNOWN:
            if self._named >= self._max_labels:
                return self._databases.setdefault((key[0], OTHER), DatabaseCounts())
            self._named += 1
        made = self._databases[key] = DatabaseCounts()
        return made


def _count(numbers: dict[str, int], name: str) -> None:
    numbers[name] = numbers.get(name, 0) + 1
