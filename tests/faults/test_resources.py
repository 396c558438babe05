"""A gateway that runs short of something goes on with what it has."""

from collections.abc import Iterator

import pytest

from tests.faults import crowd, resources
from tests.faults.world import World, made


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with made() as world:
        yield world


def test_log_on_a_full_disk_stops_nothing(world: World) -> None:
    assert resources.log_on_a_full_disk(world) == []


def test_log_that_nobody_reads_stops_nothing_and_not_the_end_either(world: World) -> None:
    assert resources.log_that_nobody_reads(world) == []


def test_more_programs_than_there_are_descriptors_cost_those_that_are_there_nothing(world: World) -> None:
    assert resources.files(world) == []


def test_crowd_that_asks_nothing_costs_those_who_ask_nothing(world: World) -> None:
    assert crowd.idle(world, 300) == []


def test_want_of_memory_ends_a_request_or_a_worker_and_nothing_else() -> None:
    with made(workers=2) as world:
        assert resources.memory(world) == []
