"""What the long form makes of its parts."""

import pytest

from tests.faults.__main__ import Shortage, Whole
from tests.faults.cancels import Race
from tests.faults.killing import Killing
from tests.faults.probes import Measured
from tests.faults.run import Report


def whole(*measured: Measured, shortage: str = "", killing: str = "", log: str = "") -> Whole:
    shortages = [Shortage("descriptors", [shortage] if shortage else [])]
    killings = Killing(faults=[killing] if killing else [])
    return Whole(Report(1), Report(1), Report(1), killings, Race(), list(measured), shortages, [log] if log else [])


def test_nothing_found_is_no_fault() -> None:
    assert whole(Measured("a refusal", 0.01, 0.01)).faults == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (whole(Measured("a refusal", 0.0123, 0.01)), "a refusal: 0.012, at most 0.01"),
        (whole(shortage="no answer"), "descriptors: no answer"),
        (whole(killing="written 2 times"), "written 2 times"),
        (whole(log="a traceback in the log"), "a traceback in the log"),
    ],
)
def test_limit_that_is_missed_is_a_fault_as_everything_else_that_is_found(found: Whole, fault: str) -> None:
    assert found.faults == [fault]
