"""How many connections of each pool stay with one program, so that the others keep a share."""

from sqlhttp_gateway.errors import PinsExhausted
from sqlhttp_gateway.pools.pool import Pool


class Pins:
    """At most `max_pinned` pins a pool, and always one connection fewer than the pool has."""

    def __init__(self, max_pinned: int) -> None:
        self._max_pinned = max_pinned
        self._pinned: dict[Pool, int] = {}

    def reconfigure(self, max_pinned: int) -> None:
        """Another limit; what is pinned stays so."""
        self._max_pinned = max_pinned

    def limit(self, pool: Pool) -> int:
        """How many connections of this pool may be pinned."""
        return min(self._max_pinned, max(1, pool.upstream.pool.max_size - 1))

    def pinned(self, pool: Pool) -> int:
        """How many are."""
        return self._pinned.get(pool, 0)

    def enter(self, pool: Pool) -> None:
        """Pin one more.

        Raises:
            PinsExhausted: that would be too many.
        """
        if self.pinned(pool) >= self.limit(pool):
            raise PinsExhausted(
                f"{self.limit(pool)} connections of database {pool.key.database}, role {pool.key.role} already stay "
                "with one program each (tunnel.max_pinned)",
                hint="Use what ends with its transaction (SET LOCAL, pg_advisory_xact_lock, ON COMMIT DROP), "
                "or raise tunnel.max_pinned.",
            )
        self._pinned[pool] = self.pinned(pool) + 1

    def leave(self, pool: Pool) -> None:
        """One fewer."""
        left = self.pinned(pool) - 1
        if left:
            self._pinned[pool] = left
        else:
            self._pinned.pop(pool, None)
