"""Tables that the gateway believes."""

import pytest

from sqlhttp_gateway.auth.own_table import is_there
from sqlhttp_gateway.errors import TargetMisconfigured
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease
from tests.support.program import scratch_role


async def test_table_is_there_or_not(database: Database) -> None:
    async with own_lease(database) as lease:
        assert not await is_there(lease, "things")
        database.psql("CREATE SCHEMA sqlhttp; CREATE TABLE sqlhttp.things ()")
        assert await is_there(lease, "things")


async def test_table_of_somebody_else_is_named_and_a_view_is_none(database: Database, postgres: Cluster) -> None:
    database.psql("CREATE SCHEMA sqlhttp; CREATE TABLE sqlhttp.things (); CREATE VIEW sqlhttp.seen AS SELECT 1")
    with scratch_role(postgres) as role:
        database.psql(f"ALTER TABLE sqlhttp.things OWNER TO {role}")
        async with own_lease(database) as lease:
            with pytest.raises(TargetMisconfigured, match=r"sqlhttp\.things belongs neither"):
                await is_there(lease, "things")
            assert not await is_there(lease, "seen")
        database.psql("DROP SCHEMA sqlhttp CASCADE")
