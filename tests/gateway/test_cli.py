"""The command line: what becomes a setting, and what is refused with which exit status."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sqlhttp_gateway import cli, dev, workers
from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.embedded import PostgresFailed
from sqlhttp_gateway.errors import AddressUnavailable, ConfigurationError
from sqlhttp_gateway.settings import Settings

URL = "postgres://app:secret@db.internal/app"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `serve` was called with, in place of serving."""
    calls: list[Settings] = []

    def record(settings: Settings, *, read: Callable[[], Settings]) -> int:
        assert read() == settings
        calls.append(settings)
        return 0

    monkeypatch.setattr(workers, "serve", record)
    monkeypatch.setenv("DATABASE_URL", URL)
    return calls


def test_version_and_the_clients_own_commands_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("--version", "--help"):
        with pytest.raises(SystemExit) as stopped:
            cli.main([argument])
        assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"sqlhttp {build_version()}\n")
    assert "sqlhttp query --help" in told


def test_without_flags_serve_takes_the_defaults_and_database_url(served: list[Settings]) -> None:
    assert cli.main(["serve"]) == 0
    [settings] = served
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == URL
    assert settings.listen.port == 4444


def test_flags_win_over_the_environment_and_that_over_the_file(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "sqlhttp.toml"
    file.write_text("[listen]\nhost = '127.0.0.2'\nport = 1111\n[pool]\nmax_size = 1\nmin_size = 1\nmax_total = 7\n")
    monkeypatch.setenv("SQLHTTP_LISTEN__PORT", "2222")
    monkeypatch.setenv("SQLHTTP_POOL__MAX_SIZE", "2")
    arguments = ["--config", str(file), "--port", "3333", "--workers", "3", "--set", "pool.max_size=30"]
    assert cli.main(["serve", *arguments]) == 0
    [settings] = served
    assert (settings.listen.host, settings.listen.port, settings.listen.workers) == ("127.0.0.2", 3333, 3)
    assert (settings.pool.max_size, settings.pool.min_size, settings.pool.max_total) == (30, 1, 7)


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "TUNNEL.Role_Pool_Mode.Batch=session"],
        ["--set", 'tunnel.role_pool_mode={"Batch": "session"}'],
    ],
)
def test_name_of_a_role_keeps_its_case_and_a_table_is_given_as_json(words: list[str], served: list[Settings]) -> None:
    assert cli.main(["serve", *words]) == 0
    assert served[0].tunnel.role_pool_mode == {"Batch": "session"}


def test_password_that_looks_like_json_is_a_password(served: list[Settings]) -> None:
    words = ["logins.A.role=a", "logins.A.password={b"]
    assert cli.main(["serve", *(word for each in words for word in ("--set", each))]) == 0
    assert served[0].logins["A"].password.get_secret_value() == "{b"


def test_a_list_is_given_as_json(served: list[Settings]) -> None:
    assert cli.main(["serve", "--set", 'aliases=["one", "two"]']) == 0
    assert served[0].aliases == ("one", "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "pool.max_sise=3"], "pool.max_sise"),
        (["--set", "poool.max_size=3"], "poool"),
        (["--set", "file=x"], "file"),
        (["--set", "pool.max_size"], "expected NAME=VALUE"),
        (["--set", "aliases=[one"], "aliases: expected a list"),
        (["--set", "pool=3", "--set", "pool.max_size=3"], "pool was given a value of its own"),
        (["--set", "pool.max_size=many"], "pool.max_size"),
        (["--port", "70000"], "listen.port"),
        (["--workers", "0"], "listen.workers"),
        (["--config", "/nowhere/sqlhttp.toml"], "/nowhere/sqlhttp.toml"),
    ],
)
def test_a_wrong_setting_is_named_and_the_exit_status_is_2(
    arguments: list[str], message: str, served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert served == []


@pytest.mark.parametrize("given", [URL, f"{URL}?sslmode=disable"])
def test_a_connection_string_in_the_place_of_a_setting_is_not_shown(
    given: str, served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--set", given]) == 2
    said = capsys.readouterr().err
    assert "expected NAME=VALUE" in said
    assert "secret" not in said


def test_an_unknown_variable_of_the_environment_is_named(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SQLHTTP_POOL__MAXSIZE", "3")
    assert cli.main(["serve"]) == 2
    assert "SQLHTTP_POOL__MAXSIZE" in capsys.readouterr().err


def test_an_unknown_key_of_the_file_is_named(
    served: list[Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sqlhttp.toml").write_text("[pool]\nmax_sise = 3\n")
    assert cli.main(["serve", "--config", str(tmp_path / "sqlhttp.toml")]) == 2
    assert "pool.max_sise" in capsys.readouterr().err


def test_serve_without_a_database_says_what_to_set(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    assert cli.main(["serve"]) == 2
    assert "DATABASE_URL" in capsys.readouterr().err


def test_a_wrong_value_is_not_shown_since_it_may_be_a_secret(
    served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["serve", "--set", "targets.reports.url.x=hunter2", "--set", "auth.proof_lifetime=hunter2"])
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigurationError("wrong"), 2), (AddressUnavailable("in use by another"), 1)]
)
def test_address_that_is_not_to_be_had_just_now_is_no_wrong_setting(
    error: ConfigurationError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The systemd unit tries again after 1, and not after 2."""

    def refuse(settings: Settings, *, read: Callable[[], Settings]) -> int:
        raise error

    monkeypatch.setattr(workers, "serve", refuse)
    assert cli.main(["serve", "--set", f"database_url={URL}"]) == status
    assert capsys.readouterr().err == f"sqlhttp: {error}\n"


def test_dev_gets_its_folder_and_says_why_postgres_failed_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[Path] = []

    def fail(settings: Settings, folder: Path) -> int:
        folders.append(folder)
        raise PostgresFailed("no room on the disk")

    monkeypatch.setattr(dev, "dev", fail)
    assert cli.main(["dev", "--data", "/tmp/elsewhere"]) == 1
    assert folders == [Path("/tmp/elsewhere")]
    assert capsys.readouterr().err == "sqlhttp: no room on the disk\n"


def test_help_names_every_command_and_how_to_give_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "serve" in text
    assert "dev" in text
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    assert "SQLHTTP_POOL__MAX_SIZE=20" in capsys.readouterr().out


def test_no_command_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "create", "--role", "a", "--database", "b", "--name", "\udcff"],
        ["cache", "watch", "\udcff"],
        ["tenants", "add", "a", "--host-name", "\udcff"],
    ],
)
def test_bytes_that_are_no_text_are_refused_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [["--instances", "0"], ["--instances", "x"], ["--buffer", "-1"], ["--buffer", "1.5"]])
def test_number_that_check_cannot_count_with_is_refused_in_words(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", *words])
    assert stopped.value.code == 2
    assert "expected a whole number from" in capsys.readouterr().err
