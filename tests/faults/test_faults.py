"""The short form: a fixed seed and a few seconds. `make faults` is the long one."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.cancels import keys_of_survivors, race
from tests.faults.episodes import QUICK
from tests.faults.killing import kill_again_and_again
from tests.faults.run import run
from tests.faults.troubles import MILD, OF_WORKERS
from tests.faults.world import CANARY, World, made

SEED = 20


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with made() as world:
        yield world


def test_nothing_is_lost_doubled_or_mixed_up_of_what_goes_the_quick_way(world: World) -> None:
    """First of all, since plain writes go another way once the cache was asked."""
    report = asyncio.run(run(world, seed=SEED + 1, episodes=10**9, seconds=3, kinds=QUICK, troubles=MILD))
    assert report.faults == [], _unforeseen(world)
    assert sum(count for (_, outcome), count in report.outcomes.items() if outcome == "ok") > 10


def test_nothing_is_lost_doubled_mixed_up_or_left_behind_whatever_happens(world: World) -> None:
    report = asyncio.run(run(world, seed=SEED, episodes=10**9, seconds=8))
    assert report.faults == [], _unforeseen(world)
    assert sum(count for (_, outcome), count in report.outcomes.items() if outcome == "ok") > 10
    assert report.troubles


def test_write_with_a_key_is_there_once_although_the_gateway_is_killed_in_the_middle(world: World) -> None:
    told = asyncio.run(kill_again_and_again(world, seed=SEED, seconds=4))
    assert told.faults == []
    assert told.kills
    assert told.interrupted
    assert told.writes


def test_secrets_are_in_no_log(world: World) -> None:
    log = world.log.read_text()
    assert log, "something was logged"
    assert CANARY not in log
    assert "Traceback" not in log


def test_late_cancel_meets_nobody_else(world: World) -> None:
    told = asyncio.run(race(world, seed=SEED, seconds=4))
    assert told.faults == []
    assert told.hit
    assert told.sent > told.hit
    assert told.undisturbed > 20


def test_nothing_is_lost_or_left_behind_when_workers_are_killed_and_stopped() -> None:
    with made(workers=2) as world:
        assert asyncio.run(keys_of_survivors(world)) == []
        report = asyncio.run(run(world, seed=SEED, episodes=10**9, seconds=8, troubles=OF_WORKERS))
        assert report.faults == [], _unforeseen(world)
        assert sum(report.troubles.values()) > 1
        assert sum(count for (_, outcome), count in report.outcomes.items() if outcome == "ok") > 10
        world.process.stop()
        assert CANARY not in world.log.read_text()
        assert "Traceback" not in world.log.read_text()


def _unforeseen(world: World) -> str:
    """What the gateway's log has of something that should not have happened."""
    _, mark, rest = world.log.read_text().partition("Traceback")
    return mark + rest[:5000]
