import json
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from sqlhttp_gateway.endpoints.status import status_of
from sqlhttp_gateway.observe.sample import Sample
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, GatewayProcess, free_port
from tests.support.reports import full_report, report


def fetch(url: str) -> dict[str, Any]:
    with urlopen(Request(f"{url}/status", headers={"Connection": "close"}), timeout=10) as response:
        assert response.headers["content-type"] == "application/json"
        shown: dict[str, Any] = json.loads(response.read())
        return shown


def test_status_says_how_the_gateway_and_postgres_do() -> None:
    shown = status_of(full_report(), version="1.2.3", state="serving", now=1_700_000_060.0)
    assert (shown["version"], shown["state"], shown["uptime_seconds"]) == ("1.2.3", "serving", 60.0)
    assert shown["connections"] == {"open": 3, "limit": 50}
    assert shown["requests"] == {"auth": 9, "ok": 5, "pool": 4}
    assert shown["pools"][0]["waiting"] == 7
    assert (shown["postgres"]["connections"], shown["postgres"]["limit"]) == (76, 97)
    [alert] = shown["alerts"]
    assert (alert["name"], alert["severity"], alert["since"]) == ("connections", "warning", 90.0)


def test_postgres_that_is_down_is_shown_with_the_reason_and_without_numbers() -> None:
    down = Sample(at=1_700_000_000.0, error="cannot connect")
    shown = status_of(report(sample=down), version="1", state="serving", now=1_700_000_003.0)
    assert shown["postgres"] == {"state": "down", "error": "cannot connect", "sampled_seconds_ago": 3.0}


def test_without_a_watch_nothing_is_said_of_postgres(start_gateway: Callable[..., Gateway]) -> None:
    shown = fetch(start_gateway(watch={"interval": 0}).url)
    assert shown["postgres"] is None
    assert shown["alerts"] == []


def test_alert_shows_when_its_threshold_is_passed_and_no_secret_is_ever_there(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway(
        watch={
            "interval": 0.05,
            "connections_warning": 0.001,
            "webhook_url": "http://127.0.0.1:9/hook-token",
            "webhook_secret": "hook-secret",
        }
    )
    deadline = time.monotonic() + 10
    while not (shown := fetch(gateway.url))["alerts"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert shown["alerts"][0]["name"] == "connections"
    assert shown["postgres"]["state"] == "up"
    text = json.dumps(shown)
    for secret in ("hook-token", "hook-secret", database.url, "postgres:postgres"):
        assert secret not in text


def test_status_is_not_for_strangers(gateway: Gateway) -> None:
    request = Request(f"{gateway.url}/status", headers={"X-Forwarded-For": "203.0.113.9"})
    with pytest.raises(HTTPError) as refused:
        urlopen(request, timeout=10)
    assert refused.value.code == 403
    refused.value.close()


def test_every_worker_shows_what_the_one_that_looks_has_seen(postgres: Cluster) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"DATABASE_URL": postgres.maintenance.url, "SQLHTTP_WATCH__INTERVAL": "0.1"}
    with GatewayProcess("serve", "--workers", "2", "--port", str(port), environment=settings) as process:
        process.wait_until_ready(url)
        deadline = time.monotonic() + 15
        while True:
            answers = [fetch(url) for _ in range(10)]  # over connections that both workers get
            if all(shown["workers"] == 2 and shown["postgres"] for shown in answers):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert {shown["postgres"]["state"] for shown in answers} == {"up"}
        watching = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sqlhttp watch'"
        assert int(postgres.maintenance.psql(watching)) >= 1
        assert process.stop() == 0
