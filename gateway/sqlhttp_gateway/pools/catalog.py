"""What Postgres's catalog knows of types that are not built in: only whether one is an array, and of what.

Remembered by the pool, since a type's OID means the same to all connections of a database.
"""

from collections.abc import Iterable, Mapping

from sqlhttp_gateway.model import ArrayType
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease

_MAX_REMEMBERED = 10_000
# A domain over an array shows as its base type in a row description, so one look at typelem is enough. An array is what
# its element calls typarray: typelem alone also marks point, name and the like.
_QUERY = (
    "SELECT a.oid, e.oid, e.typdelim, b.oid FROM pg_catalog.pg_type a"
    " JOIN pg_catalog.pg_type e ON e.typarray = a.oid"
    " LEFT JOIN pg_catalog.pg_type b ON b.oid = e.typbasetype"
    " WHERE a.oid = ANY($1::oid[])"
)


async def learn_array_types(lease: Lease, oids: Iterable[int]) -> Mapping[int, ArrayType]:
    """The arrays among the types `oids`, and all that the pool has learnt before.

    Raises:
        GatewayError: the catalog could not be asked.
    """
    known = lease.pool.array_types
    missing = [oid for oid in oids if oid not in known]
    if missing:
        if len(known) > _MAX_REMEMBERED:
            known.clear()
        known.update(dict.fromkeys(missing))
        literal = "{" + ",".join(map(str, missing)) + "}"
        for array, element, delimiter, base in await ask(lease, _QUERY, (literal.encode(),)):
            assert array is not None
            assert element is not None
            assert delimiter is not None
            known[int(array)] = ArrayType(int(base or element), delimiter.decode())
    return {oid: kind for oid, kind in known.items() if kind is not None}
