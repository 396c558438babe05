import re

from sqlhttp_gateway.observe import names
from sqlhttp_gateway.observe.families import Families, put_report
from tests.support.reports import full_report


def test_every_metric_is_shown_and_nothing_else_is() -> None:
    families = Families()
    put_report(families, full_report(), version="1", max_labels=50)
    shown = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert shown == {metric.name for metric in names.ALL}


def test_names_follow_prometheus_s_rules() -> None:
    assert len({metric.name for metric in names.ALL}) == len(names.ALL)
    for metric in names.ALL:
        assert re.fullmatch(r"(sqlhttp|process)_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert metric.meaning.endswith("."), metric.name
