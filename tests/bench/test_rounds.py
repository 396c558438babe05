import signal
from collections.abc import Callable

import pytest

from tests.bench import rounds
from tests.bench.measure import Run, Sample, Unavailable
from tests.bench.rounds import Rounds, TookTooLong, limited, shuffled

RUNS = [Run(name, "key", 1) for name in "abcd"]


def played(measure: Callable[[Run], Sample], *, limit: float = 60.0) -> Rounds:
    rounds = Rounds(RUNS, measure, limit=limit)
    rounds.play(0)
    rounds.play(1)
    return rounds


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_SETTLE", 0.0)


def test_every_run_is_made_once_a_round_and_in_another_order() -> None:
    order: list[Run] = []

    def measure(run: Run) -> Sample:
        order.append(run)
        return Sample(1, 1.0)

    done = played(measure)
    assert [len(done.samples[run]) for run in RUNS] == [2, 2, 2, 2]
    assert sorted(order[:4]) == sorted(order[4:]) == sorted(RUNS)
    assert order[:4] != order[4:]
    assert shuffled([], 0) == []


def test_what_is_not_there_is_left_out_and_breaks_nothing() -> None:
    def measure(run: Run) -> Sample:
        if run.subject == "b":
            raise Unavailable("b is not installed")
        return Sample(1, 1.0)

    done = played(measure)
    assert done.missing == {"b": "b is not installed"}
    assert (len(done.samples), done.broken) == (3, [])


def test_a_run_that_hangs_is_ended_told_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RUN_LIMIT", 0.05)
    tried = []

    def measure(run: Run) -> Sample:
        if run.subject == "c":
            tried.append(run)
            signal.pause()
        return Sample(1, 1.0)

    done = played(measure)
    assert done.missing == {"c": "took longer than 0.05 s"}
    assert len(tried) == len(done.broken) == 1
    assert len(done.samples) == 3


def test_a_run_that_fails_stops_no_other_and_its_fault_is_told_whole() -> None:
    def measure(run: Run) -> Sample:
        if run.subject == "a":
            raise RuntimeError("wrk ended with 1")
        return Sample(1, 1.0)

    done = played(measure)
    assert len(done.samples) == 3
    [told] = done.broken
    assert "wrk ended with 1" in told


def test_no_run_begins_when_the_time_is_up() -> None:
    done = played(lambda run: Sample(1, 1.0), limit=0.0)
    assert done.is_over
    assert done.samples == {}


def test_a_limit_ends_the_block_and_leaves_no_timer_behind() -> None:
    with pytest.raises(TookTooLong), limited(0.01):
        signal.pause()
    with limited(60.0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
