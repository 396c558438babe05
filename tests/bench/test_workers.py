import os

from tests.bench.measure import Sample
from tests.bench.workers import LOADS, Placement, Seen, on_cores, placements, table


def test_workers_are_placed_on_all_cores_and_on_half_of_them() -> None:
    assert list(map(str, placements({0, 1}))) == [
        "1 on core 0+1, the rest on core 0+1",
        "2 on core 0+1, the rest on core 0+1",
        "1 on core 0, the rest on core 1",
        "2 on core 0, the rest on core 1",
        "2 on core 0+1, the rest on core 1",
    ]
    assert Placement(2, frozenset({0, 1}), frozenset({2, 3})) in placements(range(4))


def test_one_core_is_everybodys() -> None:
    assert {placement.others for placement in placements({3})} == {frozenset({3})}


def test_cores_are_those_of_the_block_alone() -> None:
    before = os.sched_getaffinity(0)
    with on_cores({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_ratios_are_against_the_first_placement_in_the_same_round() -> None:
    def seen(rate: int) -> Seen:
        samples = {name: Sample(rate, 1.0, server_cpu=100.0, postgres_cpu=50.0) for name, _ in LOADS}
        return Seen(samples, memory=60.0, backends=10, counted=2 * rate, requests=2 * rate)

    one, two = placements({0, 1})[:2]
    lines = table({one: [seen(100), seen(1_000)], two: [seen(150), seen(1_500)]}).split("\n")
    assert len(lines) == 1 + 2 * len(LOADS)
    assert "1.50" in lines[3]
    assert lines[3].endswith("3,300 of 3,300")
