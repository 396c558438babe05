import gc
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from sqlhttp_gateway.observe.metrics import Metrics
from sqlhttp_gateway.observe.reporter import Place, Reporter
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.pools.registry import PoolRegistry
from tests.support.answered import answered


def worker(place: Place | None = None) -> tuple[Metrics, Reporter]:
    """A worker without a pool, and what it counts with."""
    metrics = Metrics(50, before=place.before() if place else None)
    registry = PoolRegistry(max_total=5, cancel_timeout=1.0, observe=metrics)
    return metrics, Reporter(metrics=metrics, registry=registry, connections_limit=10, place=place)


@pytest.fixture
async def pair() -> AsyncIterator[list[tuple[Metrics, Reporter]]]:
    slots = Slots(2)
    workers = [worker(Place(slots, number)) for number in range(2)]
    yield workers
    for _, reporter in workers:
        await reporter.stop()


def requests(reporter: Reporter) -> int:
    return sum(sum(each.outcomes.values()) for each in reporter.whole().counts.databases.values())


async def test_only_worker_tells_of_itself_and_needs_nobody() -> None:
    metrics, reporter = worker()
    reporter.start()
    metrics(answered())
    assert requests(reporter) == 1
    assert (reporter.whole().workers, reporter.whole().connections_limit) == (1, 10)
    await reporter.stop()


async def test_worker_knows_what_another_one_has_told_and_its_own_part_at_once(
    pair: list[tuple[Metrics, Reporter]],
) -> None:
    (first_metrics, first), (second_metrics, second) = pair
    second_metrics(answered())
    await second.stop()
    assert requests(first) == 0, "nothing was told before a worker starts to"
    second.start()
    await second.stop()
    first_metrics(answered())
    assert requests(first) == 2
    assert first.whole().workers == 2


async def test_worker_in_the_place_of_one_that_ended_counts_on_from_there(
    pair: list[tuple[Metrics, Reporter]],
) -> None:
    (_, first), (second_metrics, second) = pair
    second.start()
    second_metrics(answered())
    await second.stop()
    assert second._place is not None
    successor_metrics, successor = worker(second._place)
    successor_metrics(answered())
    assert requests(first) == 1, "what the one that ended told counts once, also while the next has told nothing"
    successor.start()
    await successor.stop()
    assert requests(first) == requests(successor) == 2


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system has no /proc")
@pytest.mark.parametrize("tells", [True, False])
async def test_open_files_are_counted_whether_the_kernel_tells_their_number_or_not(
    tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reporter = worker()

    def counted() -> int:
        with monkeypatch.context() as kernel:
            if not tells:
                kernel.setattr(os, "stat", lambda _: SimpleNamespace(st_size=0))
            return reporter.own().open_files

    gc.collect()
    for _ in range(100):  # a thread that another test has left may close something just now
        before = counted()
        pipe = os.pipe()
        after = counted()
        for end in pipe:
            os.close(end)
        if after == before + 2:
            break
    assert after == before + 2 > 2
