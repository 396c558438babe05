"""What Postgres's catalog knows of types that are not built in: only whether one is an array, and of what.

Remembered by the pool, since a type's OID means the same to all connections of a database.
"""

from collections.abc import Iterable, Mapping

from sqlhttp_gateway.model import ArrayType
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease

_MAX_REMEMBERED = 10_000
# A domain shows as its base type in a row description, and so do the elements of an array of domains when they are
# printed; what a domain stands on may be a domain again, or an array. An array is what its element calls typarray:
# typelem alone also marks point, name and the like.
_QUERY = """
WITH RECURSIVE step(array_type, delimiter, element) AS (
    SELECT e.typarray, e.typdelim, e.oid FROM pg_catalog.pg_type e WHERE e.typarray = ANY ($1::oid[])
    UNION
    SELECT next.* FROM step, LATERAL (
        SELECT step.array_type, step.delimiter, d.typbasetype
            FROM pg_catalog.pg_type d WHERE d.oid = step.element AND d.typtype = 'd'
        UNION ALL
        SELECT e.typarray, e.typdelim, e.oid FROM pg_catalog.pg_type e WHERE e.typarray = step.element
    ) next
)
SELECT step.array_type, step.element, step.delimiter
    FROM step JOIN pg_catalog.pg_type t ON t.oid = step.element WHERE t.typtype <> 'd'
"""


async def learn_array_types(lease: Lease, oids: Iterable[int]) -> Mapping[int, ArrayType]:
    """The arrays among the types `oids`, and all that the pool has learnt before.

    Raises:
        GatewayError: the catalog could not be asked.
    """
    pool = lease.pool
    if len(pool.array_types) > _MAX_REMEMBERED:
        pool.array_types = {}  # not emptied: others may be in the middle of this function with what they found in it
    known = pool.array_types
    missing = [oid for oid in oids if oid not in known]
    if missing:
        literal = "{" + ",".join(map(str, missing)) + "}"
        learnt: dict[int, ArrayType | None] = dict.fromkeys(missing)
        for array, element, delimiter in await ask(lease, _QUERY, (literal.encode(),)):
            assert array is not None
            assert element is not None
            assert delimiter is not None
            learnt[int(array)] = ArrayType(int(element), delimiter.decode())
        known.update(learnt)  # only now: until Postgres has answered nobody knows that they are none
    return {oid: kind for oid, kind in known.items() if kind is not None}
