"""Serving: what uvicorn is told, the signals and the drain."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from urllib.request import urlopen

import pytest

from tests.support.cluster import Cluster
from tests.support.gateway import Gateway, GatewayProcess, free_port


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it, and not for ever."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


HOLD = """
import asyncio, asyncpg, sys
async def hold():
    connection = await asyncpg.connect(sys.argv[1], ssl=False)
    async with connection.transaction():
        await connection.execute("SELECT 'twice'")
        await asyncio.sleep(40)
asyncio.run(hold())
"""
"""A program that keeps a transaction open, in a process of its own."""


def suppressed(work: Callable[[], object]) -> None:
    """Run what may end without an answer."""
    with suppress(OSError, ValueError, HTTPException):
        work()


def get(port: int, path: str) -> str:
    """The body of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def post(port: int, dsn: str, query: str) -> tuple[int, dict[str, object]]:
    """One statement, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/sql", json.dumps({"query": query}), {"Neon-Connection-String": dsn})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# ── what uvicorn is told ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_does_not_say_which_server_it_is(gateway: Gateway) -> None:
    with urlopen(f"{gateway.url}/livez") as response:
        assert "server" not in response.headers


def test_an_idle_connection_is_kept_for_the_next_request(gateway: Gateway) -> None:
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("GET", "/livez")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/livez")
    connection.getresponse().read()
    assert connection.sock is first
    connection.close()


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def started(postgres: Cluster, *arguments: str, **environment: str) -> tuple[GatewayProcess, int]:
    port = free_port()
    process = GatewayProcess(
        "serve",
        "--port",
        str(port),
        *arguments,
        environment={"DATABASE_URL": postgres.maintenance.url, **environment},
    )
    process.wait_until_ready(f"http://127.0.0.1:{port}")
    return process, port


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_running_request_finish_and_ends_with_status_0(postgres: Cluster, workers: str) -> None:
    process, port = started(postgres, "--workers", workers)
    with process:
        answers: list[tuple[int, dict[str, object]]] = []
        marker = f"drained with {workers}"
        query = f"SELECT pg_sleep(1), '{marker}' AS said"
        request = threading.Thread(target=lambda: answers.append(post(port, postgres.maintenance.url, query)))
        request.start()
        busy = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{marker}%' AND pid <> pg_backend_pid()"
        until(lambda: postgres.maintenance.psql(busy) == "1\n", "the statement never ran")
        assert process.stop() == 0
        request.join()
        [(status, body)] = answers
        assert status == 200
        assert body["rows"] == [{"pg_sleep": "", "said": marker}]
        assert "Traceback" not in process.output
        with pytest.raises(ConnectionRefusedError):
            post(port, postgres.maintenance.url, "SELECT 1")


def test_a_request_that_outlasts_the_grace_time_is_cancelled(postgres: Cluster) -> None:
    process, port = started(postgres, "--set", "drain.grace=0.3")
    with process:
        query = "SELECT pg_sleep(30), 'too long' AS said"
        ends: list[object] = []

        def ask() -> None:
            try:
                ends.append(post(port, postgres.maintenance.url, query))
            except (OSError, ValueError) as error:
                ends.append(error)

        request = threading.Thread(target=ask)
        request.start()
        busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%too long%' AND pid <> pg_backend_pid()"
        until(lambda: postgres.maintenance.psql(busy) == "1\n", "the statement never ran")
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 20, "and not the 30 s of the statement"
        request.join()
        until(lambda: postgres.maintenance.psql(busy) == "0\n", "the statement still runs")


def test_gateway_without_a_grace_time_ends_without_an_error_when_nothing_runs(postgres: Cluster) -> None:
    process, port = started(postgres, "--set", "drain.grace=0")
    with process:
        assert post(port, postgres.maintenance.url, "SELECT 1")[0] == 200
        assert process.stop() == 0
    assert "timeout graceful shutdown exceeded" not in process.output


def test_within_the_notice_time_readyz_says_no_and_statements_are_still_answered(postgres: Cluster) -> None:
    process, port = started(postgres, "--set", "drain.notice=3")
    with process:
        process.send(signal.SIGTERM)

        def ready() -> int:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
            connection.close()
            return status

        until(lambda: ready() == 503, "it stayed ready")
        assert post(port, postgres.maintenance.url, "SELECT 1 AS one")[0] == 200
        assert process.wait() == 0


def test_a_connection_string_that_cannot_be_used_is_one_message(postgres: Cluster) -> None:
    for workers in ("1", "2"):
        with GatewayProcess(
            *("serve", "--port", "0", "--workers", workers),
            environment={"DATABASE_URL": "postgres://app:secret@db/app?no_such_parameter=1"},
        ) as process:
            assert process.wait() == 2
        assert "no_such_parameter" in process.output
        assert "Traceback" not in process.output
        assert "secret" not in process.output


def test_the_grace_time_counts_once_for_tunnels_and_requests_together(postgres: Cluster) -> None:
    door = free_port()
    process, port = started(postgres, "--set", "drain.grace=3", "--set", f"listen.postgres={door}")
    with process:
        url = postgres.maintenance.url.replace(f":{postgres.port}", f":{door}")
        held = subprocess.Popen([sys.executable, "-c", HOLD, url], stderr=subprocess.DEVNULL)
        request = threading.Thread(
            target=lambda: suppressed(lambda: post(port, postgres.maintenance.url, "SELECT pg_sleep(30), 'once'"))
        )
        request.start()
        busy = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'once|twice' AND pid <> pg_backend_pid()"
        until(lambda: postgres.maintenance.psql(busy) == "2\n", "the statements never ran")
        began = time.monotonic()
        assert process.stop() == 0
        assert 2.9 < time.monotonic() - began < 5.9, "3 s of grace, and not twice that"
        request.join()
        held.kill()
        held.wait()


def test_the_second_sigterm_ends_it_at_once(postgres: Cluster) -> None:
    for workers in ("1", "2"):
        process, port = started(postgres, "--workers", workers, "--set", "drain.notice=60", "--set", "drain.grace=60")
        with process:
            process.send(signal.SIGTERM)
            until(lambda port=port: "draining" in get(port, "/readyz"), "it did not drain")  # type: ignore[misc]
            began = time.monotonic()
            assert process.stop() == 0
            assert time.monotonic() - began < 30, "and not the 120 s that it may take"


def test_answers_ask_to_close_the_connection_once_the_drain_has_begun(postgres: Cluster) -> None:
    process, port = started(postgres, "--set", "drain.notice=30")
    with process:
        kept = HTTPConnection("127.0.0.1", port, timeout=30)
        ask = ("POST", "/sql", json.dumps({"query": "SELECT 1"}), {"Neon-Connection-String": postgres.maintenance.url})
        for _ in range(3):
            kept.request(*ask)
            answer = kept.getresponse()
            answer.read()
            assert answer.getheader("connection") is None
        process.send(signal.SIGTERM)
        until(lambda: "draining" in get(port, "/readyz"), "it did not drain")
        kept.request(*ask)
        answer = kept.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        process.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_on_its_way_when_the_port_closes_is_answered(postgres: Cluster, workers: str) -> None:
    """A balancer that has connected and not sent yet would get a reset for an answer."""
    process, port = started(postgres, "--workers", workers)
    with process:
        ask = ("POST", "/sql", json.dumps({"query": "SELECT 1"}), {"Neon-Connection-String": postgres.maintenance.url})
        waiting = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(8)]
        for each in waiting:
            each.connect()
        process.send(signal.SIGTERM)
        until(lambda: refuses(port), "the port stays open")
        for each in waiting:
            each.request(*ask)
            answer = each.getresponse()
            answer.read()
            assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert process.wait() == 0


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
