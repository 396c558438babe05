import orjson

from sqlhttp_gateway.observe.counts import BUCKETS, Counts, DatabaseCounts, Histogram


def test_duration_is_counted_in_the_first_bucket_that_is_not_below_it() -> None:
    histogram = Histogram()
    histogram.observe(BUCKETS[0])
    histogram.observe(BUCKETS[0] * 1.01)
    histogram.observe(BUCKETS[-1] * 2)
    assert histogram.counts[:2] == [1, 1]
    assert histogram.counts[-1] == 1
    assert sum(histogram.counts) == 3
    assert histogram.sum == BUCKETS[0] * 2.01 + BUCKETS[-1] * 2


def example() -> Counts:
    counts = Counts(refusals={"QueueFull": 2}, closed={"idle": 1}, cancels=3, leaked=0, cpu_seconds=1.5)
    counts.databases["default", "main"] = DatabaseCounts(outcomes={"ok": 5, "pool": 1}, statements=6, rows=7)
    counts.databases["default", "main"].wait_seconds.observe(0.3)
    counts.opened.observe(0.02)
    return counts


def test_counts_of_two_workers_add_up_whatever_each_has_met() -> None:
    total, other = example(), Counts(refusals={"QueueFull": 1, "WaitTimeout": 4}, cancels=1)
    other.databases["default", "main"] = DatabaseCounts(outcomes={"ok": 1})
    other.databases["default", "second"] = DatabaseCounts(rows=3)
    total.add(other)
    assert total.refusals == {"QueueFull": 3, "WaitTimeout": 4}
    assert total.cancels == 4
    assert total.databases["default", "main"].outcomes == {"ok": 6, "pool": 1}
    assert total.databases["default", "main"].statements == 6
    assert total.databases["default", "second"].rows == 3
    assert sum(total.opened.counts) == 1


def test_adding_leaves_the_other_as_it_was_and_shares_nothing_with_it() -> None:
    other = example()
    total = Counts()
    total.add(other)
    assert total == other
    total.databases["default", "main"].wait_seconds.observe(1)
    total.databases["default", "main"].outcomes["ok"] += 1
    total.refusals["QueueFull"] += 1
    assert other == example()


def test_counts_survive_the_way_through_json() -> None:
    assert Counts.from_plain(orjson.loads(orjson.dumps(example().to_plain()))) == example()
