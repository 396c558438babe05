"""`sqlhttp dev`, run as people run it: started, asked, stopped, started again, and disturbed."""

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from sqlhttp_gateway.dev import DSN, banner, callers_dsn, recipes
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Database
from tests.support.gateway import GatewayProcess, free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where data stays from one start to the next."""
    return tmp_path_factory.mktemp("dev")


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[tuple[GatewayProcess, str]]:
    """`sqlhttp dev` on a free port, and its URL. Its output never has a traceback."""
    port = free_port()
    with GatewayProcess("dev", "--port", str(port), environment=environment, folder=folder) as process:
        process.wait_until_ready(f"http://127.0.0.1:{port}")
        yield process, f"http://127.0.0.1:{port}"
    assert "Traceback" not in process.output


def rows(url: str, query: str, dsn: str = DSN) -> object:
    request = Request(f"{url}/sql", json.dumps({"query": query}).encode(), {"Neon-Connection-String": dsn})
    with urlopen(request, timeout=30) as response:
        return json.loads(response.read())["rows"]


def postmaster(folder: Path) -> int:
    return int((folder / ".sqlhttp" / "postgres" / "postmaster.pid").read_text().split()[0])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_role_postgres_on_database_main_and_ends_cleanly(folder: Path, stop: signal.Signals) -> None:
    with running(folder) as (process, url):
        assert rows(url, "SELECT current_user AS role, current_database() AS database") == [
            {"role": "postgres", "database": "main"}
        ]
        postgres = postmaster(folder)
        process.send(stop)
        assert process.wait() == 0
    assert not os.path.exists(f"/proc/{postgres}")
    assert not (folder / ".sqlhttp" / "postgres" / "postmaster.pid").exists()
    for recipe in recipes(url, DSN).values():
        assert recipe.splitlines()[0] in process.output


def test_started_with_nohup_it_stays_when_the_terminal_closes(folder: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, and what it starts inherits
    try:
        with running(folder) as (process, url):
            ignored = int(re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text())[0], 16)
            assert ignored & 1 << signal.SIGHUP - 1
            process.send(signal.SIGHUP)
            assert rows(url, "SELECT 1 AS one") == [{"one": 1}]
            process.send(signal.SIGTERM)
            assert process.wait() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_data_are_there_at_the_next_start(folder: Path) -> None:
    with running(folder) as (process, url):
        rows(url, "CREATE TABLE kept AS SELECT 7 AS n")
        process.stop()
    with running(folder) as (process, url):
        assert rows(url, "SELECT n FROM kept") == [{"n": 7}]
        assert process.stop() == 0


def test_the_gateway_asks_by_the_socket_and_others_by_the_address_that_is_printed(folder: Path) -> None:
    with running(folder) as (process, url):
        assert rows(url, "SELECT inet_server_addr() AS address") == [{"address": None}]
        port = int((folder / ".sqlhttp" / "postgres" / "postmaster.pid").read_text().split("\n")[3])
        others = Database("127.0.0.1", port, "main")
        assert others.psql("SELECT inet_server_addr()") == "127.0.0.1\n"
    assert f"Postgres itself is at {others.url}." in process.output


def test_the_password_is_checked(folder: Path) -> None:
    with running(folder) as (_, url):
        with pytest.raises(HTTPError) as refused:
            rows(url, "SELECT 1", "postgres://postgres:wrong@localhost/main")
        with refused.value as answer:
            assert answer.status == 400
            assert json.loads(answer.read())["code"] == "28P01"


def test_after_a_kill_the_next_start_ends_the_postgres_that_was_left_over(folder: Path) -> None:
    with running(folder) as (process, _):
        process.send(signal.SIGKILL)
        process.wait()
    orphan = postmaster(folder)
    with running(folder) as (process, url):
        assert postmaster(folder) != orphan
        assert rows(url, "SELECT 1 AS one") == [{"one": 1}]
        assert process.stop() == 0


def test_a_postgres_that_ends_by_itself_ends_dev_with_the_reason(folder: Path) -> None:
    with running(folder) as (process, _):
        os.kill(postmaster(folder), signal.SIGINT)
        assert process.wait() == 1
    assert "ended by itself" in process.output
    assert ".sqlhttp/postgres.log" in process.output


def test_a_folder_in_use_by_another_dev_is_said(folder: Path) -> None:
    with running(folder) as (first, _):
        with GatewayProcess("dev", "--port", "0", environment={}, folder=folder) as second:
            assert second.wait() == 1
        assert f"in use by process {first.pid}" in second.output
        assert "Traceback" not in second.output


def test_a_port_in_use_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with GatewayProcess("dev", "--port", port, environment={}, folder=tmp_path) as process:
            assert process.wait() == 1
    assert "listen.port" in process.output
    assert "Traceback" not in process.output
    assert not (tmp_path / ".sqlhttp").exists()


def test_a_changed_password_is_set_back_and_said(folder: Path) -> None:
    with running(folder) as (process, url):
        rows(url, "ALTER ROLE postgres PASSWORD 'changed'")
        process.stop()
    with running(folder) as (process, url):
        assert rows(url, "SELECT 1 AS one") == [{"one": 1}]
        assert process.stop() == 0
    assert "it is 'postgres' again" in process.output


def test_a_postgres_without_its_own_database_is_explained(folder: Path) -> None:
    with running(folder) as (process, url):
        rows(url, "DROP DATABASE postgres")
        process.stop()
    try:
        with GatewayProcess("dev", "--port", "0", environment={}, folder=folder) as process:
            assert process.wait() == 1
        assert 'database "postgres" does not exist' in process.output
        assert "Traceback" not in process.output
    finally:
        shutil.rmtree(folder / ".sqlhttp")


def test_with_a_database_url_there_is_no_private_postgres(tmp_path: Path, database: Database) -> None:
    with running(tmp_path, DATABASE_URL=database.url) as (process, url):
        assert rows(url, "SELECT current_database() AS database", database.url) == [{"database": database.name}]
        assert process.stop() == 0
    assert not (tmp_path / ".sqlhttp").exists()
    assert f"postgres://postgres:PASSWORD@127.0.0.1:{database.port}/{database.name}" in process.output


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        (
            "postgresql://app:hunter2@db.internal:6432/app?sslmode=require",
            "postgres://app:PASSWORD@db.internal:6432/app",
        ),
        ("postgres://app:hunter2@/app?host=/run/postgresql", "postgres://app:PASSWORD@localhost/app"),
        ("postgres://app:hunter2@%2Frun%2Fpostgresql:5433/app", "postgres://app:PASSWORD@localhost/app"),
        ("postgres://one:5433,two/app?user=app&password=hunter2", "postgres://app:PASSWORD@one:5433/app"),
        ("postgres://a%40b:hunter2@[::1]/c%2Fd", "postgres://a%40b:PASSWORD@[::1]:5432/c%2Fd"),
        ("postgres://app:hunter2@db", "postgres://app:PASSWORD@db:5432/app"),
    ],
)
def test_a_password_from_outside_is_never_printed_and_what_is_can_be_pasted(url: str, dsn: str) -> None:
    shown = callers_dsn(load_settings(database_url=url))
    assert shown == dsn
    assert "hunter2" not in banner("http://127.0.0.1:4444", shown, "")
    assert dsn_from_header(shown.encode()).password == b"PASSWORD"


def test_socket_of_a_gateway_that_refuses_unknown_hosts_is_called_by_an_alias() -> None:
    url = "postgres://app:hunter2@/app?host=/run/postgresql"
    settings = load_settings(database_url=url, aliases=("db.example",), unknown_host="refuse")
    assert callers_dsn(settings) == "postgres://app:PASSWORD@db.example/app"


def test_the_python_recipe_names_the_endpoint_only_where_the_client_would_not_guess_it() -> None:
    assert "endpoint" not in recipes("http://127.0.0.1:4444", DSN)["Python"]
    assert 'endpoint="http://127.0.0.1:5000"' in recipes("http://127.0.0.1:5000", DSN)["Python"]
