"""Targets, replicas and tenants."""

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused


def test_a_target_needs_its_connection_string_which_is_never_shown() -> None:
    assert refused(targets={"reports": {}}) == "targets.reports.url: Field required"
    settings = load_settings(
        targets={"reports": {"url": "postgres://a:hunter2@b/c", "replicas": ["postgres://a:hunter2@d/c"]}}
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("host", ["acme.example:443", "*", "*.", "a.*.example", "https://acme.example", ""])
def test_a_tenants_host_is_a_name_or_a_star_in_front_of_one(host: str) -> None:
    assert "is neither a host without a port nor *. and one" in refused(tenants={"acme": {"hosts": [host]}})
    load_settings(tenants={"acme": {"hosts": ["acme.example", "*.db.example"]}})


def test_servers_are_looked_at_often_enough_for_their_lag_to_mean_something() -> None:
    assert refused(replica={"probe_interval": 0}).startswith("replica.probe_interval: ")
    assert refused(replica={"probe_interval": 61}).startswith("replica.probe_interval: ")
