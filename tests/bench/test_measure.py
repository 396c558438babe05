import os
import time

import pytest

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


def test_a_sample_tells_its_rate_in_the_file() -> None:
    assert Sample(requests=30, seconds=2.0).as_json()["rate"] == 15.0
