"""What stayed as it was, and what grew."""

from dataclasses import replace

from tests.faults.flatness import AFTERMATH, Flat, Moment, judge, quiet, slope
from tests.faults.sampling import Sample

LEVEL = [
    Sample(
        at=float(second),
        memory=80.0,
        descriptors=40,
        callers=20,
        threads=3,
        cpu=0.05,
        leased=2,
        waiting=0,
        backends=6,
        requests=50,
        errors={},
        p50=1.0,
        p99=4.0,
        direct=0.5,
        failed=0,
    )
    for second in range(1, 1001)
]


def row(rows: list[Flat], what: str) -> Flat:
    [found] = [row for row in rows if row.what.startswith(what)]
    return found


def test_what_stays_as_it_was_is_flat() -> None:
    assert all(row.is_kept for row in judge(LEVEL, []))
    assert slope(LEVEL) == 0.0


def test_memory_that_grows_by_more_than_a_twentieth_is_not_flat() -> None:
    leaking = [replace(sample, memory=80.0 + sample.at / 100) for sample in LEVEL]
    assert not row(judge(leaking, []), "memory").is_kept
    assert abs(slope(leaking) - 36.0) < 0.1
    less = [replace(sample, memory=80.0 + sample.at / 300) for sample in LEVEL]
    assert row(judge(less, []), "memory").is_kept


def test_what_the_first_tenth_fills_is_no_growth() -> None:
    warming = [replace(sample, memory=min(80.0, 40 + sample.at / 2)) for sample in LEVEL]
    assert all(row.is_kept for row in judge(warming, []))
    assert slope(warming) == 0.0


def test_callers_who_come_in_greater_number_are_no_growth() -> None:
    crowded = [
        replace(sample, descriptors=40 + int(sample.at / 100), callers=20 + int(sample.at / 100)) for sample in LEVEL
    ]
    assert row(judge(crowded, []), "descriptors").is_kept


def test_threads_that_asyncio_makes_when_it_needs_one_more_at_a_time_are_flat() -> None:
    assert row(judge([replace(sample, threads=3 + (sample.at > 900)) for sample in LEVEL], []), "threads").is_kept


def test_descriptors_and_threads_that_become_more_are_not_flat() -> None:
    leaking = [
        replace(sample, descriptors=40 + int(sample.at / 100), threads=3 + int(sample.at / 15)) for sample in LEVEL
    ]
    assert not row(judge(leaking, []), "descriptors").is_kept
    assert not row(judge(leaking, []), "threads").is_kept


def test_slow_machine_is_no_slow_gateway() -> None:
    busy = [replace(sample, p50=3.0, direct=1.5) if sample.at % 3 else sample for sample in LEVEL]
    assert all(row.is_kept for row in judge(busy, []))
    slower = [replace(sample, p50=1.5) if sample.at > 500 else sample for sample in busy]
    assert not row(judge(slower, []), "probe's p50").is_kept
    later = [replace(sample, p99=7.0) if sample.at > 500 else sample for sample in LEVEL]
    assert not row(judge(later, []), "probe's p99").is_kept


def test_requests_that_cost_more_and_more_are_not_flat() -> None:
    dearer = [replace(sample, cpu=0.05 + sample.at / 20_000) for sample in LEVEL]
    assert not row(judge(dearer, []), "CPU").is_kept


def test_moments_of_trouble_are_left_out_where_times_are_compared() -> None:
    troubled = [replace(sample, p50=500.0) if sample.at >= 910 else sample for sample in LEVEL]
    assert row(judge(troubled, [Moment("restart", 909.5, 1000.0)]), "probe's p50").is_kept
    assert not row(judge(troubled, []), "probe's p50").is_kept
    trouble = Moment("restart", 10.0, 11.0)
    left = {sample.at for sample in quiet(LEVEL, [trouble])}
    assert 9.0 in left
    assert not {10.0, 11.0, 11.0 + AFTERMATH} & left
    assert 13.0 + AFTERMATH in left


def test_seconds_in_which_nothing_was_there_to_measure_are_left_out() -> None:
    away = [replace(sample, p50=None, p99=None, direct=None, requests=0) for sample in LEVEL]
    assert [row.what for row in judge(away, [])] == ["memory, MiB", "descriptors but callers'", "threads"]
