import pytest

from sqlhttp_gateway.events import Event, Opened
from sqlhttp_gateway.observe.activity import APPLICATION_NAME, Activity
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Database, running_cluster


def activity_of(url: str, events: list[Event]) -> Activity:
    targets = Targets(load_settings(database_url=url))
    activity = Activity(targets.default, long_query=30.0, keep=10.0, observe=events.append)
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
