"""Reports of workers, for whatever reads them."""

from typing import Any

from sqlhttp_gateway.observe.alerts import Alert, Change, Severity
from sqlhttp_gateway.observe.counts import Counts, DatabaseCounts
from sqlhttp_gateway.observe.report import CacheSnapshot, Hot, Report
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.pools.snapshot import PoolSnapshot, ServerSnapshot


def pool(**changes: Any) -> PoolSnapshot:
    """A pool with two connections in use and one idle, but for `changes`."""
    usual: dict[str, Any] = {
        "target": "default",
        "host": "db.internal",
        "port": 5432,
        "database": "main",
        "role": "app",
        "max_size": 10,
        "leased": 2,
        "idle": 1,
        "returning": 0,
        "opening": 0,
        "waiting": 0,
        "longest_wait": 0.0,
        "oldest_lease": 0.5,
    }
    return PoolSnapshot(**usual | changes)


def server(name: str, **changes: Any) -> ServerSnapshot:
    """A server of the default target that is down, but for `changes`."""
    usual: dict[str, Any] = {"target": "default", "server": name, "host": "db.internal", "port": 5432}
    return ServerSnapshot(**usual | {"role": "down", "lag": 0.0, "reason": ""} | changes)


def report(**changes: Any) -> Report:
    """A worker's report at the moment 100, with one pool, but for `changes`."""
    usual: dict[str, Any] = {
        "at": 100.0,
        "started": 1_700_000_000.0,
        "workers": 1,
        "counts": Counts(),
        "pools": (pool(),),
        "connections": 3,
        "connections_limit": 50,
        "resident_bytes": 40_000_000,
        "open_files": 20,
    }
    return Report(**usual | changes)


def sample(**changes: Any) -> Sample:
    """What a quiet Postgres with the usual max_connections says, but for `changes`."""
    usual: dict[str, Any] = {
        "at": 1_700_000_000.0,
        "max_connections": 100,
        "reserved": 3,
        "by_state": {"active": 1, "idle": 3},
        "by_application": {"sqlhttp": 3, "psql": 1},
    }
    return Sample(**usual | changes)


def full_report() -> Report:
    """A report in which every metric has a value."""
    counts = Counts(refusals={"WaitTimeout": 4}, sqlstate_classes={"42": 1}, closed={"idle": 2}, cancels=3)
    counts.connections_refused, counts.connections_displaced = {"http": 3}, 5
    counts.tunnels_opened, counts.tunnels_closed, counts.pins = {"tcp": 2}, {"ok": 1}, {"listen": 1}
    counts.cache, counts.cache_bypasses, counts.cache_saved_seconds = {"hit": 3, "bypass": 1}, {"time": 1}, 0.5
    counts.databases["", ""] = DatabaseCounts(outcomes={"auth": 9})
    main = counts.databases["default", "main"] = DatabaseCounts(outcomes={"ok": 5, "pool": 4}, statements=5, reused=2)
    for seconds in (0.0004, 0.002, 0.002, 70.0):
        main.wait_seconds.observe(seconds)
    counts.reloads, counts.unsent = {"ok": 1}, {"send_timeout": 1}
    counts.routed = {"default\tdefault\twrite": 3, "default\tdefault-2\tread": 8}
    return report(
        counts=counts,
        certificate_expires_at=1_800_000_000.0,
        tunnels=4,
        programs={"http": 7, "websocket": 1, "tcp": 3},
        programs_limit=10_000,
        pools=(pool(waiting=7, longest_wait=1.5),),
        servers=(server("default", role="primary"), server("default-2", role="replica", lag=0.25)),
        cache=CacheSnapshot(1000, 2, (Hot("f00d", "select ?", "main", 3, 500),)),
        sample=sample(by_state={"active": 70, "idle": 5}, waiting={"Lock": 3}),
        firing=(Change(Alert("connections", Severity.WARNING, 0.78, 0.7, "76 of 97."), is_over=False, since=90.0),),
    )
