import pytest
from prometheus_client.parser import text_string_to_metric_families

from sqlhttp_gateway.observe.families import Families, bounded, exposition, put_report, snake
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.observe.sample import Sample
from tests.support.reports import full_report, pool, report


def scraped(what: Report, *, max_labels: int = 50) -> dict[tuple[str, tuple[str, ...]], float]:
    """Sample values by name and sorted label values, as Prometheus would read them."""
    families = Families()
    put_report(families, what, version="1.2.3", max_labels=max_labels)
    text, _ = exposition(families, "")
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    read = {(sample.name, tuple(sorted(sample.labels.values()))): sample.value for sample in samples}
    assert len(read) == len(samples), "a series is there twice"
    return read


def test_counters_and_gauges_have_the_report_s_numbers() -> None:
    samples = scraped(full_report())
    assert samples["sqlhttp_requests_total", ("default", "main", "ok")] == 5
    assert samples["sqlhttp_requests_total", ("", "", "auth")] == 9
    assert samples["sqlhttp_refusals_total", ("wait_timeout",)] == 4
    assert samples["sqlhttp_postgres_errors_total", ("42",)] == 1
    assert samples["sqlhttp_statement_cache_hits_total", ("default", "main")] == 2
    assert samples["sqlhttp_cancels_total", ()] == 3
    assert samples["sqlhttp_leases_leaked_total", ()] == 0
    assert samples["sqlhttp_pool_waiting", ("app", "default", "main")] == 7
    assert samples["sqlhttp_pool_connections", ("app", "default", "leased", "main")] == 2
    assert samples["sqlhttp_pool_longest_wait_seconds", ("app", "default", "main")] == 1.5
    assert samples["sqlhttp_connections_limit", ()] == 50
    assert ("sqlhttp_build_info", ("1.2.3",)) not in samples
    assert any(name == "sqlhttp_build_info" and "1.2.3" in labels for name, labels in samples)


def test_histogram_is_cumulative_and_ends_at_infinity_with_its_count() -> None:
    samples = scraped(full_report())
    buckets = {
        labels[0]: value
        for (name, labels), value in samples.items()
        if name == "sqlhttp_acquire_wait_duration_seconds_bucket"
    }
    assert (buckets["0.0005"], buckets["0.001"], buckets["0.0025"], buckets["60.0"], buckets["+Inf"]) == (1, 1, 3, 3, 4)
    assert samples["sqlhttp_acquire_wait_duration_seconds_count", ("default", "main")] == 4


def test_roles_and_databases_beyond_the_limit_are_added_up_and_the_busiest_keep_their_names() -> None:
    pools = [pool(database=f"db{number}", role=f"role{number}", leased=number) for number in range(1, 6)]
    kept = bounded(pools, 2)
    assert [(each.database, each.role, each.leased) for each in kept] == [
        ("db5", "role5", 5),
        ("db4", "role4", 4),
        ("other", "other", 6),
    ]


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "text/plain; version=x", ";;,="])
def test_reader_who_asks_for_what_there_is_not_gets_the_plain_text(accept: str) -> None:
    text, content_type = exposition(Families(), accept)
    assert (text, content_type.partition(";")[0]) == (b"", "text/plain")


def test_reader_who_asks_for_openmetrics_gets_it() -> None:
    families = Families()
    put_report(families, full_report(), version="1.2.3", max_labels=50)
    text, content_type = exposition(families, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_names_of_errors_become_words() -> None:
    assert [snake(name) for name in ("WaitTimeout", "QueueFull", "BadRequest")] == [
        "wait_timeout",
        "queue_full",
        "bad_request",
    ]


def test_postgres_is_told_of_as_the_watch_saw_it() -> None:
    samples = scraped(full_report())
    assert samples["sqlhttp_postgres_up", ()] == 1
    assert samples["sqlhttp_postgres_connections", ()] == 76
    assert samples["sqlhttp_postgres_connections_limit", ()] == 97
    assert samples["sqlhttp_postgres_sessions", ("active",)] == 70
    assert samples["sqlhttp_postgres_waiting_sessions", ("Lock",)] == 3
    assert samples["sqlhttp_alert_firing", ("connections", "warning")] == 1
    assert samples["sqlhttp_alert_firing", ("connections", "critical")] == 0
    assert samples["sqlhttp_alert_firing", ("long_query", "warning")] == 0


def test_postgres_that_could_not_be_asked_is_down_and_has_no_numbers() -> None:
    samples = scraped(report(sample=Sample(at=1.0, error="no connection")))
    assert samples["sqlhttp_postgres_up", ()] == 0
    assert ("sqlhttp_postgres_connections", ()) not in samples
    assert not [name for name, _ in scraped(report()) if name.startswith("sqlhttp_postgres_up")]
