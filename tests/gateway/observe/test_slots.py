import mmap
import os

import pytest

from sqlhttp_gateway.observe.slots import HALF, Slots


def test_slot_is_empty_until_its_worker_has_said_something() -> None:
    slots = Slots(2)
    assert slots.write(1, b"one")
    assert (slots.read(0), slots.read(1)) == (None, b"one")


def test_last_word_counts_and_neighbours_keep_theirs() -> None:
    slots = Slots(3)
    for number in range(3):
        assert slots.write(number, b"first of %d" % number)
    for word in (b"second", b"third, and longer", b"4"):
        assert slots.write(1, word)
        assert slots.read(1) == word
    assert (slots.read(0), slots.read(2)) == (b"first of 0", b"first of 2")


def test_too_large_a_word_is_refused_and_the_last_one_stays() -> None:
    slots = Slots(1)
    assert slots.write(0, b"x" * (HALF - 8))
    assert not slots.write(0, b"y" * (HALF - 7))
    assert slots.read(0) == b"x" * (HALF - 8)


def test_half_that_changes_while_it_is_read_is_not_believed() -> None:
    slots = Slots(1)
    slots.write(0, b"a word")
    at = slots._start(0, 1) + 8
    slots._memory[at : at + 1] = b"A"
    assert slots.read(0) is None


def test_parent_reads_what_a_forked_worker_said_even_when_that_has_died() -> None:
    slots = Slots(2)
    pid = os.fork()
    if pid == 0:
        slots.write(1, b"from the child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert slots.read(1) == b"from the child"


class Dying:
    """Memory whose writer dies at its n-th write."""

    def __init__(self, memory: mmap.mmap, last: int) -> None:
        self._memory = memory
        self._left = last

    def __getitem__(self, place: int) -> int:
        return self._memory[place]

    def __setitem__(self, place: int | slice, value: int | bytes) -> None:
        self._left -= 1
        if not self._left:
            raise InterruptedError
        self._memory[place] = value  # type: ignore[index, assignment]  # one of mmap's two forms


@pytest.mark.parametrize("last", [1, 2, 3])
def test_worker_that_dies_in_the_middle_of_a_word_leaves_the_one_before_it(last: int) -> None:
    slots = Slots(1)
    slots.write(0, b"first")
    slots.write(0, b"second")
    memory = slots._memory
    slots._memory = Dying(memory, last)  # type: ignore[assignment]  # just enough of it
    with pytest.raises(InterruptedError):
        slots.write(0, b"third, never finished")
    slots._memory = memory
    assert slots.read(0) == b"second"
