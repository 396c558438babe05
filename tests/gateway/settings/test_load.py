"""Where settings come from, which source wins, and how a fault is told."""

from pathlib import Path

import pytest

from sqlhttp_gateway.settings import load_settings, unknown_environment
from tests.support.refused import refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sqlhttp.toml"


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_arguments_win_over_the_environment_and_that_over_the_file_name_by_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[pool]\nmax_size = 3\nmax_waiting = 33\nwait_timeout = 0.5\n")
    monkeypatch.setenv("SQLHTTP_POOL__MAX_SIZE", "4")
    monkeypatch.setenv("SQLHTTP_POOL__MAX_WAITING", "44")
    pool = load_settings(file=file, pool={"max_size": 5}).pool
    assert (pool.max_size, pool.max_waiting, pool.wait_timeout, pool.min_size) == (5, 44, 0.5, 0)


def test_database_url_is_read_from_the_environment_unless_there_is_a_nearer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def url(**given: object) -> str | None:
        secret = load_settings(**given).database_url
        return secret.get_secret_value() if secret else None

    assert url() is None
    monkeypatch.setenv("DATABASE_URL", "postgres://plain/db")
    assert url() == "postgres://plain/db"
    monkeypatch.setenv("SQLHTTP_DATABASE_URL", "postgres://own/db")
    assert url() == "postgres://own/db"
    assert url(database_url="postgres://argument/db") == "postgres://argument/db"


def test_an_empty_database_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert load_settings().database_url is None


def test_targets_and_lists_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLHTTP_TARGETS__REPORTS__URL", "postgres://reports.internal/db")
    monkeypatch.setenv("SQLHTTP_TARGETS__REPORTS__ALIASES", '["reports", "reports:6432"]')
    target = load_settings().targets["reports"]
    assert target.url.get_secret_value() == "postgres://reports.internal/db"
    assert target.aliases == ("reports", "reports:6432")


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_name_is_refused_wherever_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(pool={"max_sise": 1}) == "pool.max_sise: there is no such setting"
    file.write_text("max_sise = 1\n[pool]\nmax_sise = 1\n[poool]\nmax_size = 1\n")
    text = refused(file=file)
    assert text.count("there is no such setting") == 3
    assert "pool.max_sise:" in text
    monkeypatch.setenv("SQLHTTP_POOL__MAX_SISE", "1")
    assert refused() == "unknown setting in the environment: SQLHTTP_POOL__MAX_SISE"


@pytest.mark.parametrize(
    ("variable", "is_known"),
    [
        ("SQLHTTP_POOL__MAX_SIZE", True),
        ("sqlhttp_pool__max_size", True),
        ("SQLHTTP_DATABASE_URL", True),
        ("SQLHTTP_TARGETS__ANY_NAME__URL", True),
        ("SQLHTTP_ENDPOINT", True),  # the client's
        ("SQLHTTP_POOL__MAX_SIZE__X", False),
        ("SQLHTTP_POOL_MAX_SIZE", False),
        ("SQLHTTP_", False),
        ("OTHER_POOL__SIZE", True),  # somebody else's
    ],
)
def test_which_variables_name_a_setting(variable: str, is_known: bool) -> None:
    assert unknown_environment({variable: "1"}) == ([] if is_known else [variable])


def test_a_value_out_of_range_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLHTTP_POOL__MAX_SIZE", "0")
    assert refused() == "pool.max_size: Input should be greater than or equal to 1"
    monkeypatch.setenv("SQLHTTP_POOL__MAX_SIZE", "hunter2")
    assert "hunter2" not in refused()


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLHTTP_ALIASES", "one,two")
    assert "aliases" in refused()
    assert "JSON" in refused()


@pytest.mark.parametrize("many", [3_000, 100_000])
def test_lists_in_lists_beyond_reason_are_a_fault_of_the_settings(file: Path, many: int) -> None:
    """What is no ConfigurationError ends the parent of the workers when it reads its settings again."""
    file.write_text(f"aliases = {'[' * many}{']' * many}")
    assert refused(file=file).startswith(f"settings file {file}: ")


def test_a_file_that_is_missing_or_no_toml_is_named(file: Path) -> None:
    assert refused(file=file) == f"settings file {file} does not exist"
    file.write_text("[pool\n")
    assert refused(file=file).startswith(f"settings file {file}: ")
    file.write_bytes(b"\xff\xfe")
    assert refused(file=file).startswith(f"settings file {file}: ")


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────────

SERVICE_LINKS = {
    "SQLHTTP_SERVICE_HOST": "10.0.0.7",
    "SQLHTTP_SERVICE_PORT": "80",
    "SQLHTTP_SERVICE_PORT_HTTP": "80",
    "SQLHTTP_PORT": "tcp://10.0.0.7:80",
    "SQLHTTP_PORT_80_TCP": "tcp://10.0.0.7:80",
    "SQLHTTP_PORT_80_TCP_PROTO": "tcp",
    "SQLHTTP_PORT_80_TCP_PORT": "80",
    "SQLHTTP_PORT_80_TCP_ADDR": "10.0.0.7",
    "SQLHTTP_GATEWAY_PORT": "tcp://10.0.0.8:80",
}


def test_what_kubernetes_says_of_a_service_is_no_wrong_setting() -> None:
    assert unknown_environment(SERVICE_LINKS) == []


def test_setting_with_one_underscore_too_few_is_a_wrong_one_all_the_same() -> None:
    wrong = {"SQLHTTP_LISTEN_PORT": "80", "SQLHTTP_POOL_MAX_SIZE": "5", "SQLHTTP_PORT": "80"}
    assert unknown_environment(wrong) == sorted(wrong)
    assert unknown_environment({"SQLHTTP_LISTEN__PORT": "80"}) == []
