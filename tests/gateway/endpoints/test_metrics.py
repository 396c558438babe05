import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, GatewayProcess, free_port


def scrape(url: str, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    request = Request(f"{url}/metrics", headers={"Connection": "close", **headers})
    with urlopen(request, timeout=10) as response:
        assert response.headers["content-type"].startswith("text/plain")
        families = text_string_to_metric_families(response.read().decode())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return sum(value for (each, where), value in samples.items() if each == name and where >= set(labels.items()))


def run(url: str, database: Database, query: str = "SELECT 1") -> int:
    """The status of one statement, over a connection of its own, so that any worker may get it."""
    headers = {"Neon-Connection-String": str(database), "Connection": "close"}
    request = Request(f"{url}/sql", json.dumps({"query": query}).encode(), headers)
    try:
        with urlopen(request, timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code


def test_what_requests_did_is_there_at_the_next_scrape(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway()
    for _ in range(3):
        assert run(gateway.url, database) == 200
    assert run(gateway.url, database, "SELECT no_such_column") == 400
    assert run(gateway.url, database.as_role("postgres", "wrong")) == 400
    samples = scrape(gateway.url)
    where = {"target": "default", "database": database.name}
    assert total(samples, "sqlhttp_requests_total", **where, outcome="ok") == 3
    assert total(samples, "sqlhttp_requests_total", **where, outcome="postgres") == 1
    assert total(samples, "sqlhttp_requests_total", outcome="auth", database="") == 1
    assert total(samples, "sqlhttp_refusals_total", reason="password_failed") == 1
    assert total(samples, "sqlhttp_postgres_errors_total", sqlstate_class="42") == 1
    assert total(samples, "sqlhttp_rows_total", **where) == 3
    assert total(samples, "sqlhttp_query_duration_seconds_count", **where) == 4
    assert total(samples, "sqlhttp_acquire_wait_duration_seconds_count", **where) == 4
    assert total(samples, "sqlhttp_statement_cache_hits_total", **where) == 2
    assert total(samples, "sqlhttp_pool_connections", database=database.name) == 1
    assert total(samples, "sqlhttp_leases_leaked_total") == 0
    assert total(samples, "pgbouncer_stats_queries_pooled_total", database=database.name) == 4
    assert total(samples, "pgbouncer_pools_server_idle_connections", database=database.name, user="postgres") == 1
    assert total(samples, "process_resident_memory_bytes") > 10_000_000


def test_program_that_leaves_is_counted_as_cancelled(start_gateway: Callable[..., Gateway], database: Database) -> None:
    gateway = start_gateway()
    program = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    body = json.dumps({"query": "SELECT pg_sleep(60)"})
    program.request("POST", "/sql", body, {"Neon-Connection-String": str(database)})
    until(lambda: total(scrape(gateway.url), "sqlhttp_pool_connections", state="leased", database=database.name) == 1)
    program.close()
    until(lambda: total(scrape(gateway.url), "sqlhttp_requests_total", outcome="cancelled") == 1)
    until(lambda: total(scrape(gateway.url), "sqlhttp_cancels_effective_total") == 1)
    assert total(scrape(gateway.url), "sqlhttp_leases_leaked_total") == 0


def test_database_has_the_pool_mode_that_the_settings_say(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    for settings, mode in (({}, "transaction"), ({"database_pool_mode": {database.name: "session"}}, "session")):
        gateway = start_gateway(tunnel=settings)
        assert run(gateway.url, database) == 200
        found = total(
            scrape(gateway.url), "pgbouncer_databases_current_connections", database=database.name, pool_mode=mode
        )
        assert found == 1


def test_names_of_pgbouncer_are_left_out_when_they_are_not_wanted(start_gateway: Callable[..., Gateway]) -> None:
    samples = scrape(start_gateway(metrics={"pgbouncer": False}).url)
    assert not [name for name, _ in samples if name.startswith("pgbouncer")]
    assert total(samples, "sqlhttp_workers") == 1


def test_scrape_that_came_through_a_proxy_is_refused(gateway: Gateway) -> None:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
    response: HTTPResponse = connection.getresponse()
    assert response.status == 403
    assert json.loads(response.read()) == {"message": "not from this address (admin.allow_from)"}
    connection.close()


def test_any_worker_tells_of_all_and_none_is_forgotten_when_it_dies(postgres: Cluster, database: Database) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"DATABASE_URL": postgres.maintenance.url, "SQLHTTP_POOL__MAX_SIZE": "6"}
    with GatewayProcess("serve", "--workers", "2", "--port", str(port), environment=settings) as process:
        process.wait_until_ready(url)
        requests = 0
        while requests < 20 or total(scrape(url), "sqlhttp_pool_connections", database=database.name) < 2:
            assert run(url, database) == 200
            requests += 1
            assert requests < 1000, "one worker gets them all"
        # Both have told all they know when every one of many connections, spread over both, gets the whole.
        until(lambda: all(answered(url) == requests for _ in range(10)))
        samples = scrape(url)
        assert total(samples, "sqlhttp_workers") == 2
        assert total(samples, "sqlhttp_pool_max_size", database=database.name) == 6
        assert total(samples, "sqlhttp_connections_limit") == 50
        victim = children(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in children(process.pid) and len(children(process.pid)) == 2)
        until(lambda: works(url))
        for _ in range(10):
            assert run(url, database) == 200
        until(lambda: answered(url) == requests + 10)
        assert process.stop() == 0


def answered(url: str) -> float:
    return total(scrape(url), "sqlhttp_requests_total", outcome="ok")


def works(url: str) -> bool:
    with contextlib.suppress(OSError):
        return total(scrape(url), "sqlhttp_workers") == 2
    return False


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
