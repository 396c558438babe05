import json
from pathlib import Path

import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.check.capacity import Deployment
from sqlhttp_gateway.check.command import check, find
from sqlhttp_gateway.check.finding import Level
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Cluster, Database
from tests.support.gateway import GatewayProcess, free_port


async def test_good_deployment_has_no_error(database: Database) -> None:
    role = f"gateway_of_{database.name}"
    database.psql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'made-by-chance'; GRANT pg_monitor TO {role};"
        f"GRANT SELECT ON pg_authid TO {role}"
    )
    settings = load_settings(database_url=database.as_role(role, "made-by-chance").url)
    try:
        found = await find(settings, Deployment())
    finally:
        database.psql(f"REVOKE SELECT ON pg_authid FROM {role}; DROP ROLE {role}")
    errors = [finding for finding in found if finding.level is Level.ERROR]
    # The tests' superuser has the password that everybody tries first, and that is noticed.
    assert [finding.subject for finding in errors] == ["password"]
    assert "postgres" in errors[0].text
    assert "capacity" in {finding.subject for finding in found}


async def test_every_target_is_looked_at(database: Database) -> None:
    missing = f"postgres://app:word@127.0.0.1:{free_port()}/main"
    settings = load_settings(database_url=database.url, targets={"reports": {"url": missing}})
    reached = [finding for finding in await find(settings, Deployment()) if finding.subject == "reachable"]
    assert [finding.level for finding in reached] == [Level.OK, Level.ERROR]
    assert reached[1].text.startswith("reports (127.0.0.1:")


def test_command_prints_json_and_fails_for_an_error(
    postgres: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.maintenance.url)
    status = cli.main(["check", "--json", "--instances", "3", "--buffer", "1", "--set", "pool.max_total=20"])
    shown = json.loads(capsys.readouterr().out)
    assert (status, shown["ok"]) == (1, False)
    [capacity] = [finding for finding in shown["findings"] if finding["subject"] == "capacity"]
    assert capacity["text"].startswith("floor(97 / 3) - 1 = 31")
    assert capacity["level"] == "ok"


def test_command_translates_a_pgbouncer_ini_without_any_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pgbouncer.ini"
    file.write_text("[databases]\nshop = host=db\n[pgbouncer]\ndefault_pool_size = 7\n")
    assert cli.main(["check", "--from", str(file)]) == 0
    assert "max_size = 7" in capsys.readouterr().out
    assert cli.main(["check", "--json", "--from", str(file)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["pool.max_size"] == 7
    assert {"name", "text"} == set(shown["notes"][0])


def test_file_that_cannot_be_translated_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--from", str(tmp_path / "missing.ini")]) == 2
    assert "missing.ini: No such file" in capsys.readouterr().err


def test_missing_database_url_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 2
    assert "database_url" in capsys.readouterr().err


def test_check_as_a_process_ends_with_its_findings(postgres: Cluster) -> None:
    with GatewayProcess("check", environment={"DATABASE_URL": postgres.maintenance.url}) as process:
        assert process.wait() == 1
    assert "1 error" in process.output
    assert "Traceback" not in process.output


def test_install_auth_installs_what_policies_ask(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    issuer = '{"secret": "0123456789abcdef0123456789abcdef", "roles": ["app"]}'
    settings = load_settings(database_url=database.url, issuers={"mine": json.loads(issuer)})
    check(settings, Deployment(), wants_json=True)
    before = json.loads(capsys.readouterr().out)["findings"]
    assert [each["level"] for each in before if each["subject"] == "claims"] == ["warning"]
    check(settings, Deployment(), wants_json=True, installs_auth=True)
    after = json.loads(capsys.readouterr().out)["findings"]
    assert [each["level"] for each in after if each["subject"] == "claims"] == ["ok"]
    assert database.psql("SELECT auth.user_id() IS NULL").strip() == "t"
