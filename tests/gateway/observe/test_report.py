from sqlhttp_gateway.observe.counts import Counts
from sqlhttp_gateway.observe.report import FRESH_FOR, decode_report, encode_report, merged
from tests.support.reports import full_report, pool, report, sample


def test_report_survives_the_way_through_shared_memory() -> None:
    assert decode_report(encode_report(full_report())) == full_report()
    assert decode_report(encode_report(report())) == report()


def test_workers_pools_of_one_key_become_one_of_their_common_size() -> None:
    first = report(pools=(pool(leased=2, longest_wait=0.1, waiting=1), pool(role="reader")), tunnels=3)
    second = report(
        pools=(pool(leased=3, longest_wait=0.4, waiting=2),), connections=4, started=1_600_000_000.0, tunnels=4
    )
    whole = merged([first, second], now=101.0)
    assert [(each.role, each.leased, each.waiting, each.longest_wait, each.max_size) for each in whole.pools] == [
        ("app", 5, 3, 0.4, 10),
        ("reader", 2, 0, 0.0, 10),
    ]
    assert (whole.workers, whole.connections, whole.connections_limit) == (2, 7, 50)
    assert whole.started == 1_600_000_000.0
    assert whole.resident_bytes == 80_000_000
    assert whole.tunnels == 7


def test_worker_that_no_longer_reports_counts_for_its_counters_and_for_nothing_else() -> None:
    gone = report(at=100.0, counts=Counts(cancels=5), connections=9)
    here = report(at=100.0 + FRESH_FOR, counts=Counts(cancels=1))
    whole = merged([here, gone], now=100.0 + FRESH_FOR)
    assert whole.counts.cancels == 6
    assert (whole.workers, whole.connections, len(whole.pools)) == (1, 3, 1)
    assert whole.pools[0].leased == 2


def test_sample_of_the_worker_that_looks_is_everyones_with_its_alerts() -> None:
    looking = full_report()
    assert merged([report(), looking], now=101.0).sample == looking.sample
    assert merged([report(), looking], now=101.0).firing == looking.firing
    assert merged([report(), report()], now=101.0).sample is None


def test_later_sample_counts_when_the_looking_worker_was_replaced() -> None:
    later = sample(at=1_700_000_010.0)
    assert merged([full_report(), report(sample=later)], now=101.0).sample == later


def test_connections_of_programs_and_their_limit_are_added_by_door() -> None:
    whole = merged([full_report(), full_report()], now=101.0)
    assert (whole.programs, whole.programs_limit) == ({"http": 14, "websocket": 2, "tcp": 6}, 20_000)
