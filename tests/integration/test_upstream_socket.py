"""Postgres asked by its Unix socket, and by nothing else: it listens on no address here."""

import asyncio
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from sqlhttp_gateway.check.capacity import Deployment
from sqlhttp_gateway.check.command import find
from sqlhttp_gateway.check.finding import Level
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, free_port, gateway_in_thread
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.support.program import Program, program_of
from tests.support.running_app import running_app
from tests.support.sockets import begin
from tests.support.watch import watching

SLEEPING = "wait_event = 'PgSleep'"
ELSEWHERE = Database("db.example", 5432, "postgres")
"""As programs name it: their host only chooses among the gateway's targets."""
DEADLINE = 20.0  # seconds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Reached by its socket alone, so that whatever works came by it."""
    with running_cluster({"listen_addresses": ""}) as cluster:
        yield cluster


@pytest.fixture
def own(cluster: Cluster) -> Database:
    return cluster.by_socket(cluster.maintenance)


@pytest.fixture
def program(own: Database) -> Iterator[Program]:
    with gateway_in_thread(own.url, {"pool": {"max_size": 1}}) as gateway, program_of(gateway, ELSEWHERE) as program:
        yield program


@contextmanager
def hba(cluster: Cluster, own: Database, *lines: str) -> Iterator[None]:
    """These lines in front of those of pg_hba.conf, for the length of the block."""
    path = cluster.data / "pg_hba.conf"
    before = path.read_text()
    try:
        path.write_text("\n".join([*lines, before]))
        own.psql("SELECT pg_reload_conf()")
        yield
    finally:
        path.write_text(before)
        own.psql("SELECT pg_reload_conf()")


@contextmanager
def roles(own: Database, *names: str) -> Iterator[None]:
    """Roles that can log in with the password `secret`."""
    for name in names:
        own.psql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield
    finally:
        for name in names:
            own.psql(f"DROP ROLE {name}")


def test_a_statement_goes_by_the_socket(program: Program) -> None:
    assert program.value("SELECT inet_server_addr()") is None
    assert program.value("SELECT $1::int + 1", 41) == 42


def test_the_host_may_be_percent_encoded_in_its_place(own: Database) -> None:
    url = f"postgres://postgres:postgres@{quote(own.host, safe='')}:{own.port}/postgres?sslmode=require"
    with gateway_in_thread(url, {}) as gateway, program_of(gateway, ELSEWHERE) as program:
        assert program.value("SELECT inet_server_addr()") is None


@pytest.mark.parametrize("verify_by", ["verifier", "login"])
def test_each_role_logs_in_with_its_own_password(own: Database, verify_by: str) -> None:
    with (
        roles(own, "reader"),
        gateway_in_thread(own.url, {"auth": {"verify_by": verify_by}}) as gateway,
        program_of(gateway, ELSEWHERE.as_role("reader", "secret")) as program,
    ):
        assert program.value("SELECT session_user") == "reader"
        wrong = program.to(ELSEWHERE.as_role("reader", "guess")).error("SELECT 1")
        assert wrong["code"] == "28P01"


async def test_a_cancel_goes_by_the_socket_and_the_backend_is_kept(program: Program, own: Database) -> None:
    backend = program.value("SELECT pg_backend_pid()")
    async with watching(own) as watch:
        for kept in (False, True):
            request = await begin(program, {"query": "SELECT pg_sleep(60)"}, kept=kept)
            await watch.until(1, SLEEPING)
            await request.hang_up()
            await watch.until(0, SLEEPING)
    assert program.value("SELECT pg_backend_pid()") == backend
    late = program.post({"query": "SELECT pg_sleep(60)"}, {"Sqlhttp-Timeout": "0.2"})
    assert (late.status_code, late.json()["code"]) == (504, "57014")
    assert program.value("SELECT pg_backend_pid()") == backend


async def test_a_tunnel_and_its_cancel_go_by_the_socket(own: Database) -> None:
    port = free_port()
    door = {"host": "127.0.0.1", "port": port, "user": "postgres", "password": "postgres", "database": "postgres"}
    with gateway_in_thread(own.url, {"listen": {"port": 0, "postgres": port}}):
        program = await asyncpg.connect(**door, statement_cache_size=0, timeout=10)
        try:
            assert await program.fetchval("SELECT inet_server_addr()") is None
            with pytest.raises(TimeoutError):
                await program.execute("SELECT pg_sleep(60)", timeout=0.2)
            assert await program.fetchval("SELECT 42") == 42
        finally:
            await program.close()


async def test_what_a_killed_gateway_has_left_running_is_ended(own: Database) -> None:
    """Postgres looks whether the other end of a socket is still there as it does with TCP."""
    port = free_port()
    command = ("serve", "--port", str(port))
    async with watching(own) as watch:
        with GatewayProcess(*command, environment={"DATABASE_URL": own.url}) as process:
            process.wait_until_ready(f"http://127.0.0.1:{port}")
            with httpx.Client(trust_env=False) as http:
                program = Program(http, f"http://127.0.0.1:{port}/sql", ELSEWHERE.url)
                request = await begin(program, {"query": "SELECT pg_sleep(60)"})
                await watch.until(1, SLEEPING)
                process.kill()
                await watch.until(0, SLEEPING)
                await request.hang_up()


async def test_programs_are_served_again_once_postgres_and_its_socket_are_back() -> None:
    clock = asyncio.get_running_loop().time
    with running_cluster({"listen_addresses": ""}) as cluster:
        own = cluster.by_socket(cluster.maintenance)
        async with running_app(own, auth={"proof_lifetime": 600}) as app:
            assert (await app.post({"query": "SELECT 1"}, url=ELSEWHERE.url)).status == 200
            await asyncio.to_thread(cluster.stop)
            assert not list(cluster.socket_folder.glob(".s.PGSQL.*"))
            end = clock() + DEADLINE
            while (ready := await app.get("/readyz")).status != 503 or "reason" not in ready.json():
                assert clock() < end
                await app.post({"query": "SELECT 1"}, url=ELSEWHERE.url)
            refused = await app.post({"query": "SELECT 1"}, url=ELSEWHERE.url)
            assert refused.status in (500, 503)
            assert (
                "cannot connect to Postgres by its Unix socket: No such file or directory" in refused.json()["message"]
            )
            await asyncio.to_thread(cluster.start)
            while (await app.post({"query": "SELECT 1"}, url=ELSEWHERE.url)).status != 200:
                assert clock() < end
                await asyncio.sleep(0.01)
            assert (await app.get("/readyz")).status == 200


def test_replicas_are_asked_by_sockets_of_their_own(fleet: Fleet) -> None:
    folders = ",".join(str(server.socket_folder) for server in fleet.servers)
    ports = ",".join(str(server.port) for server in fleet.servers)
    url = f"postgres://postgres:postgres@/postgres?host={folders}&port={ports}"
    read = "SELECT pg_is_in_recovery() AND inet_server_addr() IS NULL AS good"
    with gateway_in_thread(url, {}) as gateway, program_of(gateway, ELSEWHERE) as program:
        deadline = time.monotonic() + DEADLINE
        while program.ask(read, headers={"Sqlhttp-Read-Only": "true"})["rows"] != [{"good": True}]:
            assert time.monotonic() < deadline, "no replica is used"
            time.sleep(0.02)
        assert program.value("SELECT NOT pg_is_in_recovery()") is True


@pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")
def test_pgbouncer_is_asked_by_its_socket_and_asks_by_that_of_postgres(own: Database) -> None:
    with (
        pgbouncer(own, size=2, by_socket=True) as pooled,
        gateway_in_thread(f"{pooled.url}&pgbouncer=true", {}) as gateway,
        program_of(gateway, ELSEWHERE) as program,
    ):
        assert program.value("SELECT inet_server_addr()") is None
        assert {program.value("SELECT count(*) FROM pg_prepared_statements") for _ in range(5)} == {"0"}


# ── peer authentication ──────────────────────────────────────────────────────────────────────────────────────────────


def account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def test_the_gateways_own_role_may_come_in_by_peer_without_a_password(cluster: Cluster, own: Database) -> None:
    """Its connection string then holds no secret; callers' passwords are asked for all the same."""
    nameless = f"postgres:///postgres?host={own.host}&port={own.port}"
    own.psql(f'CREATE ROLE "{account()}" LOGIN; GRANT SELECT ON pg_authid TO "{account()}"')
    try:
        with (
            roles(own, "reader"),
            hba(cluster, own, f'local all "{account()}" peer'),
            gateway_in_thread(nameless, {}) as gateway,
            program_of(gateway, ELSEWHERE.as_role("reader", "secret")) as program,
        ):
            assert program.value("SELECT session_user") == "reader"
            assert program.to(ELSEWHERE.as_role("reader", "guess")).error("SELECT 1")["code"] == "28P01"
            # Postgres would let the gateway in as this role with any password.
            assert program.to(ELSEWHERE.as_role(account(), "guess")).error("SELECT 1")["code"] == "28P01"
    finally:
        own.psql(f'DROP OWNED BY "{account()}"; DROP ROLE "{account()}"')


def test_peer_for_a_callers_role_is_said_to_be_impossible(cluster: Cluster, own: Database) -> None:
    with (
        roles(own, "reader"),
        hba(cluster, own, "local all reader peer"),
        gateway_in_thread(own.url, {}) as gateway,
        program_of(gateway, ELSEWHERE.as_role("reader", "secret")) as program,
    ):
        error = program.error("SELECT 1", status=500)
        assert error["message"] == 'Peer authentication failed for user "reader"'
        assert "scram-sha-256" in error["hint"]


def test_where_peer_lets_a_role_in_whatever_its_password_no_log_in_proves_one(cluster: Cluster, own: Database) -> None:
    with (
        roles(own, f'"{account()}"'),
        hba(cluster, own, f'local all "{account()}" peer'),
        gateway_in_thread(own.url, {"auth": {"verify_by": "login"}}) as gateway,
        program_of(gateway, ELSEWHERE.as_role(account(), "guess")) as program,
    ):
        error = program.error("SELECT 1", status=500)
        assert "does not ask the gateway for a password (trust, or peer by a socket)" in error["message"]


# ── what is said of it ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_check_names_the_socket(own: Database) -> None:
    path = f"{own.host}/.s.PGSQL.{own.port}"
    findings = {each.subject: each for each in await find(load_settings(database_url=own.url), Deployment())}
    assert findings["reachable"].text.startswith(f"default ({path}): connected as postgres")
    assert findings["tls"].level is Level.OK
    missing = replace(own, port=1)
    [refused] = [
        each
        for each in await find(load_settings(database_url=missing.url), Deployment())
        if each.subject == "reachable"
    ]
    assert f"({own.host}/.s.PGSQL.1)" in refused.text
    assert "by its Unix socket: No such file or directory" in refused.text
    assert "unix_socket_directories" in refused.remedy
