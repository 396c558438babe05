"""A tenant's limits hold where they are lower, and never widen those of all."""

import pytest

from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.model import Allowance


@pytest.mark.parametrize(
    ("allowance", "expected"),
    [
        (Allowance(), Limits(100, 10.0)),
        (Allowance(max_response_bytes=10, statement_timeout=1.0), Limits(10, 1.0)),
        (Allowance(max_response_bytes=1000, statement_timeout=60.0), Limits(100, 10.0)),
    ],
)
def test_lower_one_of_both_holds(allowance: Allowance, expected: Limits) -> None:
    assert Limits(100, 10.0).within(allowance) == expected


def test_tenant_may_have_a_timeout_where_others_have_none() -> None:
    assert Limits(100, 0.0).within(Allowance(statement_timeout=3.0)) == Limits(100, 3.0)
