"""The fixtures, in a run of pytest of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sqlhttp.pytest_plugin import _with_database
from tests.support.cluster import Cluster

if TYPE_CHECKING:  # the gateway is needed by the fixture of one test alone
    from tests.support.gateway import Gateway

WITH_FAKE = """
def test_fake(fake_neon):
    fake_neon.answer("from users", [{"id": 1}])
    assert fake_neon.sql("select * from users") == [{"id": 1}]
"""

WITH_DATABASE = """
import pytest

@pytest.mark.parametrize("time", [1, 2])
def test_own_database(neon_sql, time):
    neon_sql("create table t (a int)")  # the second time, too
    assert neon_sql.execute("insert into t values (1)") == 1

def test_url(neon_database, neon_sql):
    name = neon_sql.val("select current_database()")
    assert neon_database.url.endswith("/" + name)
"""


def run(folder: Path, text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "sqlhttp.pytest_plugin", "-c", os.devnull, *arguments, "."],
        cwd=folder,
        env={**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_fake_needs_no_server(tmp_path: Path) -> None:
    done = run(tmp_path, WITH_FAKE)
    assert "1 passed" in done.stdout, done.stdout


def test_every_test_has_a_database_of_its_own(tmp_path: Path, gateway: "Gateway", postgres: Cluster) -> None:
    before = databases(postgres)
    done = run(tmp_path, WITH_DATABASE, "--neon-url", postgres.maintenance.url, "--neon-endpoint", gateway.sql)
    assert "3 passed" in done.stdout, done.stdout
    assert databases(postgres) == before


def test_without_a_server_a_private_one_is_started_and_ended(tmp_path: Path) -> None:
    done = run(tmp_path, WITH_DATABASE, "--basetemp", str(tmp_path / "made"))
    assert "3 passed" in done.stdout, done.stdout
    [lock] = [*(tmp_path / "made").rglob("data"), tmp_path][:1]
    assert not [*lock.rglob("postmaster.pid")]


def test_without_anything_to_start_the_tests_are_skipped_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sqlhttp.pytest_plugin as plugin\nplugin.find_spec = lambda name: None\n"
    )
    done = run(tmp_path, WITH_DATABASE)
    assert "3 skipped" in done.stdout, done.stdout
    assert "pip install 'sqlhttp[gateway,embedded]'" in done.stdout


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgres://u:p@h:1/db?a=b/c", "postgres://u:p@h:1/x?a=b/c"),
        ("postgres://u:p@h", "postgres://u:p@h/x"),
        ("http://u:p@h/db", "http://u:p@h/x"),
    ],
)
def test_the_database_of_a_connection_string_is_replaced(url: str, other: str) -> None:
    assert _with_database(url, "x") == other


def databases(postgres: Cluster) -> str:
    return postgres.maintenance.psql("select count(*) from pg_database where datname like 'test\\_%'")
