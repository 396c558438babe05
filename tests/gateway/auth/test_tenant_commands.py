"""`sqlhttp tenants`, as a person runs it."""

import pytest

from sqlhttp_gateway import cli
from tests.support.cluster import Database


def run(database: Database, *words: str) -> int:
    return cli.main([*words, "--set", f"database_url={database.url}"])


def test_tenant_is_added_listed_and_removed(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, "tenants", "list") == 0
    words = [
        "--host-name",
        "Acme.example",
        "--host-name",
        "*.acme.example",
        "--database",
        "acme_{name}",
        "--limit",
        "rate=5",
    ]
    assert run(database, "tenants", "add", "acme", *words, "--limit", "rate=5") == 0
    capsys.readouterr()
    assert run(database, "tenants", "list") == 0
    assert capsys.readouterr().out == "acme\tacme.example, *.acme.example\tdefault/acme_{name}\trate=5.0\n"
    assert run(database, "tenants", "remove", "acme") == 0
    assert run(database, "tenants", "remove", "acme") == 1


@pytest.mark.parametrize("host", ["*", "a b", "*.db.*", "acme.example:80", ""])
def test_host_that_no_request_names_is_refused_as_in_the_settings(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tenants", "add", "acme", "--host-name", host]) == 2
    assert "host" in capsys.readouterr().err


def test_target_that_the_settings_lack_is_mentioned(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, "tenants", "add", "acme", "--database-name", "acme", "--target", "eu") == 0
    assert 'no target "eu" yet' in capsys.readouterr().out
