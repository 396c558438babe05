"""`sqlhttp keys`, `sqlhttp lock` and `sqlhttp auth`, as a person runs them."""

import re
import tomllib
from pathlib import Path

import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.settings import KeySettings
from tests.support.cluster import Database

CREATE = ["keys", "create", "--role", "postgres", "--database", "main"]


def run(database: Database, *words: str) -> int:
    return cli.main([*words, "--set", f"database_url={database.url}"])


def test_key_is_made_listed_and_revoked(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, *CREATE, "--name", "shop", "--read-only") == 0
    shown = capsys.readouterr().out
    [key_id] = re.findall(r"^    sk_([0-9a-f]{12})_[0-9A-Za-z]{40}$", shown, re.MULTILINE)
    assert run(database, "keys", "list") == 0
    listed = capsys.readouterr().out
    assert listed == f"{key_id}\tvalid\tdefault/main/postgres\tread only\tshop\n"
    assert run(database, "keys", "revoke", key_id) == 0
    assert run(database, "keys", "revoke", key_id) == 1
    capsys.readouterr()
    assert run(database, "keys", "list") == 0
    assert "\trevoked\t" in capsys.readouterr().out


def test_whole_key_is_revoked_and_not_shown(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, *CREATE) == 0
    [key] = re.findall(r"sk_[0-9a-f]{12}_[0-9A-Za-z]{40}", capsys.readouterr().out)
    for status in (0, 1):
        assert run(database, "keys", "revoke", key) == status
        told = capsys.readouterr()
        assert key[16:] not in told.out + told.err
        assert key[3:15] in told.out


def test_table_holds_no_key(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, *CREATE) == 0
    [secret] = re.findall(r"sk_[0-9a-f]{12}_([0-9A-Za-z]{40})", capsys.readouterr().out)
    assert secret not in database.psql("SELECT * FROM sqlhttp.api_keys")


def test_printed_section_is_a_key_of_the_settings_and_needs_no_postgres(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "top.sql"
    file.write_text("SELECT 1;\n")
    words = [
        "--print",
        "--limit",
        "rate=2.5",
        "--limit",
        "max_concurrent=3",
        "--expires",
        "2030-01-31",
        "--origin",
        "https://a.example",
        "--lock",
        str(file),
    ]
    assert cli.main([*CREATE, *words]) == 0
    section = capsys.readouterr().out.partition("\n\n")[0]
    [key] = tomllib.loads(section)["keys"].values()
    settings = KeySettings.model_validate(key)
    assert settings.statements == (digest_of("SELECT 1").hex(),)
    assert settings.origins == ("https://a.example",)
    assert (settings.rate, settings.max_concurrent, settings.burst) == (2.5, 3, None)
    assert settings.expires_at is not None


def test_role_whose_password_is_not_held_is_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "create", "--role", "app", "--database", "main", "--print"]) == 0
    assert '"app"' in capsys.readouterr().out.rpartition("holds no password for role ")[2]


def test_lock_prints_a_list_for_the_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [tmp_path / "a.sql", tmp_path / "b.sql"]
    for number, file in enumerate(files):
        file.write_text(f"SELECT {number}\n")
    assert cli.main(["lock", *map(str, files)]) == 0
    statements = tomllib.loads(capsys.readouterr().out)["statements"]
    assert statements == [digest_of("SELECT 0").hex(), digest_of("SELECT 1").hex()]


@pytest.mark.parametrize("content", [b"", b" ;\n", b"\xff"])
def test_lock_refuses_a_file_without_a_statement(
    content: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.sql"
    file.write_bytes(content)
    assert cli.main(["lock", str(file), str(tmp_path / "missing.sql")]) == 2
    assert "a.sql" in capsys.readouterr().err


def test_postgres_that_refuses_is_one_message(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database.as_role("postgres", "wrong"), "keys", "list") == 2
    error = capsys.readouterr().err
    assert "refuses the gateway's own role" in error
    assert "wrong" not in error


def test_auth_install_says_what_is_there_now_and_may_be_run_again(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(database, "auth", "install") == 0
        assert "auth.user_id()" in capsys.readouterr().out
    assert database.psql("SELECT auth.user_id() IS NULL") == "t\n"


def test_auth_install_names_a_target_that_is_not_there(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(database, "auth", "install", "--target", "gone") == 2
    assert "'gone'" in capsys.readouterr().err


def test_key_with_a_login_of_its_own_needs_a_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*CREATE, "--print", "--login", "authenticator"]
    assert cli.main(words) == 2
    assert "--lock" in capsys.readouterr().err
    file = tmp_path / "top.sql"
    file.write_text("SELECT 1")
    assert cli.main([*words, "--lock", str(file)]) == 0
    shown = capsys.readouterr().out
    assert 'login = "authenticator"' in shown
    assert 'holds no password for role "authenticator"' in shown


@pytest.mark.parametrize(("limit", "fault"), [("rates=1", "rates: there is no such limit"), ("rate=0", "rate: Input")])
def test_limit_that_is_none_is_refused_by_its_name(limit: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*CREATE, "--print", "--limit", limit]) == 2
    assert f"--limit {fault}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bound",
    [
        ["--address", "1.2.3"],
        ["--address", "10.0.0.9-10.0.0.1"],
        ["--origin", "https://app.example/"],
        ["--origin", "app.example"],
        ["--origin", "*"],
    ],
)
def test_key_that_would_be_good_from_nowhere_is_not_made(bound: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*CREATE, "--print", *bound]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert ("addresses.0: not an address" in told.err) == (bound[0] == "--address")
    assert ("origins.0: not an origin" in told.err) == (bound[0] == "--origin")


def test_target_that_the_settings_lack_is_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*CREATE, "--print", "--target", "eu"]) == 0
    assert 'no target "eu" yet' in capsys.readouterr().out


def test_lock_prints_nothing_where_one_of_the_files_cannot_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "one.sql"
    file.write_text("SELECT 1")
    assert cli.main(["lock", str(file), str(tmp_path / "none.sql")]) == 2
    assert capsys.readouterr().out == ""
