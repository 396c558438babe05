import asyncio
from dataclasses import replace

import pytest

from sqlhttp_gateway.events import Event, Opened
from sqlhttp_gateway.observe.activity import APPLICATION_NAME, Activity
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Database, running_cluster
from tests.support.fleet import Fleet


def activity_of(url: str, events: list[Event]) -> Activity:
    targets = Targets(load_settings(database_url=url))
    activity = Activity(lambda: targets.default.serving, long_query=30.0, keep=10.0, observe=events.append)
    activity.start()
    return activity


@pytest.fixture
def events() -> list[Event]:
    return []


async def test_looks_share_one_connection_that_says_whose_it_is(database: Database, events: list[Event]) -> None:
    activity = activity_of(database.url, events)
    try:
        samples = [await activity.look() for _ in range(3)]
        assert [sample.error for sample in samples] == ["", "", ""]
        assert samples[-1].max_connections == 100
        assert len([event for event in events if isinstance(event, Opened)]) == 1
        seen = database.psql(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'")
        assert int(seen) >= 1
    finally:
        await activity.close()


async def test_postgres_that_is_gone_is_a_sample_with_an_error_and_its_return_is_noticed(events: list[Event]) -> None:
    with running_cluster() as cluster:
        activity = activity_of(cluster.maintenance.url, events)
        try:
            assert (await activity.look()).error == ""
            cluster.stop()
            gone = await activity.look()
            assert gone.error
            assert gone.connections == 1
            cluster.start()
            assert (await activity.look()).error == ""
        finally:
            await activity.close()


async def test_wrong_password_is_an_error_without_the_password(database: Database, events: list[Event]) -> None:
    activity = activity_of(database.as_role("postgres", "not-the-password").url, events)
    try:
        error = (await activity.look()).error
        assert "password authentication failed" in error
        assert "not-the-password" not in error
    finally:
        await activity.close()


async def test_server_that_serves_now_is_the_one_that_is_looked_at(fleet: Fleet, events: list[Event]) -> None:
    """A standby stands for the primary of before; nothing is left open where nobody is to look any more."""
    servers = [Targets(load_settings(database_url=each.maintenance.url)).default for each in fleet.servers[:2]]
    servers = [replace(each, target=replace(each.target, name=f"s{number}")) for number, each in enumerate(servers)]
    serving = servers[0]
    activity = Activity(lambda: serving, long_query=30.0, keep=10.0, observe=events.append)
    activity.start()
    open_there = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'"
    try:
        for number in (0, 1, 0):
            serving = servers[number]
            assert (await activity.look()).error == ""
            here, there = fleet.servers[number], fleet.servers[1 - number]
            assert int(here.maintenance.psql(open_there)) == 1
            async with asyncio.timeout(10):
                while int(there.maintenance.psql(open_there)):  # noqa: ASYNC110 - a backend takes a moment to end
                    await asyncio.sleep(0.01)
    finally:
        await activity.close()
