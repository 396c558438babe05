from prometheus_client.parser import text_string_to_metric_families

from sqlhttp_gateway.observe import pgbouncer
from sqlhttp_gateway.observe.counts import Counts, DatabaseCounts
from sqlhttp_gateway.observe.families import Families, exposition
from sqlhttp_gateway.observe.pgbouncer import put_pgbouncer
from sqlhttp_gateway.observe.report import Report
from tests.support.reports import pool, report

EXPORTERS = {
    "pgbouncer": ("up", "version_info", "databases", "users", "pools"),
    "pgbouncer_pools": (
        "client_active_connections",
        "client_waiting_connections",
        "client_maxwait_seconds",
        "server_active_connections",
        "server_idle_connections",
        "server_used_connections",
        "server_testing_connections",
        "server_login_connections",
    ),
    "pgbouncer_databases": (
        "pool_size",
        "reserve_pool",
        "max_connections",
        "current_connections",
        "paused",
        "disabled",
    ),
}
TOTALS = (
    "queries_pooled_total",
    "queries_duration_seconds_total",
    "received_bytes_total",
    "sent_bytes_total",
    "client_wait_seconds_total",
    "sql_transactions_pooled_total",
    "server_in_transaction_seconds_total",
)


def scraped(what: Report) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = Families()
    modes = {"main": "session"}
    put_pgbouncer(
        families, what, version="1.2.3", max_labels=50, pool_mode=lambda database: modes.get(database, "transaction")
    )
    text, _ = exposition(families, "")
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    read = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(read) == len(samples), "a series is there twice"
    return read


def busy() -> Report:
    counts = Counts()
    main = counts.databases["default", "main"] = DatabaseCounts(
        statements=12, executed=10, parsed=4, reused=8, bytes_in=100, bytes_out=900
    )
    main.query_seconds.observe(1.5)
    main.transaction_seconds.observe(2.0)
    main.wait_seconds.observe(0.25)
    counts.databases["", ""] = DatabaseCounts(outcomes={"auth": 3})
    counts.databases["replica", "main"] = DatabaseCounts(statements=1)
    return report(
        counts=counts,
        pools=(
            pool(waiting=4, longest_wait=0.7, returning=1, opening=2),
            pool(role="reader", leased=0),
            pool(target="replica", host="db2.internal"),
        ),
    )


def test_every_name_that_dashboards_for_pgbouncer_read_is_there() -> None:
    shown = {name for name, _ in scraped(busy())}
    assert shown >= {f"{prefix}_{name}" for prefix, each in EXPORTERS.items() for name in each}
    assert shown >= {f"pgbouncer_{word}_{name}" for word in ("stats", "stats_totals") for name in TOTALS}
    assert shown == {metric.name for metric in pgbouncer.ALL}


def test_pool_is_labelled_by_database_and_user_as_the_exporter_does() -> None:
    samples = scraped(busy())
    labels = (("database", "main"), ("user", "app"))
    assert samples["pgbouncer_pools_client_active_connections", labels] == 2
    assert samples["pgbouncer_pools_client_waiting_connections", labels] == 4
    assert samples["pgbouncer_pools_client_maxwait_seconds", labels] == 0.7
    assert samples["pgbouncer_pools_server_idle_connections", labels] == 1
    assert samples["pgbouncer_pools_server_testing_connections", labels] == 1
    assert samples["pgbouncer_pools_server_login_connections", labels] == 2
    assert (("database", "replica/main"), ("user", "app")) in {where for _, where in samples}


def test_totals_are_those_of_the_database() -> None:
    samples = scraped(busy())
    main = (("database", "main"),)
    for prefix in ("pgbouncer_stats", "pgbouncer_stats_totals"):
        assert samples[f"{prefix}_queries_pooled_total", main] == 12
        assert samples[f"{prefix}_sql_transactions_pooled_total", main] == 10
        assert samples[f"{prefix}_queries_duration_seconds_total", main] == 3.5
        assert samples[f"{prefix}_client_wait_seconds_total", main] == 0.25
        assert samples[f"{prefix}_server_parses_total", main] == 4
        assert samples[f"{prefix}_binds_total", main] == 12
        assert samples[f"{prefix}_queries_pooled_total", (("database", "replica/main"),)] == 1
    assert ("pgbouncer_stats_queries_pooled_total", (("database", ""),)) not in samples


def test_database_has_its_address_and_the_sum_of_its_pools() -> None:
    samples = scraped(busy())
    [(labels, value)] = [
        (dict(labels), value)
        for (name, labels), value in samples.items()
        if name == "pgbouncer_databases_current_connections" and dict(labels)["name"] == "main"
    ]
    assert labels == {
        "name": "main",
        "host": "db.internal",
        "port": "5432",
        "database": "main",
        "force_user": "",
        "pool_mode": "session",
    }
    assert value == 6 + 1
