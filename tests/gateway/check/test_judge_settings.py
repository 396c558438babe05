import pytest

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge_settings import judge_settings
from sqlhttp_gateway.settings import load_settings


def judged(*, open_files: int = 20_000, **sections: object) -> dict[str, Finding]:
    return {finding.subject: finding for finding in judge_settings(load_settings(**sections), open_files=open_files)}


def test_defaults_are_good_for_one_machine() -> None:
    assert {finding.level for finding in judged().values()} <= {Level.OK, Level.NOTE}


@pytest.mark.parametrize(
    ("sections", "subject", "level"),
    [
        ({"listen": {"host": "0.0.0.0"}}, "listening", Level.WARNING),
        ({"listen": {"host": "::1"}}, "listening", Level.OK),
        ({"admin": {"allow_from": ["0.0.0.0/0"]}}, "admin", Level.WARNING),
        ({"admin": {"allow_from": ["10.0.0.0/8"]}}, "admin", Level.OK),
        ({"statement": {"timeout": 0}}, "statement timeout", Level.WARNING),
        ({"open_files": 1024}, "open files", Level.WARNING),
        ({"open_files": 5000, "listen": {"max_connections": 5000}}, "open files", Level.WARNING),
        ({"open_files": 1024, "listen": {"max_connections": 100}}, "open files", Level.OK),
        ({"watch": {"webhook_url": "https://hooks.example/x"}}, "webhook", Level.NOTE),
        ({"audit": {"file": "/var/log/sqlhttp/audit.jsonl"}}, "audit", Level.WARNING),
    ],
)
def test_each_setting_that_can_hurt_is_judged(sections: dict[str, object], subject: str, level: Level) -> None:
    finding = judged(**sections)[subject]  # type: ignore[arg-type]  # names of sections
    assert finding.level is level
    assert finding.remedy or level in {Level.OK, Level.NOTE}


def test_memory_is_the_product_of_two_bounds() -> None:
    sections = {"pool": {"max_total": 20}, "response": {"max_bytes": 5_000_000}}
    assert "Rows of 20 answers at once can take 100 MB" in judged(**sections)["memory"].text


def test_address_of_the_webhook_is_not_shown() -> None:
    assert "hooks.example" not in str(judged(watch={"webhook_url": "https://hooks.example/token"}))
