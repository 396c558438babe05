"""Where the gateway can be reached: TLS on both doors, Unix sockets, and an address of its own for who watches it."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

import sqlhttp
from tests.support.certificates import Authority, Files
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port

PSQL = shutil.which("psql")


def listen(files: Files, **more: object) -> dict[str, object]:
    return {"port": 0, "tls_certificate": files.certificate, "tls_key": files.key, **more}


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.root))


def shown(port: int, authority: Authority) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_python_client_over_https_and_wss(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    gateway = start_gateway(listen=listen(authority.issue()))
    sql = sqlhttp.neon(database.url, endpoint=gateway.url, fetch_options={"ssl_context": trusting(authority)})
    assert sql("SELECT $1::int + 1 AS n", 41) == [{"n": 42}]
    with sql.session() as session:
        session("CREATE TEMP TABLE kept (n int)")
        assert session("SELECT count(*) AS n FROM kept") == [{"n": 0}]
    with pytest.raises(sqlhttp.CertificateRejected):
        sqlhttp.neon(database.url, endpoint=gateway.url)("SELECT 1")


def test_plain_http_is_not_spoken_on_a_port_with_tls(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start_gateway(listen=listen(Authority(tmp_path).issue()))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{gateway.port}/livez")


async def test_where_a_balancer_does_it_only_the_tcp_door_speaks_tls(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    authority, port = Authority(tmp_path), free_port()
    gateway = start_gateway(listen=listen(authority.issue(), https=False, postgres=port))
    async with httpx.AsyncClient() as program:
        assert (await program.get(f"http://127.0.0.1:{gateway.port}/livez")).status_code == 200
    connection = await asyncpg.connect(database.url.replace(f":{database.port}", f":{port}"), ssl=trusting(authority))
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


def test_a_changed_certificate_is_shown_to_new_connections_while_old_ones_go_on(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    authority, port = Authority(tmp_path), free_port()
    gateway = start_gateway(listen=listen(authority.issue(), tls_refresh=0.05, postgres=port))
    before = shown(gateway.port, authority)
    failed: list[object] = []
    asked, stop = [0], threading.Event()

    def ask() -> None:
        sql = sqlhttp.neon(
            database.url, endpoint=gateway.url, fetch_options={"ssl_context": trusting(authority)}, retry=None
        )
        while not stop.is_set():
            try:
                sql("SELECT 1")
                asked[0] += 1
            except Exception as error:
                failed.append(error)

    program = threading.Thread(target=ask)
    program.start()
    serials = {before}
    for _ in range(3):
        authority.issue()
        deadline = time.monotonic() + 10
        while (serial := shown(gateway.port, authority)) in serials:
            assert time.monotonic() < deadline, "the old certificate is shown on"
            time.sleep(0.02)
        serials.add(serial)
        goal = asked[0] + 3
        while asked[0] < goal and not failed:
            assert time.monotonic() < deadline + 10, "the kept connection does not go on"
            time.sleep(0.02)
    stop.set()
    program.join()
    assert failed == []
    metrics = httpx.get(f"{gateway.url}/metrics", verify=trusting(authority)).text
    assert "sqlhttp_tls_certificate_expiry_time_seconds" in metrics


# ── Unix sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_http_on_a_unix_socket(start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    start_gateway(listen={"port": 0, "unix_socket": path})
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as program:
        for _ in range(3):
            response = program.post(
                "http://gateway/sql",
                json={"query": "SELECT 1 AS one"},
                headers={"Neon-Connection-String": database.url},
            )
            assert response.json()["rows"] == [{"one": 1}]
        # Nothing says who asks, so that who may see the gateway's own numbers cannot be known.
        assert program.get("http://gateway/metrics").status_code == 403


def test_the_unix_socket_speaks_plain_http_beside_https(start_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    start_gateway(listen=listen(Authority(tmp_path).issue(), unix_socket=path))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as program:
        assert program.get("http://gateway/livez").status_code == 200


@pytest.mark.skipif(PSQL is None, reason="psql is not installed")
def test_psql_finds_the_tcp_door_in_a_directory_and_needs_no_tls_there(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port, "postgres_socket_directory": tmp_path})
    assert PSQL is not None
    done = subprocess.run(
        [PSQL, "-h", str(tmp_path), "-p", str(port), "-U", "postgres", "-d", database.name, "-Atc", "SELECT 40 + 2"],
        env={"PGPASSWORD": database.password},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


# ── the admin address ────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_an_address_of_its_own_the_public_port_shows_no_numbers(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    gateway = start_gateway(admin={"port": 0, "unix_socket": tmp_path / "admin.sock"})
    assert gateway.sockets is not None
    assert gateway.sockets.admin is not None
    admin = f"http://127.0.0.1:{gateway.sockets.admin.getsockname()[1]}"
    for path in ("/metrics", "/status"):
        assert httpx.get(f"{gateway.url}{path}").status_code == 400
        assert httpx.get(f"{admin}{path}").status_code == 200
    for path in ("/livez", "/readyz"):
        assert httpx.get(f"{gateway.url}{path}").status_code == 200
        assert httpx.get(f"{admin}{path}").status_code == 200
    # Statements are not for that address.
    response = httpx.post(f"{admin}/sql", json={"query": "SELECT 1"}, headers={"Neon-Connection-String": database.url})
    assert response.status_code == 400
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "admin.sock"))) as program:
        assert program.get("http://admin/metrics").status_code == 200
        assert program.get("http://admin/status").json()["state"] == "serving"


def test_the_admin_port_has_its_networks_too(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(admin={"port": 0, "allow_from": ["192.0.2.0/24"]})
    assert gateway.sockets is not None
    assert gateway.sockets.admin is not None
    admin = f"http://127.0.0.1:{gateway.sockets.admin.getsockname()[1]}"
    assert httpx.get(f"{admin}/metrics").status_code == 403
    assert httpx.get(f"{admin}/livez").status_code == 200
