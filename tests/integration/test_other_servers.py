"""The gateway under ASGI servers that are not its own: less quick, and otherwise the same."""

import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.bench.loads import encode_request
from tests.bench.processes import Process, environment
from tests.support.cluster import Database
from tests.support.fleet import wait_until
from tests.support.gateway import free_port
from tests.support.other_servers import OTHERS, command, is_installed
from tests.support.program import Program
from tests.support.wire_program import WebSocketPipe, WireProgram


@pytest.fixture(params=OTHERS)
def server(request: pytest.FixtureRequest, database: Database) -> Iterator[Process]:
    if not is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    port = free_port()
    variables = environment(DATABASE_URL=database.url)
    with Process(request.param, command(request.param, port), environment=variables, port=port) as running:
        running.wait_until_listening()
        yield running


def test_requests_and_metrics_are_answered_and_what_a_program_leaves_behind_is_cancelled(
    server: Process, database: Database
) -> None:
    endpoint = f"http://127.0.0.1:{server.port}/sql"
    with httpx.Client(timeout=20) as http:
        program = Program(http, endpoint, database.url)
        assert program.rows("SELECT n FROM generate_series(1, 3) AS n") == [[1], [2], [3]]
        assert len(program.rows("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n")) == 20_000
        refused = program.post({"query": "SELECT 1/0"})
        assert (refused.status_code, refused.json()["code"]) == (400, "22012")
        batch = program.post({"queries": [{"query": "SELECT 1 AS a"}, {"query": "SELECT 2 AS a"}]}).json()
        assert [result["rows"] for result in batch["results"]] == [[{"a": 1}], [{"a": 2}]]
        metrics = http.get(endpoint.replace("/sql", "/metrics")).text
        assert "sqlhttp_requests_total{" in metrics
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as leaving:
        body = b'{"query":"SELECT pg_sleep(60), 77","params":[]}'
        leaving.sendall(encode_request(body, {"Neon-Connection-String": database.url}))
        wait_until(database, _SLEEPING)
    wait_until(database, f"SELECT NOT ({_SLEEPING})")


_SLEEPING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60), 77')"


async def test_tunnels_are_open(server: Process, database: Database) -> None:
    url = f"ws://127.0.0.1:{server.port}/v2"
    async with connect(url, compression=None, proxy=None) as tunnel:
        wire = WireProgram(WebSocketPipe(tunnel), database)
        assert (await wire.log_in()).status == "I"
        assert await wire.value("SELECT 'through a tunnel'") == "through a tunnel"


def test_sigterm_ends_it_and_its_connections(server: Process, database: Database) -> None:
    with httpx.Client(timeout=20) as http:
        assert Program(http, f"http://127.0.0.1:{server.port}/sql", database.url).value("SELECT 1") == 1
    assert server.end()
    wait_until(database, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()")  # our own
