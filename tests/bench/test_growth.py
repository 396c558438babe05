from tests.bench.axes import AXES, Axis, Point
from tests.bench.growth import sizes_beyond_their_room, steps_that_cost, steps_worse_than_linear, table
from tests.bench.measure import Sample


def test_cost_may_grow_in_proportion_and_no_more() -> None:
    assert steps_worse_than_linear((1, 10, 100), (50.0, 400.0, 5000.0)) == []
    assert steps_worse_than_linear((1, 10, 100), (50.0, 400.0, 9000.0)) == [100]


def test_what_is_no_work_of_a_request_may_hardly_cost_it_anything() -> None:
    assert steps_that_cost((1, 10, 100), (50.0, 60.0, 70.0)) == []
    assert steps_that_cost((1, 10, 100), (50.0, 300.0, 310.0)) == [10]


def test_memory_may_grow_by_the_room_that_each_one_more_has() -> None:
    points = [Point(size, Sample(1, 1.0, memory=memory)) for size, memory in ((1, 50.0), (1_000, 55.0), (10_000, 75.0))]
    assert sizes_beyond_their_room(points, room=0.0) == [10_000]
    assert sizes_beyond_their_room(points, room=2.0) == []


def test_table_has_a_line_for_each_point_and_marks_the_bad_ones() -> None:
    axis = Axis("rows", (1, 10), lambda stage, size, seconds: Sample(1, 1.0), is_work=True)
    points = [Point(size, Sample(10, 1.0, p50=100.0, server_cpu=cpu, memory=50.0)) for size, cpu in ((1, 5), (10, 500))]
    head, first, second = table(axis, points)
    assert head.split()[0] == "rows"
    assert "worse" not in first
    assert second.endswith("worse than linear")


def test_sizes_grow() -> None:
    for axis in AXES:
        assert list(axis.sizes) == sorted(set(axis.sizes))
