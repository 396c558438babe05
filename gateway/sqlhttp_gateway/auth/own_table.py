"""Tables that the gateway believes: only those that belong to its own role or to a superuser.

Anybody who may create a schema could else say who may come in, and where to.
"""

from sqlhttp_gateway.errors import TargetMisconfigured
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease

_OWNER = (
    "SELECT r.rolname = current_user OR r.rolsuper FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner"
    " WHERE n.nspname = 'sqlhttp' AND c.relname = $1 AND c.relkind = 'r'"
)


async def is_there(lease: Lease, table: str) -> bool:
    """Whether there is a table `sqlhttp.TABLE` to believe.

    Raises:
        TargetMisconfigured: there is one, and it is somebody else's.
    """
    owners = await ask(lease, _OWNER, (table.encode(),))
    if any(owner != (b"t",) for owner in owners):
        raise TargetMisconfigured(
            f"sqlhttp.{table} belongs neither to the gateway's own role nor to a superuser, and is not believed"
        )
    return bool(owners)
