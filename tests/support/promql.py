"""What a PromQL expression reads: which metrics, under which labels. No parser, only what tests of ours ask."""

import re
from collections.abc import Iterator

from sqlhttp_gateway.observe import names, pgbouncer
from sqlhttp_gateway.observe.names import Metric

KNOWN = {metric.name: metric for metric in (*names.ALL, *pgbouncer.ALL)}
ADDED = {"job", "instance"}
"""Labels that Prometheus adds to every series."""

_SERIES = re.compile(r"\b((?:sqlhttp|process|pgbouncer)_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
_PARTS = ("_bucket", "_sum", "_count")


def faults(expression: str) -> list[str]:
    """Metrics that are not ours, and labels that a metric has not got."""
    read = list(_metrics(expression))
    found = [f"{name} is no metric" for name, metric, _ in read if metric is None]
    for name, metric, labels in read:
        if metric is not None:
            found += [f"{name} has no label {label}" for label in labels if label not in {*metric.labels, *ADDED}]
    known = {label for _, metric, _ in read if metric is not None for label in metric.labels} | ADDED | {"le"}
    for group in _GROUPED.findall(expression):
        found += [f"nothing has the label {label.strip()}" for label in group.split(",") if label.strip() not in known]
    return found


def metrics_of(expression: str) -> set[str]:
    """The names of the metrics it reads."""
    return {metric.name for _, metric, _ in _metrics(expression) if metric is not None}


def _metrics(expression: str) -> Iterator[tuple[str, Metric | None, list[str]]]:
    for name, selector in _SERIES.findall(expression):
        metric = KNOWN.get(name)
        for part in _PARTS:
            if metric is None and name.endswith(part):
                metric = KNOWN.get(name.removesuffix(part))
                metric = metric if metric is not None and metric.kind == "histogram" else None
        yield name, metric, _LABEL.findall(selector)
