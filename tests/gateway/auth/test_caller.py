"""Who asks, once that is proven."""

from typing import Any

import pytest

from sqlhttp_gateway.auth.caller import Caller, password_of
from sqlhttp_gateway.auth.grant import Grant

POOL: Any = None


@pytest.mark.parametrize(
    ("bounds", "tenant"),
    [
        ({}, "role:default/app"),
        ({"is_tenant": True}, "tenant:default/main"),
        ({"grant": Grant(tenant="key:k1")}, "key:k1"),
        ({"grant": Grant(tenant="jwt:acme:ada"), "is_tenant": True}, "jwt:acme:ada"),
    ],
    ids=["a role", "a tenant's name", "an API key", "a token"],
)
def test_turns_are_counted_by_the_closest_that_was_shown(bounds: dict[str, Any], tenant: str) -> None:
    assert Caller("default", "main", "app", POOL, 0.0, **bounds).tenant == tenant


def test_roles_of_one_name_on_two_targets_are_two_tenants() -> None:
    assert Caller("default", "main", "app", POOL, 0.0).tenant != Caller("reports", "main", "app", POOL, 0.0).tenant


def test_password_is_that_of_the_connection_string() -> None:
    assert password_of(b"postgres://app:s%20ecret@db/main") == b"s ecret"
    assert password_of(b"postgres://app@db/main") == b""
