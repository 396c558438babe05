"""Tables that the gateway believes: only those that belong to its own role or to a superuser.

Anybody who may create a schema could else say who may come in, and where to.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlhttp_gateway.errors import PostgresError, TargetMisconfigured
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.for_owner import only_for_owner
from sqlhttp_gateway.pools.lease import Lease

Kept = TypeVar("Kept")

_NO_TABLE = ("42P01", "3F000")
"""undefined_table, and invalid_schema_name."""
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


async def make(lease: Lease, table: str, statements: Iterable[str]) -> None:
    """Make the table by these statements, which change nothing where it is; what is made is its owner's alone.

    Who was given rights to it later keeps them.

    Raises:
        TargetMisconfigured: there is one that somebody else made.
        GatewayError: the role may not.
    """
    was_there = await is_there(lease, table)
    for statement in statements:
        await ask(lease, statement)
    if not was_there:
        await ask(lease, only_for_owner(f"sqlhttp.{table}"))
    await is_there(lease, table)


async def read_all(
    lease: Lease, table: str, page: str, *, rows: int, record: Callable[[bytes], Kept], name: Callable[[Kept], str]
) -> list[Kept]:
    """What is kept in the table, `rows` at a time: `page` asks for those behind the name $1, in the order of names.

    None where there is no table.

    Raises:
        GatewayError: it cannot be read.
    """
    if not await is_there(lease, table):
        return []
    found: list[Kept] = []
    last = b""
    while True:
        # Whoever may write there is believed, also in how much: a key may list hundreds of statements.
        some = await ask(lease, page, (last,), max_bytes=0)
        found += [record(row[0] or b"") for row in some]
        if len(some) < rows:
            return found
        last = name(found[-1]).encode()


async def has_changed(lease: Lease, statement: str, params: Sequence[bytes | None]) -> bool:
    """Whether a statement that returns what it changes has changed anything; not where there is no table.

    Raises:
        GatewayError: it cannot be written.
    """
    try:
        return bool(await ask(lease, statement, params))
    except PostgresError as error:
        if error.code in _NO_TABLE:
            return False
        raise


async def foreign(lease: Lease, question: str) -> str:
    """The names of what stands in the place of the gateway's own and is somebody else's; empty when nothing does."""
    return ", ".join(row[0].decode() for row in await ask(lease, question) if row[0] is not None)
