"""Where answers are kept in this process: bounded by bytes, and given up by age of use and by what they cost to fetch.

Whether an entry is good is decided by the stamps of what it rests on, whether it is fresh by whoever asks.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.model import Bookmark

OVERHEAD = 600
"""Bytes that an entry takes beside its answer: the objects around it and its place in two tables."""
_BUCKET = 40
"""Bytes of each number of a bucket; an answer of all of a table's partitions rests on two for each."""
_CANDIDATES = 8
"""Entries, of those that were used longest ago, among which the cheapest to fetch again goes first."""
_AT_ONCE = 1000
"""Entries that are looked at in one turn of the loop, half a millisecond; there may be a million."""


@dataclass(slots=True)
class Entry:
    """One answer."""

    key: bytes
    body: bytes = field(repr=False)
    """The reply's bytes."""
    row_count: int
    began: int
    """What is stamped from here on ends it, in nanoseconds of the stamps' clock."""
    ttl: float
    swr: float
    """Seconds, as asked for by whoever had it fetched."""
    cost: float
    """Seconds that it took to fetch."""
    buckets: tuple[int, ...]
    """All that it rests on."""
    place: tuple[str, str]
    text: str = field(repr=False)
    """Its statement, for the status page; shown only as a shape."""
    hits: int = 0
    filled: int = 0
    """When its query began, which its age counts from; another gateway may have sent it, so that `began` is later."""

    since: Bookmark | None = None
    """It shows all that stands for this bookmark, and for every one before it; None: of no bookmark that is known."""
    seen: Bookmark | None = None
    """It shows nothing beyond this one."""

    def __post_init__(self) -> None:
        self.filled = self.filled or self.began

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.body) + len(self.text) + OVERHEAD + _BUCKET * len(self.buckets)

    def shows(self, bookmark: Bookmark | None) -> bool:
        """Whether it is no older than what the bookmark stands for."""
        return bookmark is None or (self.since is not None and self.since.covers(bookmark))

    @property
    def keep_until(self) -> int:
        """When nobody wants it any more, in nanoseconds."""
        return self.filled + int((self.ttl + self.swr) * 1e9)


class Store:
    """Entries by key."""

    def __init__(self, max_bytes: int, stamps: Stamps, *, on_evict: Callable[[], None] = lambda: None) -> None:
        self._max_bytes = max_bytes
        self._stamps = stamps
        self._on_evict = on_evict
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.size = 0
        """Bytes held."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an entry, good or not."""
        return key in self._entries

    def get(self, key: bytes) -> Entry | None:
        """A good entry, however old; one that is good no more is dropped here."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not self._stamps.is_good(entry.buckets, entry.began):
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, entry: Entry) -> bool:
        """Keep it; False when it is larger than all the room there is."""
        if entry.size > self._max_bytes:
            return False
        self.drop(entry.key)
        self._entries[entry.key] = entry
        self.size += entry.size
        self._make_room(entry.key)
        return True

    def resize(self, max_bytes: int) -> None:
        """Another bound, which holds at once."""
        self._max_bytes = max_bytes
        self._make_room()

    def drop(self, key: bytes) -> None:
        """Forget one, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size

    def drop_if(self, condition: Callable[[Entry], bool]) -> int:
        """Forget all for which this holds; how many those were."""
        keys = [key for key, entry in self._entries.items() if condition(entry)]
        for key in keys:
            self.drop(key)
        return len(keys)

    def sweep(self) -> Iterator[None]:
        """Forget what is good no more or wanted no more, so that it takes no room from the rest: some at each step,
        between which others can have their turn."""
        stamps, entries, keys = self._stamps, self._entries, iter(list(self._entries))
        while some := list(islice(keys, _AT_ONCE)):
            now = stamps.now()
            for key in some:
                entry = entries.get(key)
                if entry is not None and (entry.keep_until <= now or not stamps.is_good(entry.buckets, entry.began)):
                    self.drop(key)
            yield

    def hottest(self, count: int) -> list[Entry]:
        """The entries with most hits, of those that were used last."""
        used = islice(reversed(self._entries.values()), _AT_ONCE)
        return sorted(used, key=lambda entry: -entry.hits)[:count]

    def _make_room(self, newest: bytes = b"") -> None:
        while self.size > self._max_bytes:
            self._evict(newest)

    def _evict(self, newest: bytes) -> None:
        now = self._stamps.now()
        oldest = [entry for entry in islice(self._entries.values(), _CANDIDATES + 1) if entry.key != newest]
        # What nobody wants goes first; else what gives back most room for the least time lost.
        loser = min(oldest[:_CANDIDATES], key=lambda entry: (entry.keep_until > now, entry.cost / entry.size))
        self.drop(loser.key)
        self._on_evict()
