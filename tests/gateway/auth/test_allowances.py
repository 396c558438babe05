"""Whose word on a limit holds."""

from sqlhttp_gateway.auth.allowances import Allowances
from sqlhttp_gateway.model import Allowance
from sqlhttp_gateway.settings import AllowanceSettings, LimitsSettings

SETTINGS = LimitsSettings(rate=10.0, max_waiting=8, roles={"app": AllowanceSettings(rate=20.0, max_concurrent=6)})


def test_where_nothing_is_limited_there_is_no_allowance() -> None:
    assert Allowances(LimitsSettings(), workers=1).of("app") is None
    assert Allowances(LimitsSettings(), workers=1).of("app", Allowance()) is None


def test_key_goes_before_its_role_and_that_before_what_holds_for_all() -> None:
    allowances = Allowances(SETTINGS, workers=1)
    assert allowances.of("other") == Allowance(rate=10.0, max_waiting=8)
    assert allowances.of("app") == Allowance(rate=20.0, max_concurrent=6, max_waiting=8)
    own = Allowance(max_concurrent=2, burst=5)
    assert allowances.of("app", own) == Allowance(rate=20.0, max_concurrent=2, max_waiting=8, burst=5)


def test_workers_share_what_counts_requests_and_none_gets_nothing() -> None:
    allowances = Allowances(SETTINGS, workers=4)
    own = Allowance(max_concurrent=2, burst=5, statement_timeout=3.0, max_response_bytes=100)
    assert allowances.of("app", own) == Allowance(
        rate=5.0, max_concurrent=1, max_waiting=2, burst=1, statement_timeout=3.0, max_response_bytes=100
    )
