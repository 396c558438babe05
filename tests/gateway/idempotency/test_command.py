"""`sqlhttp idempotency install`."""

import pytest

from sqlhttp_gateway import cli
from tests.support.cluster import Database


def test_table_is_made_and_may_be_made_again(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    for _ in range(2):
        assert cli.main(["idempotency", "install"]) == 0
    assert "is there" in capsys.readouterr().out
    assert database.psql("SELECT count(*) FROM sqlhttp.idempotency_keys").strip() == "0"


def test_target_that_is_not_in_the_settings_is_named(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    assert cli.main(["idempotency", "install", "--target", "reports"]) == 2
    assert "'reports'" in capsys.readouterr().err
