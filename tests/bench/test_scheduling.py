import os
import subprocess

import pytest

from tests.bench.scheduling import apart_from, as_batch


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
def test_a_process_is_scheduled_so_for_the_length_of_the_block() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with as_batch(process.pid):
                assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
            assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
        finally:
            process.kill()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores, and Linux"
)
def test_a_program_has_a_core_of_its_own_for_the_length_of_the_block() -> None:
    cores = os.sched_getaffinity(0)
    with subprocess.Popen(["sleep", "60"]) as server:
        try:
            with apart_from([server.pid]):
                own, others = os.sched_getaffinity(0), os.sched_getaffinity(server.pid)
                assert len(own) == 1
                assert own | others == cores
                assert not own & others
            assert os.sched_getaffinity(0) == os.sched_getaffinity(server.pid) == cores
        finally:
            server.kill()
