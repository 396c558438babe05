"""The same report under the names of PgBouncer's Prometheus exporter, so that dashboards and alerts made for it work.

Names and labels are those of prometheus-community/pgbouncer_exporter. It has called its counters `pgbouncer_stats_…`
and, since it reads SHOW STATS_TOTALS, `pgbouncer_stats_totals_…`: both are given. Only what the gateway has a number
for is shown; where PgBouncer's word means a connection of a client, here it is a request.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlhttp_gateway.observe.counts import DatabaseCounts
from sqlhttp_gateway.observe.families import Families, bounded
from sqlhttp_gateway.observe.names import Metric
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.pools.snapshot import PoolSnapshot
from sqlhttp_gateway.pools.targets import DEFAULT

UP = Metric("pgbouncer_up", "gauge", (), "Always 1: the gateway answers the scrape.")
VERSION = Metric("pgbouncer_version_info", "gauge", ("version",), "Always 1; the label says that this is sqlhttp.")
DATABASES = Metric("pgbouncer_databases", "gauge", (), "Databases with connections.")
USERS = Metric("pgbouncer_users", "gauge", (), "Roles with connections.")
POOLS = Metric("pgbouncer_pools", "gauge", (), "Pools with connections.")
USED_CLIENTS = Metric("pgbouncer_used_clients", "gauge", (), "Requests that run or wait.")
USED_SERVERS = Metric("pgbouncer_used_servers", "gauge", (), "Connections in use.")
FREE_SERVERS = Metric("pgbouncer_free_servers", "gauge", (), "Connections that may still be opened.")


@dataclass(frozen=True, slots=True)
class _OfPool:
    metric: Metric
    value: Callable[[PoolSnapshot], float]


@dataclass(frozen=True, slots=True)
class _OfDatabase:
    metrics: tuple[Metric, Metric]
    value: Callable[[DatabaseCounts], float]


def _of_pool(name: str, meaning: str, value: Callable[[PoolSnapshot], float]) -> _OfPool:
    return _OfPool(Metric(f"pgbouncer_pools_{name}", "gauge", ("database", "user"), meaning), value)


def _of_database(name: str, meaning: str, value: Callable[[DatabaseCounts], float]) -> _OfDatabase:
    old = Metric(f"pgbouncer_stats_{name}", "counter", ("database",), meaning)
    return _OfDatabase((old, Metric(f"pgbouncer_stats_totals_{name}", "counter", ("database",), meaning)), value)


_POOL = (
    _of_pool("client_active_connections", "Requests that have a connection.", lambda pool: pool.leased),
    _of_pool("client_waiting_connections", "Requests that wait for a connection.", lambda pool: pool.waiting),
    _of_pool("client_maxwait_seconds", "How long the first of those has waited.", lambda pool: pool.longest_wait),
    _of_pool("server_active_connections", "Connections in use.", lambda pool: pool.leased),
    _of_pool("server_idle_connections", "Connections that wait to be used.", lambda pool: pool.idle),
    _of_pool("server_used_connections", "Always 0: no connection waits for a check.", lambda pool: 0),
    _of_pool("server_testing_connections", "Connections that are being made clean.", lambda pool: pool.returning),
    _of_pool("server_login_connections", "Connections that are being opened.", lambda pool: pool.opening),
)

_STATS = (
    _of_database("queries_pooled_total", "Statements run.", lambda counts: counts.statements),
    _of_database("queries_total", "Statements run.", lambda counts: counts.statements),
    _of_database(
        "queries_duration_seconds_total",
        "Seconds that statements ran.",
        lambda counts: counts.query_seconds.sum + counts.transaction_seconds.sum,
    ),
    _of_database("received_bytes_total", "Bytes of request bodies.", lambda counts: counts.bytes_in),
    _of_database("sent_bytes_total", "Bytes of answers.", lambda counts: counts.bytes_out),
    _of_database("client_wait_seconds_total", "Seconds that requests waited.", lambda counts: counts.wait_seconds.sum),
    _of_database("sql_transactions_pooled_total", "Transactions run.", lambda counts: counts.executed),
    _of_database(
        "server_in_transaction_seconds_total",
        "Seconds that connections were in use.",
        lambda counts: counts.query_seconds.sum + counts.transaction_seconds.sum,
    ),
    _of_database("client_parses_total", "Statements asked for.", lambda counts: counts.statements),
    _of_database("server_parses_total", "Statements that Postgres parsed.", lambda counts: counts.parsed),
    _of_database("binds_total", "Statements bound.", lambda counts: counts.parsed + counts.reused),
)

_DATABASE_LABELS = ("name", "host", "port", "database", "force_user", "pool_mode")
POOL_SIZE = Metric("pgbouncer_databases_pool_size", "gauge", _DATABASE_LABELS, "Most connections of one pool.")
RESERVE_POOL = Metric("pgbouncer_databases_reserve_pool", "gauge", _DATABASE_LABELS, "Always 0: there is none.")
MAX_CONNECTIONS = Metric(
    "pgbouncer_databases_max_connections", "gauge", _DATABASE_LABELS, "Most connections over all pools."
)
CURRENT_CONNECTIONS = Metric(
    "pgbouncer_databases_current_connections", "gauge", _DATABASE_LABELS, "Connections to the database."
)
PAUSED = Metric("pgbouncer_databases_paused", "gauge", _DATABASE_LABELS, "1 while the database is paused.")
DISABLED = Metric("pgbouncer_databases_disabled", "gauge", _DATABASE_LABELS, "Always 0: none can be.")


def put_pgbouncer(
    families: Families, report: Report, *, version: str, max_labels: int, pool_mode: Callable[[str], str]
) -> None:
    """The report as PgBouncer's exporter would tell it; `pool_mode` is what the settings say of a database."""
    pools = bounded(report.pools, max_labels)
    families.put(UP, 1)
    families.put(VERSION, 1, f"sqlhttp {version}")
    _put_lists(families, report, pools)
    for pool in pools:
        for each in _POOL:
            families.put(each.metric, each.value(pool), _alias(pool.target, pool.database), pool.role)
    for (target, database), counts in report.counts.databases.items():
        if target:
            for column in _STATS:
                for metric in column.metrics:
                    families.put(metric, column.value(counts), _alias(target, database))
    _put_databases(families, report, pools, pool_mode)


def _alias(target: str, database: str) -> str:
    """PgBouncer knows no targets: the name under which a database of one is listed."""
    return database if target == DEFAULT else f"{target}/{database}"


def _put_lists(families: Families, report: Report, pools: list[PoolSnapshot]) -> None:
    leased = sum(pool.leased for pool in pools)
    families.put(DATABASES, len({(pool.target, pool.database) for pool in pools}))
    families.put(USERS, len({pool.role for pool in pools}))
    families.put(POOLS, len(pools))
    families.put(USED_CLIENTS, leased + sum(pool.waiting for pool in pools))
    families.put(USED_SERVERS, leased)
    families.put(FREE_SERVERS, max(0, report.connections_limit - report.connections))


def _put_databases(
    families: Families, report: Report, pools: list[PoolSnapshot], pool_mode: Callable[[str], str]
) -> None:
    by_database: dict[tuple[str, str], list[PoolSnapshot]] = {}
    for pool in pools:
        by_database.setdefault((pool.target, pool.database), []).append(pool)
    for (target, database), members in by_database.items():
        first = members[0]
        labels = (_alias(target, database), first.host, str(first.port), database, "", pool_mode(database))
        families.put(POOL_SIZE, first.max_size, *labels)
        families.put(RESERVE_POOL, 0, *labels)
        families.put(MAX_CONNECTIONS, report.connections_limit, *labels)
        families.put(CURRENT_CONNECTIONS, sum(pool.connections for pool in members), *labels)
        families.put(PAUSED, int(any(pool.is_paused for pool in members)), *labels)
        families.put(DISABLED, 0, *labels)


ALL = (
    *(UP, VERSION, DATABASES, USERS, POOLS, USED_CLIENTS, USED_SERVERS, FREE_SERVERS),
    *(each.metric for each in _POOL),
    *(metric for each in _STATS for metric in each.metrics),
    *(POOL_SIZE, RESERVE_POOL, MAX_CONNECTIONS, CURRENT_CONNECTIONS, PAUSED, DISABLED),
)
"""Every metric of this file."""
