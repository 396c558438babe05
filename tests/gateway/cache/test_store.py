import sys
from typing import Any

from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.cache.store import Entry, Store
from sqlhttp_gateway.model import Bookmark


class Clock(Stamps):
    """Stamps whose clock the test moves."""

    at = 1_000_000_000

    def now(self) -> int:
        return self.at


def entry(key: bytes, **changes: Any) -> Entry:
    usual: dict[str, Any] = {
        "key": key,
        "body": b"x" * 400,
        "row_count": 1,
        "began": Clock.at,
        "ttl": 60.0,
        "swr": 0.0,
        "cost": 0.01,
        "buckets": (1,),
        "place": ("default", "main"),
        "text": "",
    }
    return Entry(**usual | changes)


SIZE = entry(b"").size


def test_answer_is_there_until_something_it_rests_on_is_stamped() -> None:
    clock = Clock()
    store = Store(10 * SIZE, clock)
    kept = entry(b"a", buckets=(1, 2))
    assert store.put(kept)
    assert store.get(b"a") is kept
    clock.stamp([3])
    assert store.get(b"a") is kept
    clock.stamp([2])
    assert store.get(b"a") is None
    assert (len(store), store.size) == (0, 0)


def test_store_never_holds_more_than_its_bytes() -> None:
    evicted = []
    store = Store(5 * SIZE, Clock(), on_evict=lambda: evicted.append(1))
    for number in range(50):
        store.put(entry(b"%d" % number))
        assert store.size <= 5 * SIZE
    assert len(store) == 5
    assert len(evicted) == 45
    assert not store.put(entry(b"huge", body=b"x" * 10 * SIZE))


def test_small_answer_of_many_partitions_is_counted_with_all_that_it_rests_on() -> None:
    partitions = 2000
    many = [entry(b"%d" % number, buckets=tuple(range(1000, 1000 + 2 * partitions))) for number in range(20)]
    taken = sum(sys.getsizeof(number) for number in many[0].buckets) + sys.getsizeof(many[0].buckets)
    store = Store(5 * taken, Clock())
    for each in many:
        store.put(each)
    assert 3 <= len(store) <= 5


def test_same_key_is_one_answer() -> None:
    store = Store(5 * SIZE, Clock())
    store.put(entry(b"a"))
    store.put(entry(b"a"))
    assert (len(store), store.size) == (1, SIZE)


def test_answer_that_was_used_stays_longer_than_one_that_was_not() -> None:
    store = Store(20 * SIZE, Clock())
    for number in range(20):
        store.put(entry(b"%d" % number))
    store.get(b"0")
    for number in range(20, 32):
        store.put(entry(b"%d" % number))
    assert store.get(b"0") is not None


def test_answer_that_costs_much_to_fetch_stays_longer_than_a_cheap_one_of_its_age() -> None:
    store = Store(4 * SIZE, Clock())
    store.put(entry(b"dear", cost=5.0))
    for number in range(6):
        store.put(entry(b"%d" % number))
    assert store.get(b"dear") is not None


def test_answer_whose_time_is_over_goes_before_all_others() -> None:
    clock = Clock()
    store = Store(3 * SIZE, clock)
    store.put(entry(b"a"))
    store.put(entry(b"over", ttl=0.1, cost=100.0))
    store.put(entry(b"b"))
    clock.at += 10**9
    store.put(entry(b"c"))
    assert store.get(b"over") is None
    assert store.get(b"a") is not None


def test_sweep_gives_back_the_room_of_what_nobody_can_get_any_more() -> None:
    clock = Clock()
    store = Store(10 * SIZE, clock)
    store.put(entry(b"a", buckets=(5,)))
    store.put(entry(b"b", ttl=0.1, buckets=(6,)))
    store.put(entry(b"c", buckets=(7,)))
    clock.at += 10**9
    clock.stamp([5])
    assert list(store.sweep()) == [None]
    assert [hot.key for hot in store.hottest(9)] == [b"c"]


def test_sweep_of_many_leaves_others_their_turn_and_bears_what_they_do() -> None:
    clock = Clock()
    store = Store(5000 * SIZE, clock)
    for number in range(3500):
        store.put(entry(b"%d" % number, ttl=0.1 if number % 2 else 60.0))
    clock.at += 10**9
    steps = 0
    for _ in store.sweep():
        steps += 1
        store.drop(b"3400")
        store.put(entry(b"3499", ttl=60.0, began=clock.at))
    assert steps == 4
    assert len(store) == 1750
    assert b"3499" in store


def test_hottest_are_those_with_most_hits() -> None:
    store = Store(10 * SIZE, Clock())
    for number in range(4):
        store.put(entry(b"%d" % number, hits=number))
    assert [hot.key for hot in store.hottest(2)] == [b"3", b"2"]


def test_hottest_are_found_without_a_look_at_every_entry() -> None:
    """It is done every second."""
    store = Store(5000 * SIZE, Clock())
    for number in range(3000):
        store.put(entry(b"%d" % number, hits=number % 7))
    hot = store.get(b"6")
    assert hot is not None
    hot.hits = 100
    assert store.hottest(1) == [hot]
    unseen = store._entries[b"7"]
    unseen.hits = 200  # without being used
    assert store.hottest(1) == [hot]


def test_answer_shows_what_a_bookmark_of_the_same_timeline_up_to_its_own_stands_for() -> None:
    kept = entry(b"a", since=Bookmark(1, 2, 300))
    assert kept.shows(None)
    assert kept.shows(Bookmark(1, 2, 300))
    assert not kept.shows(Bookmark(1, 2, 301))
    assert not kept.shows(Bookmark(1, 1, 100)), "positions of two timelines do not compare"
    assert not kept.shows(Bookmark(9, 2, 100))
    assert not entry(b"b").shows(Bookmark(1, 2, 1)), "of which nothing is known"


def test_room_that_became_less_is_kept_to_at_once() -> None:
    gone: list[None] = []
    store = Store(3 * SIZE, Clock(), on_evict=lambda: gone.append(None))
    for key in (b"a", b"b", b"c"):
        store.put(entry(key))
    store.resize(SIZE)
    assert (len(store), store.size, len(gone)) == (1, SIZE, 2)
    store.resize(3 * SIZE)
    assert store.put(entry(b"d"))
    assert len(store) == 2
