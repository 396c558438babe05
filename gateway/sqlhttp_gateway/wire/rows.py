"""DataRow messages taken apart, for the few rows that the gateway itself reads.

What programs receive is made by `neon.rows`, which is built for speed.
"""

from collections.abc import Iterator
from struct import Struct

_INT32_AT = Struct("!i").unpack_from
_INT16_AT = Struct("!H").unpack_from
_HEADER = 5


def rows_of(region: bytes) -> Iterator[tuple[bytes | None, ...]]:
    """The values of each row in `region`, a run of whole DataRow messages; None is NULL."""
    position = 0
    while position < len(region):
        columns = _INT16_AT(region, position + _HEADER)[0]
        position += _HEADER + 2
        values: list[bytes | None] = []
        for _ in range(columns):
            length = _INT32_AT(region, position)[0]
            position += 4
            if length < 0:
                values.append(None)
            else:
                values.append(region[position : position + length])
                position += length
        yield tuple(values)
