"""What a tenant may take, and what nobody has said of it."""

import pytest

from sqlhttp_gateway.settings import LimitsSettings, load_settings
from tests.support.refused import refused


def test_where_nothing_is_said_nothing_is_bounded() -> None:
    limits = LimitsSettings()
    assert all(getattr(limits, name) is None for name in LimitsSettings.model_fields if name != "roles")


@pytest.mark.parametrize(
    "given", [{"max_concurrent": 0}, {"max_waiting": -1}, {"rate": 0}, {"rate": "inf"}, {"burst": 0}]
)
def test_a_bound_that_would_let_nobody_in_or_is_none_is_refused(given: dict[str, object]) -> None:
    [name] = given
    assert refused(limits=given).startswith(f"limits.{name}: ")
    assert refused(limits={"roles": {"app": given}}).startswith(f"limits.roles.app.{name}: ")


def test_a_role_has_bounds_of_its_own() -> None:
    limits = load_settings(limits={"rate": 5, "roles": {"app": {"rate": 50}}}).limits
    assert (limits.rate, limits.roles["app"].rate) == (5, 50)
