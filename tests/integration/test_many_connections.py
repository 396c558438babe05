"""More connections than there may be, at every door of a whole gateway."""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import httpx
import psycopg
import pytest
from psycopg.errors import OperationalError

from sqlhttp_gateway.endpoints import connections
from tests.integration.test_listener import CERTIFICATE
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.program import program_of

StartGateway = Callable[..., Gateway]


@contextlib.contextmanager
def sockets(gateway: Gateway, count: int) -> Iterator[list[socket.socket]]:
    """Connections on which nothing is said."""
    with contextlib.ExitStack() as opened:
        yield [
            opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=30))
            for _ in range(count)
        ]


def scraped(gateway: Gateway, name: str, labels: str = "") -> float:
    found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", httpx.get(f"{gateway.url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found is not None else 0.0


def test_idle_sockets_beyond_all_places_cost_nothing_to_those_who_ask(
    start_gateway: StartGateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LEAST_IDLE", 0.0)
    gateway = start_gateway(listen={"port": 0, "max_connections": 50})
    with sockets(gateway, 300), program_of(gateway, database) as program:
        for _ in range(5):
            assert program.value("SELECT 1") == 1
        for _ in range(5):
            with program_of(gateway, database) as another:
                assert another.value("SELECT 1") == 1
        assert scraped(gateway, "sqlhttp_program_connections_limit") == 50
        assert 45 <= scraped(gateway, "sqlhttp_program_connections", '{door="http"}') <= 50
        assert scraped(gateway, "sqlhttp_program_connections_displaced_total") >= 250
        assert scraped(gateway, "sqlhttp_program_connections_refused_total", '{door="http"}') == 0


def test_where_none_is_idle_one_more_is_refused_at_once_over_http_and_the_tcp_door(
    start_gateway: StartGateway, database: Database
) -> None:
    port = free_port()
    gateway = start_gateway(
        listen={"port": 0, "postgres": port, "max_connections": 3, "tls_certificate": str(CERTIFICATE), "https": False},
        request={"head_timeout": 60},
    )
    door = f"host=127.0.0.1 port={port} dbname={database.name} user={database.role} password={database.password}"
    with contextlib.ExitStack() as held:
        for _ in range(2):
            half = held.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=30))
            half.sendall(b"POST /sql HTTP/1.1\r\n")
        tunnel = held.enter_context(psycopg.connect(door))
        assert tunnel.execute("SELECT 1").fetchone() == (1,)
        answer = httpx.post(gateway.sql, json={"query": "SELECT 1"})
        assert (answer.status_code, answer.headers["retry-after"], answer.headers["sqlhttp-ran"]) == (503, "1", "no")
        assert answer.json()["code"] == "53300"
        assert "3 programs are connected and none of them is idle (listen.max_connections)" in answer.json()["message"]
        for mode in ("disable", "prefer", "require"):
            with pytest.raises(OperationalError) as caught:
                psycopg.connect(f"{door} sslmode={mode}")
            assert "FATAL:  3 programs are connected and none of them is idle" in str(caught.value), mode
        tunnel.cancel_safe(timeout=10)  # on a connection of its own, for which there is no place either
        tunnel.close()
        with psycopg.connect(door) as again:
            assert again.execute("SELECT 2").fetchone() == (2,)


def test_websocket_keeps_its_place_and_gives_it_back(start_gateway: StartGateway, database: Database) -> None:
    from websockets.sync.client import connect

    gateway = start_gateway(listen={"port": 0, "max_connections": 2})
    with connect(f"ws://127.0.0.1:{gateway.port}/v2"), connect(f"ws://127.0.0.1:{gateway.port}/v2"):
        assert httpx.post(gateway.sql, json={"query": "SELECT 1"}).status_code == 503
    with program_of(gateway, database) as program:
        assert program.value("SELECT 1") == 1
    assert scraped(gateway, "sqlhttp_program_connections", '{door="websocket"}') == 0


def test_admin_address_lets_in_whoever_is_to_help(start_gateway: StartGateway) -> None:
    admin = free_port()
    gateway = start_gateway(listen={"port": 0, "max_connections": 1}, admin={"port": admin})
    with sockets(gateway, 1) as [busy]:
        busy.sendall(b"POST /sql HTTP/1.1\r\n")
        assert httpx.post(gateway.sql, json={"query": "SELECT 1"}).status_code == 503
        status = httpx.get(f"http://127.0.0.1:{admin}/status").json()
    assert status["programs"] == {"open": {"http": 1, "websocket": 0, "tcp": 0}, "limit": 1}


def test_silent_connections_to_a_port_with_tls_make_room_too(
    start_gateway: StartGateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LEAST_IDLE", 0.0)
    monkeypatch.setattr("sqlhttp_gateway.endpoints.proxied._LEAST_GREETING", 0.0)
    gateway = start_gateway(listen={"port": 0, "max_connections": 20, "tls_certificate": str(CERTIFICATE)})
    with sockets(gateway, 300):
        for _ in range(3):
            connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock)
            body = b'{"query": "SELECT 1 AS one"}'
            connection.request("POST", "/sql", body, {"Neon-Connection-String": database.url})
            answer = connection.getresponse()
            assert (answer.status, b'"one":1' in answer.read()) == (200, True)
            connection.close()
