import os
import subprocess

import pytest

from tests.bench.scheduling import as_batch


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
def test_a_process_is_scheduled_so_for_the_length_of_the_block() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with as_batch(process.pid):
                assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
            assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
        finally:
            process.kill()
