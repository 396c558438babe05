"""What one request may be and take."""

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("request", "max_bytes", 0),
        ("request", "read_timeout", 0),
        ("request", "deadline", -1),
        ("response", "max_bytes", 0),
        ("statement", "timeout", -1),
        ("statement", "cancel_timeout", 0),
        ("idempotency", "lifetime", 0),
        ("idempotency", "wait", -1),
    ],
)
def test_a_bound_that_would_let_nothing_through_is_refused_by_its_name(section: str, name: str, value: int) -> None:
    assert refused(**{section: {name: value}}).startswith(f"{section}.{name}: ")


@pytest.mark.parametrize(
    ("section", "name", "most"),
    [
        ("statement", "timeout", 2_147_483),
        ("idempotency", "wait", 2_147_483),
        ("idempotency", "lifetime", 1_000_000_000),
        ("pool", "client_check_interval", 2_147_483),
    ],
)
def test_a_time_that_postgres_cannot_count_is_refused_before_it_is_told(section: str, name: str, most: int) -> None:
    """Else every connection, or every key, would be refused by Postgres."""
    load_settings(**{section: {name: most}})
    assert refused(**{section: {name: most + 1}}).startswith(f"{section}.{name}: ")


def test_zero_sets_no_limit_where_that_can_be_asked_for() -> None:
    settings = load_settings(statement={"timeout": 0}, request={"deadline": 0}, idempotency={"wait": 0})
    assert (settings.statement.timeout, settings.request.deadline, settings.idempotency.wait) == (0, 0, 0)
