"""A connection for one command."""

import pytest

from sqlhttp_gateway.auth.one_command import lease_for, run
from sqlhttp_gateway.errors import ConfigurationError, TargetUnavailable
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Database


def test_lease_is_that_of_the_gateways_own_role_and_is_closed_after_it(database: Database) -> None:
    settings = load_settings(database_url=database.url)

    async def who() -> list[tuple[bytes | None, ...]]:
        async with lease_for(settings) as lease:
            return await ask(lease, "SELECT current_user")

    assert run(who()) == [(b"postgres",)]
    there = "datname = current_database() AND application_name = 'sqlhttp'"
    assert database.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {there}").strip() == "0"


def test_refusal_is_told_with_its_remedy_and_without_a_traceback() -> None:
    async def fails() -> None:
        raise TargetUnavailable("target default: cannot connect", hint="Start it.")

    with pytest.raises(ConfigurationError, match=r"target default: cannot connect\nStart it\."):
        run(fails())
