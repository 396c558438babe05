"""What the gateway keeps in tables is for nobody whom the database gives rights to every new table."""

from collections.abc import Awaitable, Callable

import pytest

from sqlhttp_gateway.auth import claims, key_table, tenant_table
from sqlhttp_gateway.idempotency import store
from sqlhttp_gateway.pools.lease import Lease
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease
from tests.support.program import scratch_role

_GRANTED = (
    "SELECT coalesce(string_agg(c.relname || ' ' || a.grantee::regrole || ' ' || a.privilege_type, ','), '')"
    " FROM pg_class c, aclexplode(c.relacl) a"
    " WHERE c.relnamespace = 'sqlhttp'::regnamespace AND a.grantee <> c.relowner"
)


@pytest.mark.parametrize("make", [claims.install, store.install, key_table.create, tenant_table.create])
async def test_default_privileges_give_nobody_what_the_gateway_keeps(
    database: Database, postgres: Cluster, make: Callable[[Lease], Awaitable[None]]
) -> None:
    with scratch_role(postgres) as role:
        database.psql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {role}, PUBLIC")
        async with own_lease(database) as lease:
            await make(lease)
        granted = database.psql(_GRANTED).strip()
        database.psql(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {role}, PUBLIC")
    assert granted == ""


async def test_who_was_given_rights_to_the_table_of_keys_keeps_them(database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        async with own_lease(database) as lease:
            await key_table.create(lease)
            database.psql(f"GRANT SELECT ON sqlhttp.api_keys TO {role}")
            await key_table.create(lease)
        assert database.psql(_GRANTED).strip() == f"api_keys {role} SELECT"
        database.psql(f"REVOKE ALL ON sqlhttp.api_keys FROM {role}")
