"""What one worker knows at one moment, and what several workers know together. Values only.

Counters of workers are added, whether the worker is alive or not, so that none ever falls; what is true only now,
such as a pool's connections, counts while the report is fresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from sqlhttp_gateway.observe.alerts import Alert, Change, Severity
from sqlhttp_gateway.observe.counts import Counts
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.pools.snapshot import PoolSnapshot, ServerSnapshot

FRESH_FOR = 5.0
"""Seconds; reports come every second, and a worker that died is replaced in about one."""
_SUMS = ("leased", "idle", "returning", "opening", "waiting")


_HOTTEST = 10


@dataclass(frozen=True, slots=True)
class Hot:
    """An answer that the cache gave often. The shape is its statement without the values in it."""

    fingerprint: str
    shape: str
    database: str
    hits: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """What the result cache holds."""

    bytes: int = 0
    entries: int = 0
    hottest: tuple[Hot, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a worker, or of all: `workers` says how many. Connections' limits are those of all together."""

    at: float
    """When it was made, on the machine's monotonic clock."""
    started: float
    """Unix time at which the (oldest) worker started."""
    workers: int
    counts: Counts
    pools: tuple[PoolSnapshot, ...]
    connections: int
    connections_limit: int
    resident_bytes: int
    open_files: int
    settings_at: float = 0.0
    """Unix time at which the settings in effect were read; of all workers, the oldest."""
    certificate_expires_at: float = 0.0
    """Unix time; 0 where there is no certificate."""
    sample: Sample | None = None
    """What the worker that looks at Postgres saw last."""
    firing: tuple[Change, ...] = ()
    """The alerts that are not over."""
    servers: tuple[ServerSnapshot, ...] = ()
    """Those of targets that have several, as the worker that said so last sees them."""
    cache: CacheSnapshot = CacheSnapshot()
    tunnels: int = 0
    """Programs that are connected over the wire."""
    programs: Mapping[str, int] = field(default_factory=dict)
    """Connections of programs, by door."""
    programs_limit: int = 0
    """Most there may be."""


def encode_report(report: Report) -> bytes:
    """As JSON."""
    plain = {each.name: getattr(report, each.name) for each in fields(report)}
    return orjson.dumps(plain | {"counts": report.counts.to_plain()})


def decode_report(data: bytes) -> Report:
    """The opposite of `encode_report`."""
    plain: dict[str, Any] = orjson.loads(data)
    counts = Counts.from_plain(plain.pop("counts"))
    pools = tuple(PoolSnapshot(**pool) for pool in plain.pop("pools"))
    servers = tuple(ServerSnapshot(**server) for server in plain.pop("servers"))
    sample = plain.pop("sample")
    firing = tuple(_decode_change(change) for change in plain.pop("firing"))
    cache = plain.pop("cache")
    hottest = tuple(Hot(**each) for each in cache.pop("hottest"))
    return Report(
        counts=counts,
        pools=pools,
        servers=servers,
        sample=Sample(**sample) if sample else None,
        firing=firing,
        cache=CacheSnapshot(hottest=hottest, **cache),
        **plain,
    )


def _decode_change(plain: dict[str, Any]) -> Change:
    alert = plain.pop("alert")
    return Change(Alert(severity=Severity(alert.pop("severity")), **alert), **plain)


def merged(reports: Sequence[Report], *, now: float) -> Report:
    """All of them as one; there is at least one that is fresh."""
    counts = Counts()
    for report in reports:
        counts.add(report.counts)
    fresh = [report for report in reports if now - report.at < FRESH_FOR]
    looking = max((report for report in fresh if report.sample), key=_sampled_at, default=fresh[0])
    return Report(
        at=max(report.at for report in fresh),
        started=min(report.started for report in fresh),
        workers=len(fresh),
        counts=counts,
        pools=_merged_pools(pool for report in fresh for pool in report.pools),
        connections=sum(report.connections for report in fresh),
        connections_limit=max(report.connections_limit for report in fresh),
        resident_bytes=sum(report.resident_bytes for report in fresh),
        open_files=sum(report.open_files for report in fresh),
        settings_at=min(report.settings_at for report in fresh),
        certificate_expires_at=min(report.certificate_expires_at for report in fresh),
        sample=looking.sample,
        firing=looking.firing,
        servers=max(fresh, key=lambda report: report.at).servers,
        cache=_merged_caches([report.cache for report in fresh]),
        tunnels=sum(report.tunnels for report in fresh),
        programs={door: sum(report.programs.get(door, 0) for report in fresh) for door in fresh[0].programs},
        programs_limit=sum(report.programs_limit for report in fresh),
    )


def _merged_caches(caches: list[CacheSnapshot]) -> CacheSnapshot:
    """Answers are each worker's own, and so are their hits."""
    hottest = sorted((hot for cache in caches for hot in cache.hottest), key=lambda hot: -hot.hits)[:_HOTTEST]
    return CacheSnapshot(sum(cache.bytes for cache in caches), sum(cache.entries for cache in caches), tuple(hottest))


def _sampled_at(report: Report) -> float:
    return report.sample.at if report.sample else 0.0


def _merged_pools(pools: Iterable[PoolSnapshot]) -> tuple[PoolSnapshot, ...]:
    """One for each pool key; its size is that of all workers, also of those that have not used it yet."""
    by_key: dict[tuple[str, str, str], PoolSnapshot] = {}
    for pool in pools:
        key = (pool.target, pool.database, pool.role)
        known = by_key.get(key)
        by_key[key] = pool if known is None else combined(known, pool)
    return tuple(by_key.values())


def combined(one: PoolSnapshot, other: PoolSnapshot) -> PoolSnapshot:
    """The numbers of both under the name of `one`; the size is the larger, the times are the longer ones."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in _SUMS}
    return replace(
        one,
        **sums,
        max_size=max(one.max_size, other.max_size),
        longest_wait=max(one.longest_wait, other.longest_wait),
        oldest_lease=max(one.oldest_lease, other.oldest_lease),
        is_paused=one.is_paused or other.is_paused,
        is_down=one.is_down or other.is_down,
    )
