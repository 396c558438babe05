"""Fixtures only. What they are made of lives in tests/support."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.cluster import Cluster, Database, running_cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One private cluster a session: `port`, `maintenance.url`, `await create_database()`, `psql`."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def database(postgres: Cluster) -> AsyncIterator[Database]:
    """A fresh database for one test: `url`, `await connect()`, `psql(sql)`, `as_role(role, password)`."""
    database = await postgres.create_database()
    yield database
    await postgres.drop_database(database)
