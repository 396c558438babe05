import os
import threading
import time

import pytest

from tests.bench import measure
from tests.bench.measure import Sample, cpu_seconds, family_cpu_seconds, percentile


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (99, 4), (100, 4), (1, 1)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, value: float) -> None:
    assert percentile([1, 2, 3, 4], percent) == value


def test_cpu_time_is_read_as_the_process_itself_sees_it() -> None:
    while time.process_time() < 0.05:  # or a tick of 10 ms would be too coarse to see anything
        pass
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
    own = cpu_seconds(os.getpid())
    assert family_cpu_seconds(os.getpid()) >= own


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the system counts in ticks alone")
def test_cpu_time_of_less_than_a_tick_is_seen() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure, "_TICK", 0.0)
        own = cpu_seconds(os.getpid())
        used = time.process_time()
        while time.process_time() < used + 0.002:
            pass
        assert 0.001 < cpu_seconds(os.getpid()) - own < 1.0


def test_cpu_time_of_threads_that_have_ended_is_not_forgotten() -> None:
    def work() -> None:
        while time.thread_time() < 0.1:
            pass

    before = cpu_seconds(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_seconds(os.getpid()) - before > 0.05


def test_a_sample_tells_its_rate_in_the_file() -> None:
    assert Sample(requests=30, seconds=2.0).as_json()["rate"] == 15.0
