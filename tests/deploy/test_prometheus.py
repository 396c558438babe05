import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sqlhttp_gateway import errors
from sqlhttp_gateway.observe import names
from sqlhttp_gateway.observe.alerts import NAMES
from sqlhttp_gateway.observe.families import Families, exposition, put_report, snake
from sqlhttp_gateway.settings import WatchSettings
from tests.support.promql import faults, metrics_of
from tests.support.reports import report

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
GROUPS = {group["name"]: group["rules"] for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]}
RULES: list[dict[str, Any]] = [rule for rules in GROUPS.values() for rule in rules]
WATCH = {rule["alert"]: rule for rule in GROUPS["sqlhttp-watch"]}
PROMTOOL = shutil.which("promtool")


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_rule_reads_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}


def test_reasons_of_refusals_are_those_of_errors() -> None:
    reasons = {snake(name) for name, value in vars(errors).items() if isinstance(value, type)}
    for rule in RULES:
        for value in re.findall(r'reason=~?"([^"]+)"', rule["expr"]):
            assert set(value.split("|")) <= reasons


def test_thresholds_are_those_of_the_watch() -> None:
    settings = WatchSettings()
    assert {name: float(rule["expr"].split()[-1]) for name, rule in WATCH.items()} == {
        "SqlhttpDatabaseDown": 0,
        "SqlhttpTargetDown": 0,
        "SqlhttpConnectionsHigh": settings.connections_warning,
        "SqlhttpConnectionsCritical": settings.connections_critical,
        "SqlhttpIdleInTransaction": settings.idle_in_transaction,
        "SqlhttpSessionsWaiting": settings.waiting,
        "SqlhttpLongQuery": settings.long_query,
        "SqlhttpPoolWait": settings.pool_wait,
    }
    assert len(WATCH) == len(NAMES) + 1, "one for each alert of the watch, and two for the severities of connections"


def test_what_must_stay_0_has_a_rule() -> None:
    read = {name for rule in RULES for name in metrics_of(rule["expr"])}
    assert {metric.name for metric in names.ALL if "ust stay 0" in metric.meaning} <= read


@pytest.mark.parametrize(
    "series", sorted({each for rule in RULES for each in re.findall(r"increase\(([^[]+)\[", rule["expr"])})
)
def test_what_a_rule_sees_increase_is_there_before_the_first_time(series: str) -> None:
    """Prometheus sees no increase in a series that begins with 1."""
    families = Families()
    put_report(families, report(), version="1", max_labels=50)
    text, _ = exposition(families, "")
    assert f"{series} 0.0\n" in text.decode()


def test_example_of_a_configuration_reads_the_rules_and_asks_for_the_right_path() -> None:
    shown = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert shown["rule_files"] == ["alerts.yaml"]
    [job] = shown["scrape_configs"]
    assert job["job_name"] == "sqlhttp"
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert 'up{job="sqlhttp"}' in str([rule["expr"] for rule in RULES])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_accepts_rules_and_configuration() -> None:
    assert PROMTOOL is not None
    for command in (["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yaml"]):
        done = subprocess.run([PROMTOOL, *command], cwd=FOLDER, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
