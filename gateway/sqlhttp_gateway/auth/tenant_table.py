"""The table `sqlhttp.tenants`: its definition, reading it, adding to it, removing from it."""

import orjson

from sqlhttp_gateway.auth.allowances import limits_as_json, limits_from_json
from sqlhttp_gateway.auth.own_table import has_changed, make, read_all
from sqlhttp_gateway.auth.tenants import Tenant
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease

TABLE = "tenants"
CREATE = (
    "CREATE SCHEMA IF NOT EXISTS sqlhttp",
    "CREATE TABLE IF NOT EXISTS sqlhttp.tenants ("
    "name text PRIMARY KEY, hosts text[] NOT NULL DEFAULT '{}', databases text[] NOT NULL DEFAULT '{}',"
    " target text NOT NULL DEFAULT 'default', database text, limits json)",
    "REVOKE ALL ON sqlhttp.tenants FROM PUBLIC",
)
_PAGE = 500
_READ = (
    "SELECT pg_catalog.json_build_object('name', name, 'hosts', hosts, 'databases', databases, 'target', target,"
    f" 'database', database, 'limits', limits) FROM sqlhttp.tenants WHERE name > $1 ORDER BY name LIMIT {_PAGE}"
)
_INSERT = (
    "INSERT INTO sqlhttp.tenants (name, hosts, databases, target, database, limits) VALUES ($1,"
    " ARRAY(SELECT pg_catalog.json_array_elements_text($2::json)),"
    " ARRAY(SELECT pg_catalog.json_array_elements_text($3::json)), $4, $5, $6::json)"
    " ON CONFLICT (name) DO UPDATE SET hosts = excluded.hosts, databases = excluded.databases,"
    " target = excluded.target, database = excluded.database, limits = excluded.limits"
)
_REMOVE = "DELETE FROM sqlhttp.tenants WHERE name = $1 RETURNING name"


async def create(lease: Lease) -> None:
    """Make the table where it is missing.

    Raises:
        TargetMisconfigured: there is one that somebody else made.
        GatewayError: the role may not.
    """
    await make(lease, TABLE, CREATE)


async def read(lease: Lease) -> list[Tenant]:
    """The tenants by their names' order; none where there is no table.

    Raises:
        GatewayError: it cannot be read.
    """
    return await read_all(lease, TABLE, _READ, rows=_PAGE, record=_tenant, name=lambda tenant: tenant.name)


async def add(lease: Lease, tenant: Tenant) -> None:
    """Keep one more, or one anew.

    Raises:
        GatewayError: it cannot be written.
    """
    await ask(
        lease,
        _INSERT,
        (
            tenant.name.encode(),
            orjson.dumps(tenant.hosts),
            orjson.dumps(tenant.databases),
            tenant.target.encode(),
            None if tenant.database is None else tenant.database.encode(),
            limits_as_json(tenant.allowance),
        ),
    )


async def remove(lease: Lease, name: str) -> bool:
    """Forget one; False when there is none of this name.

    Raises:
        GatewayError: it cannot be written.
    """
    return await has_changed(lease, _REMOVE, (name.encode(),))


def _tenant(text: bytes) -> Tenant:
    row = orjson.loads(text)
    hosts = tuple(host.lower() for host in row["hosts"] if host)
    databases = tuple(database for database in row["databases"] if database)
    return Tenant(row["name"], hosts, databases, row["target"], row["database"], limits_from_json(row["limits"]))
