"""A report as Prometheus's metric families, under the names of `observe.names` and, if wanted, PgBouncer's."""

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sqlhttp_gateway.observe import names
from sqlhttp_gateway.observe.alerts import NAMES as ALERTS
from sqlhttp_gateway.observe.alerts import Severity
from sqlhttp_gateway.observe.counts import BUCKETS, Histogram
from sqlhttp_gateway.observe.metrics import OTHER
from sqlhttp_gateway.observe.names import Metric
from sqlhttp_gateway.observe.report import Report, combined
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.pools.snapshot import PoolSnapshot, ServerSnapshot
from sqlhttp_gateway.pools.view import Role

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
_BOUNDS = [*map(floatToGoString, BUCKETS), "+Inf"]
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Families:
    """Collects values by metric; a metric without a value is not shown."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def put(self, metric: Metric, value: float, *labels: str) -> None:
        """One value, with the values of the metric's labels in their order."""
        self._family(metric).add_metric(labels, value)  # type: ignore[arg-type, call-arg]

    def put_histogram(self, metric: Metric, histogram: Histogram, *labels: str) -> None:
        """One histogram."""
        buckets = list(zip(_BOUNDS, map(float, accumulate(histogram.counts)), strict=True))
        family = self._family(metric)
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, buckets, histogram.sum)

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())

    def _family(self, metric: Metric) -> Family:
        family = self._families.get(metric.name)
        if family is None:
            family = _KINDS[metric.kind](metric.name, metric.meaning, labels=metric.labels)
            self._families[metric.name] = family
        return family


class _Collector(Collector):
    """What prometheus_client's encoders ask for."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def exposition(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """The text of a scrape and its content type: OpenMetrics if `accept` prefers that, else Prometheus's own."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it stumbles over a version that is no number
        encode, content_type = choose_encoder("")
    return encode(_Collector(families)), content_type


def put_report(families: Families, report: Report, *, version: str, max_labels: int) -> None:
    """All that the report says."""
    _put_requests(families, report)
    _put_connections(families, report)
    _put_cache(families, report)
    for pool in bounded(report.pools, max_labels):
        _put_pool(families, pool)
    for server in report.servers:
        _put_server(families, server)
    for target in {pool.target: None for pool in report.pools}:
        is_down = any(pool.is_down for pool in report.pools if pool.target == target)
        families.put(names.TARGET_DOWN, int(is_down), target)
    if report.sample is not None:
        _put_sample(families, report.sample)
        _put_alerts(families, report)
    families.put(names.BUILD, 1, version, platform.python_version())
    families.put(names.START, report.started)
    families.put(names.SETTINGS_TIME, report.settings_at)
    if report.certificate_expires_at:
        families.put(names.CERTIFICATE_EXPIRES, report.certificate_expires_at)
    for outcome in ("ok", "failed"):  # a series that begins with its first 1 has not increased for Prometheus
        families.put(names.RELOADS, report.counts.reloads.get(outcome, 0), outcome)
    families.put(names.WORKERS, report.workers)
    families.put(names.CPU_SECONDS, report.counts.cpu_seconds)
    if report.resident_bytes:
        families.put(names.RESIDENT, report.resident_bytes)
        families.put(names.OPEN_FILES, report.open_files)


def bounded(pools: Iterable[PoolSnapshot], max_labels: int) -> list[PoolSnapshot]:
    """The pools under at most `max_labels` names of databases and of roles; the busiest keep theirs."""
    kept: dict[tuple[str, str, str], PoolSnapshot] = {}
    databases: set[tuple[str, str]] = set()
    roles: set[str] = set()
    for pool in sorted(pools, key=lambda pool: pool.connections + pool.waiting, reverse=True):
        database, role = pool.database, pool.role
        if (pool.target, database) in databases or len(databases) < max_labels:
            databases.add((pool.target, database))
        else:
            database = OTHER
        if role in roles or len(roles) < max_labels:
            roles.add(role)
        else:
            role = OTHER
        key = (pool.target, database, role)
        named = replace(pool, database=database, role=role)
        kept[key] = combined(kept[key], named) if key in kept else named
    return list(kept.values())


def snake(name: str) -> str:
    """`WaitTimeout` as a label: `wait_timeout`."""
    return _WORD.sub("_", name).lower()


def _put_requests(families: Families, report: Report) -> None:
    counts = report.counts
    for (target, database), each in counts.databases.items():
        labels = (target, database)
        for outcome, number in each.outcomes.items():
            families.put(names.REQUESTS, number, *labels, outcome)
        families.put_histogram(names.REQUEST_SECONDS, each.request_seconds, *labels)
        families.put(names.RECEIVED_BYTES, each.bytes_in, *labels)
        families.put(names.SENT_BYTES, each.bytes_out, *labels)
        if not target:
            continue  # what was refused before a target was chosen has waited for nothing and run nothing
        families.put_histogram(names.WAIT_SECONDS, each.wait_seconds, *labels)
        families.put_histogram(names.QUERY_SECONDS, each.query_seconds, *labels)
        families.put_histogram(names.TRANSACTION_SECONDS, each.transaction_seconds, *labels)
        families.put(names.STATEMENTS, each.statements, *labels)
        families.put(names.ROWS, each.rows, *labels)
        families.put(names.REUSED, each.reused, *labels)
        families.put(names.PARSED, each.parsed, *labels)
    for reason, number in counts.refusals.items():
        families.put(names.REFUSALS, number, snake(reason))
    for name, number in counts.sqlstate_classes.items():
        families.put(names.POSTGRES_ERRORS, number, name)
    for reason, number in counts.unsent.items():
        families.put(names.UNSENT, number, reason)
    families.put(names.SLOW, counts.slow)
    families.put(names.BUGS, counts.bugs)


def _put_connections(families: Families, report: Report) -> None:
    counts = report.counts
    families.put(names.OPENED, sum(counts.opened.counts))
    families.put_histogram(names.OPEN_SECONDS, counts.opened)
    for reason, number in counts.closed.items():
        families.put(names.CLOSED, number, reason)
    families.put(names.CANCELS, counts.cancels)
    families.put(names.CANCELS_EFFECTIVE, counts.cancels_confirmed)
    families.put(names.LEAKED, counts.leaked)
    for door, number in report.programs.items():
        families.put(names.PROGRAMS, number, door)
    families.put(names.PROGRAMS_LIMIT, report.programs_limit)
    for door, number in counts.connections_refused.items():
        families.put(names.PROGRAMS_REFUSED, number, door)
    families.put(names.PROGRAMS_DISPLACED, counts.connections_displaced)
    for door, number in counts.tunnels_opened.items():
        families.put(names.TUNNELS_OPENED, number, door)
    families.put(names.TUNNELS_OPEN, report.tunnels)
    for outcome, number in counts.tunnels_closed.items():
        families.put(names.TUNNELS_CLOSED, number, outcome)
    for reason, number in counts.pins.items():
        families.put(names.PINS, number, reason)
    families.put(names.CANCEL_KEYS, counts.keys_shown)
    families.put(names.CANCEL_KEYS_UNKNOWN, counts.keys_unknown)
    for key, number in counts.routed.items():
        families.put(names.ROUTED, number, *key.split("\t"))
    families.put(names.CONNECTIONS, report.connections)
    families.put(names.CONNECTIONS_LIMIT, report.connections_limit)


def _put_cache(families: Families, report: Report) -> None:
    counts = report.counts
    for outcome, number in counts.cache.items():
        families.put(names.CACHE_REQUESTS, number, outcome)
    for reason, number in counts.cache_bypasses.items():
        families.put(names.CACHE_BYPASSES, number, reason)
    families.put(names.CACHE_SAVED, counts.cache_saved_seconds)
    families.put(names.CACHE_EVICTIONS, counts.cache_evictions)
    families.put(names.CACHE_BYTES, report.cache.bytes)
    families.put(names.CACHE_ENTRIES, report.cache.entries)


def _put_pool(families: Families, pool: PoolSnapshot) -> None:
    labels = (pool.target, pool.database, pool.role)
    for state in ("leased", "idle", "returning", "opening"):
        families.put(names.POOL_CONNECTIONS, getattr(pool, state), *labels, state)
    families.put(names.POOL_SIZE, pool.max_size, *labels)
    families.put(names.POOL_WAITING, pool.waiting, *labels)
    families.put(names.POOL_LONGEST_WAIT, pool.longest_wait, *labels)
    families.put(names.POOL_OLDEST_LEASE, pool.oldest_lease, *labels)


def _put_server(families: Families, server: ServerSnapshot) -> None:
    labels = (server.target, server.server)
    families.put(names.SERVER_UP, server.role != Role.DOWN, *labels)
    for role in Role:
        families.put(names.SERVER_ROLE, server.role == role, *labels, role)
    if server.role == Role.REPLICA:
        families.put(names.SERVER_LAG, server.lag, *labels)


def _put_sample(families: Families, sample: Sample) -> None:
    families.put(names.POSTGRES_UP, not sample.error)
    families.put(names.POSTGRES_SAMPLED, sample.at)
    if sample.error:
        return
    families.put(names.POSTGRES_LIMIT, sample.limit)
    families.put(names.POSTGRES_CONNECTIONS, sample.connections)
    for metric, numbers in (
        (names.POSTGRES_STATES, sample.by_state),
        (names.POSTGRES_APPLICATIONS, sample.by_application),
        (names.POSTGRES_WAITING, sample.waiting),
    ):
        for name, number in numbers.items():
            families.put(metric, number, name)
    families.put(names.POSTGRES_IDLE_IN_TRANSACTION, sample.idle_in_transaction)
    families.put(names.POSTGRES_LONG_QUERIES, sample.long_queries)
    families.put(names.POSTGRES_LONGEST_QUERY, sample.longest_query)
    families.put(names.POSTGRES_LONGEST_TRANSACTION, sample.longest_transaction)


def _put_alerts(families: Families, report: Report) -> None:
    firing = {(change.alert.name, change.alert.severity) for change in report.firing}
    for name in ALERTS:
        for severity in Severity:
            families.put(names.ALERT, (name, severity) in firing, name, severity)
