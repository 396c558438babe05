"""When memory is given back, and that it is."""

import platform
import subprocess
import sys
from errno import EMFILE

import pytest

from sqlhttp_gateway.memory import GROWN, Memory

MIB = 1024 * 1024


class Process:
    """So large, and so often asked to give back what it does not need."""

    def __init__(self, size: int, *, needed: int = 0) -> None:
        self.size = size
        self.needed = needed
        self.asked = 0
        self.memory = Memory(lambda: self.size, self.give_back)
        self.memory.look()

    def give_back(self) -> None:
        self.asked += 1
        self.size = min(self.size, self.needed)

    def grows_to(self, size: int) -> int:
        """How often it has been asked once that was looked at."""
        self.size = size
        self.memory.look()
        return self.asked


def test_a_process_that_has_hardly_grown_is_left_alone() -> None:
    process = Process(60 * MIB)
    assert process.grows_to(60 * MIB + GROWN - 1) == 0
    assert process.grows_to(60 * MIB) == 0


def test_one_that_has_grown_gives_back_what_it_does_not_need() -> None:
    process = Process(60 * MIB, needed=62 * MIB)
    assert process.grows_to(80 * MIB) == 1
    assert process.size == 62 * MIB
    assert process.grows_to(62 * MIB) == 1
    assert process.grows_to(60 * MIB + GROWN) == 2


def test_a_process_that_can_open_no_file_goes_on() -> None:
    def resident() -> int:
        raise OSError(EMFILE, "Too many open files")

    asked: list[None] = []
    Memory(resident, lambda: asked.append(None)).look()
    assert asked == []


def test_one_that_needed_it_when_it_was_asked_is_asked_again_soon() -> None:
    process = Process(60 * MIB, needed=90 * MIB)  # a large answer is on its way
    assert process.grows_to(90 * MIB) == 1
    process.needed = 61 * MIB
    assert process.grows_to(90 * MIB) == 2
    assert process.size == 61 * MIB


def test_one_that_goes_on_to_need_all_of_it_is_asked_ever_more_rarely_and_then_not_until_it_has_grown_further() -> None:
    process = Process(60 * MIB, needed=500 * MIB)
    asked = [process.grows_to(100 * MIB) for _ in range(100)]
    tries = [look for look in range(100) if asked[look] > (asked[look - 1] if look else 0)]
    assert tries == [0, 1, 3, 7, 15, 31]
    assert process.grows_to(100 * MIB + GROWN - 1) == 6
    assert process.grows_to(100 * MIB + GROWN) == 7


def test_one_that_comes_down_by_itself_and_grows_anew_is_asked_at_once() -> None:
    process = Process(60 * MIB, needed=500 * MIB)
    for _ in range(5):
        process.grows_to(100 * MIB)
    asked = process.grows_to(61 * MIB)
    assert process.grows_to(100 * MIB) == asked + 1


def test_growth_is_counted_from_the_least() -> None:
    process = Process(60 * MIB, needed=40 * MIB)
    assert process.grows_to(40 * MIB) == 0
    assert process.grows_to(40 * MIB + GROWN) == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing, or have no such call")
def test_what_was_freed_below_something_in_use_really_goes_back() -> None:
    """In a process of its own: in one that has freed much, the blocks take no memory that was not there."""
    subprocess.run([sys.executable, "-c", _FREED], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no place to look at")
def test_what_only_cycles_hold_goes_back_too() -> None:
    subprocess.run([sys.executable, "-c", _IN_CYCLES], check=True, timeout=60)


_FREED = f"""
from sqlhttp_gateway.memory import Memory, resident_bytes
memory = Memory()
memory.look()
blocks = [bytes([number % 256]) * 8_000 for number in range(4_000)]
last = blocks.pop()
full = resident_bytes()
blocks.clear()
memory.look()
assert resident_bytes() < full - 20 * {MIB}, (resident_bytes(), full)
"""

_IN_CYCLES = f"""
from sqlhttp_gateway.memory import Memory, resident_bytes
memory = Memory()
memory.look()
held = [bytearray(30 * {MIB})]
held.append(held)
full = resident_bytes()
del held
assert resident_bytes() > full - 10 * {MIB}
memory.look()
assert resident_bytes() < full - 20 * {MIB}, (resident_bytes(), full)
"""
