"""The sizes of pools, whole and divided between workers."""

from sqlhttp_gateway.settings import PoolSettings, per_worker
from tests.support.refused import refused


def test_a_least_size_above_the_most_is_refused_with_both_numbers() -> None:
    assert refused(pool={"min_size": 3, "max_size": 2}) == "pool: min_size (3) is above max_size (2)"


def test_a_server_is_looked_for_at_an_interval_that_is_no_busy_loop() -> None:
    assert refused(breaker={"probe_interval": 0}).startswith("breaker.probe_interval: ")


def test_workers_together_keep_to_the_bounds_as_set() -> None:
    pool = PoolSettings(max_size=10, max_total=50, max_waiting=1000, min_size=2)
    share = per_worker(pool, 4)
    assert (share.max_size * 4 <= 10, share.max_total * 4 <= 50, share.max_waiting * 4 <= 1000) == (True, True, True)
    assert (share.max_size, share.max_total, share.max_waiting, share.min_size) == (2, 12, 250, 0)
    assert share.wait_timeout == pool.wait_timeout


def test_one_worker_has_the_bounds_whole() -> None:
    pool = PoolSettings(max_size=7)
    assert per_worker(pool, 1) is pool
