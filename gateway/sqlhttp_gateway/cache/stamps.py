"""When something was last invalidated: a moment for each of many buckets, in memory that all workers share.

An entry names the buckets of all that it rests on: its database, its tags, the relations it read. It is good as long as
none of them was stamped at or after the moment at which its query began. So an invalidation costs one store of eight
bytes for each name, however many entries it ends, is seen by every worker at once, and also ends what is being
fetched just now. Names that fall into one bucket end each other's entries, which costs a fetch and is never wrong.

The clock is CLOCK_MONOTONIC, which Linux counts for the whole system.
"""

import mmap
import time
from collections.abc import Iterable
from zlib import crc32

BUCKETS = 1 << 16
Place = tuple[str, str]
"""Target and database."""


class Stamps:
    """The buckets. To be made before the workers are forked."""

    def __init__(self, buckets: int = BUCKETS) -> None:
        self._count = buckets
        self._memory = mmap.mmap(-1, (2 * buckets + 1) * 8)
        cells = memoryview(self._memory).cast("Q")
        # An aligned cell is written by one store, so that nobody reads half of it.
        self._stamped = cells[:buckets]
        self._kept = cells[buckets:]
        self.used = self._kept[buckets:]
        """One number: 0 as long as nothing was ever kept, by any worker."""

    def now(self) -> int:
        """The moment, in nanoseconds."""
        return time.monotonic_ns()

    def bucket(self, *names: str) -> int:
        """Where what goes by these names is stamped."""
        return crc32("\0".join(names).encode(errors="surrogatepass")) % self._count

    def bucket_of_place(self, place: Place) -> int:
        """Where `keep` says that there are entries of a place."""
        return self.bucket(*place)

    def last(self, bucket: int) -> int:
        """When it was last stamped."""
        return self._stamped[bucket]

    def stamp(self, buckets: Iterable[int]) -> None:
        """What rests on any of these and began before now is good no more."""
        now, stamped = self.now(), self._stamped
        for bucket in buckets:
            if stamped[bucket] < now:
                stamped[bucket] = now

    def is_good(self, buckets: Iterable[int], began: int) -> bool:
        """Whether none of these was stamped since a query `began`."""
        stamped = self._stamped
        for bucket in buckets:  # noqa: SIM110 - a generator would cost as much again
            if stamped[bucket] >= began:
                return False
        return True

    def keep(self, place: Place, until: int) -> None:
        """Entries of `place` may be somewhere until then. Said before the query of the first of them begins."""
        bucket = self.bucket_of_place(place)
        if self._kept[bucket] < until:
            self._kept[bucket] = until
        self.used[0] = 1

    def is_kept(self, bucket: int) -> bool:
        """Whether any worker may have entries of the place with this bucket."""
        return self._kept[bucket] > self.now()
