"""The gateway's own role, and the passwords it holds for others."""

import pytest
from pydantic import SecretStr

from sqlhttp_gateway.auth.own_access import Logins, OwnAccess
from sqlhttp_gateway.errors import TargetMisconfigured
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import LoginSettings, Settings
from tests.support.cluster import Database
from tests.support.own_lease import own_lease, running_registry, targets_of

UPSTREAM = Targets(Settings(database_url=SecretStr("postgres://admin:own@db/main"))).default


def test_held_password_is_that_of_the_role_at_its_target() -> None:
    app = LoginSettings(role="app", password=SecretStr("right"))
    elsewhere = LoginSettings(role="app", password=SecretStr("wrong"), target="other")
    assert Logins({"one": elsewhere, "two": app}).password(UPSTREAM, "app") == b"right"


def test_password_of_the_gateways_own_role_is_held_anyway() -> None:
    assert Logins({}).password(UPSTREAM, "admin") == b"own"


def test_role_without_a_held_password_is_named() -> None:
    with pytest.raises(TargetMisconfigured, match='no password for role "app"'):
        Logins({}).password(UPSTREAM, "app")


async def test_lease_is_of_the_configured_role(database: Database) -> None:
    async with own_lease(database) as lease:
        assert await ask(lease, "SELECT current_user") == [(b"postgres",)]


async def test_wrong_password_of_its_own_is_told_as_the_operators_fault(database: Database) -> None:
    async with running_registry() as registry:
        upstream = targets_of(database.as_role("postgres", "wrong")).default
        with pytest.raises(TargetMisconfigured, match="the gateway's own role"):
            async with OwnAccess(registry).lease(upstream):
                pass
