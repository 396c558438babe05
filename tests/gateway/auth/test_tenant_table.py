"""Tenants in a table: kept, changed, removed, read in pages."""

from sqlhttp_gateway.auth import tenant_table
from sqlhttp_gateway.auth.tenants import Tenant
from sqlhttp_gateway.model import Allowance
from tests.support.cluster import Database
from tests.support.own_lease import own_lease

FULL = Tenant(
    "ac'me",
    hosts=("a.example", "*.b.example"),
    databases=('ma"in', "ü"),
    target="two",
    database="x_{name}",
    allowance=Allowance(rate=5.5, max_concurrent=2),
)
PLAIN = Tenant("plain")


async def test_tenants_come_back_as_they_were_kept_and_changed(database: Database) -> None:
    async with own_lease(database) as lease:
        await tenant_table.create(lease)
        await tenant_table.add(lease, FULL)
        await tenant_table.add(lease, PLAIN)
        assert await tenant_table.read(lease) == [FULL, PLAIN]
        changed = Tenant("plain", databases=("p",))
        await tenant_table.add(lease, changed)
        assert await tenant_table.read(lease) == [FULL, changed]
        assert await tenant_table.remove(lease, "plain") is True
        assert await tenant_table.remove(lease, "plain") is False


async def test_where_there_is_no_table_there_are_no_tenants(database: Database) -> None:
    async with own_lease(database) as lease:
        assert await tenant_table.read(lease) == []
        assert await tenant_table.remove(lease, "x") is False


async def test_more_tenants_than_a_page_are_all_read(database: Database) -> None:
    async with own_lease(database) as lease:
        await tenant_table.create(lease)
        database.psql(
            "INSERT INTO sqlhttp.tenants (name, hosts) SELECT n, ARRAY[n || '.EXAMPLE', NULL]"
            " FROM generate_series(10000, 11233) n"
        )
        found = await tenant_table.read(lease)
    assert (len(found), found[0].hosts) == (1234, ("10000.example",))
