"""Where the gateway can be reached: TLS on both doors, Unix sockets, and an address of its own for who watches it."""

import asyncio
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
from tests.support import balancer
from tests.support.certificates import Authority, Files
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.wire_program import startup

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


# ── who asks, behind proxies ─────────────────────────────────────────────────────────────────────────────────────────

TOLD = "203.0.113.9"
HEADER_1 = f"PROXY TCP4 {TOLD} 127.0.0.1 56324 443\r\n".encode()


def asked_by(gateway: Gateway, database: Database, **headers: str) -> str:
    """What a program is told whose address is not on the list; empty when it is let in."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    given["Neon-Connection-String"] = database.url
    with httpx.Client(base_url=gateway.url) as program:
        texts = set()
        for _ in range(3):  # the first of a kept connection goes another way than the others
            response = program.post("/sql", json={"query": "SELECT 1"}, headers=given)
            texts.add(response.json().get("message", "") if response.status_code == 400 else "")
        [text] = texts
        return str(text)


def test_an_allow_list_counts_the_address_that_a_trusted_proxy_tells(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway(
        listen={"port": 0, "trusted_proxies": ["127.0.0.1"], "allow_from": ["127.0.0.1", "198.51.100.0/24"]}
    )
    assert asked_by(gateway, database) == ""
    assert asked_by(gateway, database, x_forwarded_for="198.51.100.7") == ""
    assert asked_by(gateway, database, x_forwarded_for=f"198.51.100.7, {TOLD}") == (
        f"this IP address {TOLD} is not allowed to connect"
    )
    assert httpx.get(f"{gateway.url}/readyz", headers={"x-forwarded-for": TOLD}).status_code == 200
    # Through a trusted proxy, too, the numbers are for their networks alone.
    assert httpx.get(f"{gateway.url}/status", headers={"x-forwarded-for": TOLD}).status_code == 403
    assert httpx.get(f"{gateway.url}/status", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 200


def test_an_untrusted_peer_is_who_it_is_whatever_it_says(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway(listen={"port": 0, "allow_from": ["198.51.100.0/24"]})
    assert "127.0.0.1 is not allowed" in asked_by(gateway, database, x_forwarded_for="198.51.100.7")


async def test_a_websocket_and_the_tcp_door_say_it_as_postgres_would(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    port = free_port()
    gateway = start_gateway(listen={"port": 0, "postgres": port, "allow_from": ["198.51.100.0/24"]})
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match=r"127\.0\.0\.1 is not allowed"):
        await asyncpg.connect(database.url.replace(f":{database.port}", f":{port}"), ssl=False)
    with pytest.raises(sqlhttp.NeonDbError, match=r"127\.0\.0\.1 is not allowed"):
        sqlhttp.neon(database.url, endpoint=gateway.url).session().__enter__()


def test_the_proxy_protocol_on_the_http_port(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    proxied = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": ["http"], "allow_from": ["198.51.100.0/24"]}
    for tls in ({}, listen(authority.issue())):
        gateway = start_gateway(listen={"port": 0, **tls, **proxied})
        for told, status in ((TOLD, 400), ("198.51.100.7", 200)):
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
                plain.sendall(HEADER_1.replace(TOLD.encode(), told.encode()))
                connection = trusting(authority).wrap_socket(plain, server_hostname="localhost") if tls else plain.dup()
                with connection:
                    body = b'{"query": "SELECT 1"}'
                    for _ in range(2):
                        head = f"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                        head += f"Neon-Connection-String: {database.url}\r\n\r\n"
                        connection.sendall(head.encode() + body)
                        assert connection.recv(65536).startswith(b"HTTP/1.1 %d" % status)


async def test_the_proxy_protocol_on_the_tcp_door(start_gateway: Callable[..., Gateway], database: Database) -> None:
    port = free_port()
    start_gateway(
        listen={"port": 0, "postgres": port, "trusted_proxies": ["127.0.0.1"], "proxy_protocol": ["postgres"]}
    )
    for told, wanted in (("127.0.0.1", b"R"), (TOLD, b"E")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER_1.replace(TOLD.encode(), told.encode()) + startup(database))
        # Without TLS a password is taken from this machine alone, and the proxy's program is not on it.
        assert await reader.readexactly(1) == wanted
        writer.close()


@pytest.mark.skipif(balancer.found("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
async def test_haproxy_tells_who_connects_to_both_doors(
    option: str, start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    door, http_front, door_front = free_port(), free_port(), free_port()
    gateway = start_gateway(
        listen={
            **{"port": 0, "postgres": door, "allow_from": ["127.0.0.2"]},
            **{"trusted_proxies": ["127.0.0.1"], "proxy_protocol": ["http", "postgres"]},
        }
    )
    with balancer.proxying(option, {http_front: gateway.port, door_front: door}, tmp_path):
        for source, is_let_in in (("127.0.0.2", True), ("127.0.0.3", False)):
            transport = httpx.AsyncHTTPTransport(local_address=source)
            async with httpx.AsyncClient(transport=transport) as program:
                response = await program.post(
                    f"http://127.0.0.1:{http_front}/sql",
                    json={"query": "SELECT 1"},
                    headers={"Neon-Connection-String": database.url},
                )
            assert (response.status_code == 200) is is_let_in, response.text
            assert is_let_in or f"{source} is not allowed to connect" in response.text
            reader, writer = await asyncio.open_connection("127.0.0.1", door_front, local_addr=(source, 0))
            writer.write(startup(database))
            assert await reader.readexactly(1) == (b"R" if is_let_in else b"E")
            writer.close()


@pytest.mark.skipif(balancer.found("nginx") is None, reason="nginx is not installed")
def test_nginx_tells_who_asks(start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path) -> None:
    front = free_port()
    gateway = start_gateway(listen={"port": 0, "allow_from": ["127.0.0.2"], "trusted_proxies": ["127.0.0.1"]})
    with balancer.balancing("nginx", front, [gateway.port], tmp_path):
        for source, status in (("127.0.0.2", 200), ("127.0.0.3", 400)):
            with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as program:
                for claimed in ("", "127.0.0.2"):  # what a program says of itself stands further left
                    response = program.post(
                        f"http://127.0.0.1:{front}/sql",
                        json={"query": "SELECT 1"},
                        headers={"Neon-Connection-String": database.url}
                        | ({"X-Forwarded-For": claimed} if claimed else {}),
                    )
                    assert response.status_code == status, response.text
