"""Serving: the address, the signals, the drain and the workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from urllib.request import urlopen

import pytest

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.serve import address, bind
from sqlhttp_gateway.settings import ListenSettings
from tests.support.cluster import Cluster
from tests.support.gateway import Gateway, GatewayProcess, free_port

SHARES_PORTS = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT spreads load on Linux")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it, and not for ever."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def post(port: int, dsn: str, query: str) -> tuple[int, dict[str, object]]:
    """One statement, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/sql", json.dumps({"query": query}), {"Neon-Connection-String": dsn})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# ── the address ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_in_use_is_said_with_every_way_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            bind(ListenSettings(port=port))
    text = str(refused.value)
    assert f"port {port} is in use" in text
    for way in ("listen.port", "SQLHTTP_LISTEN__PORT", "--port", "make run PORT="):
        assert way in text


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_this_machines_is_said(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.host"):
        bind(ListenSettings(host=host, port=0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on every port")
def test_a_port_that_only_root_may_have_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.port: .*1024"):
        bind(ListenSettings(port=1))


def test_port_0_is_one_that_the_system_chooses() -> None:
    [bound] = bind(ListenSettings(port=0))
    with bound:
        assert address(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert not address(bound).endswith(":0")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_with_brackets() -> None:
    [bound] = bind(ListenSettings(host="::1", port=0))
    with bound:
        assert address(bound).startswith("http://[::1]:")


@SHARES_PORTS
def test_workers_get_a_socket_each_on_one_port_which_a_second_gateway_cannot_join() -> None:
    sockets = bind(ListenSettings(port=0, workers=3))
    try:
        [port] = {bound.getsockname()[1] for bound in sockets}
        assert len({bound.fileno() for bound in sockets}) == 3
        for bound in sockets:
            bound.listen()
        with pytest.raises(ConfigurationError, match="in use"):
            bind(ListenSettings(port=port, workers=3))
    finally:
        for bound in sockets:
            bound.close()


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
        assert time.monotonic() - began < 10
        request.join()
        until(lambda: postgres.maintenance.psql(busy) == "0\n", "the statement still runs")


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


# ── several workers ──────────────────────────────────────────────────────────────────────────────────────────────────


def children(pid: int) -> set[int]:
    output = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(line.split()[0]) for line in output.splitlines() if not line.split()[1].startswith("Z")}


@SHARES_PORTS
def test_a_worker_that_dies_is_replaced_and_all_end_with_their_parent(postgres: Cluster) -> None:
    process, port = started(postgres, "--workers", "2")
    with process:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        victim = min(children(process.pid))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(process.pid) - {victim}) == 2, "the worker was not replaced")
        assert all(post(port, postgres.maintenance.url, "SELECT 1")[0] == 200 for _ in range(8))
        workers = children(process.pid)
        assert process.stop() == 0
        assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


@SHARES_PORTS
def test_workers_whose_parent_was_killed_do_not_keep_the_port(postgres: Cluster) -> None:
    process, port = started(postgres, "--workers", "2")
    with process:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        process.send(signal.SIGKILL)
        process.wait()

    def is_free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(is_free, "somebody still listens")
