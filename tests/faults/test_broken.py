"""The checks see what is broken: here the quickest of them. `make faults-seen` shows it of all."""

import re
import subprocess
import sys

import pytest

from tests.faults.breakages import BREAKAGES
from tests.faults.broken import CHECKS, look

APPLY_EACH = """
import os, traceback
from tests.faults.breakages import BREAKAGES

for name, breakage in BREAKAGES.items():
    if not os.fork():
        try:
            breakage.apply()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if not os.wait()[1]:
        print(name)
"""
QUICK = (
    "the queue is served from its end",
    "a wait has another second",
    "a token's claims are another one's",
)


def test_each_breakage_has_a_check_that_exists_and_is_known_by_a_sign() -> None:
    assert {breakage.check for breakage in BREAKAGES.values()} == CHECKS.keys(), "no check that nothing tries"
    for breakage in BREAKAGES.values():
        assert re.compile(breakage.sign)


def test_what_is_to_be_broken_is_still_there() -> None:
    """Each in a process of its own, since nobody mends it."""
    done = subprocess.run([sys.executable, "-c", APPLY_EACH], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, list(BREAKAGES)), done.stderr


@pytest.mark.parametrize("name", QUICK)
def test_breakage_is_seen(name: str) -> None:
    seen = look(BREAKAGES[name], patience=60)
    assert seen.finding, seen.others
