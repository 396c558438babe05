"""TLS between the gateway and Postgres. The private Postgres is built without it, so an installed one is taken."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sqlhttp_gateway.embedded import Account
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.program import program_of

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(not INSTALLED or OPENSSL is None, reason="no Postgres with TLS is installed")


def run(account: Account, *command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **account.switch)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Database, Path]]:
    """A Postgres that takes TLS only, and the certificate that it shows, which is made out to localhost."""
    # Not pytest's own folder, which no other account may pass through.
    with tempfile.TemporaryDirectory() as name, tls_server(Path(name)) as running:
        yield running


@pytest.fixture(scope="module")
def strict_server() -> Iterator[tuple[Database, Path]]:
    """One that also asks for a certificate, of which there is one: beside its own, in client.pem and client.key."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        account = Account.for_folder(folder)
        account.own(folder)
        run(account, OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=gateway", "-keyout", folder / "client.key", "-out", folder / "client.pem")  # fmt: skip
        with tls_server(folder, asks_for=folder / "client.pem") as running:
            yield running


@contextmanager
def tls_server(folder: Path, *, asks_for: Path | None = None) -> Iterator[tuple[Database, Path]]:
    folder.chmod(0o755)
    account = Account.for_folder(folder)
    programs = INSTALLED[-1].parent
    account.own(folder)
    data, certificate, port = folder / "data", folder / "server.pem", free_port()
    (folder / "password").write_text("postgres\n")
    account.own(folder / "password")
    run(account, programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile",
        folder / "password", "-E", "UTF8", "--locale=C")  # fmt: skip
    run(account, OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "server.key", "-out", certificate)  # fmt: skip
    (folder / "server.key").chmod(0o600)
    line = "hostssl all all 127.0.0.1/32 scram-sha-256"
    (data / "pg_hba.conf").write_text(f"{line} clientcert=verify-ca\n" if asks_for is not None else f"{line}\n")
    options = (
        f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c ssl=on"
        f" -c ssl_cert_file={certificate} -c ssl_key_file={folder / 'server.key'}"
    )
    if asks_for is not None:
        options += f" -c ssl_ca_file={asks_for}"
    run(account, programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
    try:
        yield Database("localhost", port, "postgres"), certificate
    finally:
        run(account, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.mark.parametrize("query", ["sslmode=require", "sslmode=prefer", "sslmode=verify-full&sslrootcert={root}"])
def test_statements_and_cancels_go_through_tls(
    server: tuple[Database, Path], start_gateway: Callable[..., Gateway], query: str
) -> None:
    database, certificate = server
    url = f"{database.url}?{query.format(root=certificate)}"
    gateway = start_gateway(
        database_url=url,
        response={"max_bytes": 10_000},
        pool={"max_size": 1, "wait_timeout": 30},
        statement={"cancel_timeout": 30},
    )
    with program_of(gateway, database) as program:
        assert program.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
        pid = program.value("SELECT pg_backend_pid()")
        endless = program.post({"query": "SELECT generate_series(1, 100000000)"})
        assert endless.status_code == 507  # it was cancelled, over a TLS connection of its own
        assert program.value("SELECT pg_backend_pid()") == pid


@pytest.mark.parametrize("mode", ["require", "verify-full&sslrootcert={root}"])
def test_server_that_asks_for_a_certificate_is_shown_one(
    strict_server: tuple[Database, Path], start_gateway: Callable[..., Gateway], mode: str
) -> None:
    database, root = strict_server
    own = f"sslcert={root.parent / 'client.pem'}&sslkey={root.parent / 'client.key'}"
    url = f"{database.url}?sslmode={mode.format(root=root)}"
    gateway = start_gateway(database_url=f"{url}&{own}")
    with program_of(gateway, database) as program:
        assert program.value("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "/CN=gateway"
    without = start_gateway(database_url=url)
    with program_of(without, database) as program:
        response = program.post({"query": "SELECT 1"})
    assert response.status_code == 500
    assert "valid client certificate" in response.json()["message"]


@pytest.mark.parametrize("query", ["sslmode=disable", "sslmode=verify-full"])
def test_tls_that_is_not_as_asked_for_is_refused(
    server: tuple[Database, Path], start_gateway: Callable[..., Gateway], query: str
) -> None:
    database, _ = server
    gateway = start_gateway(database_url=f"{database.url}?{query}", auth={"verify_by": "verifier"})
    with program_of(gateway, database) as program:
        response = program.post({"query": "SELECT 1"})
    assert response.status_code == 500
    assert response.json()["message"].startswith("target default: ")
