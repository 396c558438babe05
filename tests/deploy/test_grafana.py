import json
import re
from pathlib import Path
from typing import Any

import pytest

from sqlhttp_gateway.observe import names
from sqlhttp_gateway.settings import WatchSettings
from tests.support.promql import faults, metrics_of

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "sqlhttp.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_reads_metrics_and_labels_that_exist(expression: str) -> None:
    assert faults(expression) == []


def test_legends_name_labels_that_the_expression_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            kept = {
                label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_every_metric_of_the_gateway_is_on_the_dashboard_or_is_no_curve() -> None:
    shown = {name for expression in EXPRESSIONS for name in metrics_of(expression)}
    no_curves = {"sqlhttp_build_info", "sqlhttp_start_time_seconds", "sqlhttp_workers", "process_open_fds"}
    no_curves |= {"sqlhttp_connections", "sqlhttp_postgres_up", "sqlhttp_postgres_sampled_time_seconds"}
    no_curves |= {"sqlhttp_settings_time_seconds"}
    assert {metric.name for metric in names.ALL} - shown == no_curves


def test_panels_have_places_and_sources_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$(\w+)", " ".join(EXPRESSIONS))) - {"__rate_interval"} <= variables


def test_lines_on_the_panel_of_connections_are_the_thresholds_of_the_watch() -> None:
    settings = WatchSettings()
    factors = {float(factor) for expression in EXPRESSIONS for factor in re.findall(r"\* (0\.\d+)$", expression)}
    assert factors == {settings.connections_warning, settings.connections_critical}
