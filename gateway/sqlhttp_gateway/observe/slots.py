"""A slot of shared memory for each worker, in which it says what it knows for the others to see.

The parent makes them before it forks; nothing is written to a disk, no port is opened, and what a worker that died had
counted is still there for the one that takes its place. Each slot has two halves: the writer fills the one that is not
current and then makes it current with a single byte, so that a reader never waits and a checksum tells it of the rare
half that changed under its eyes.
"""

import mmap
import struct
from zlib import crc32

HALF = 2 << 20
"""Bytes; a report has some 50 kB with the default number of labels. Pages that are never written take no memory."""
_HEADER = struct.Struct("<II")
_TRIES = 3


class Slots:
    """Shared memory for `count` workers. To be made before they are forked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, count * self._size)

    _size = 2 * HALF + mmap.PAGESIZE
    """The page in front holds the byte that says which half is current: 0 for none yet, else 1 or 2."""

    def write(self, number: int, data: bytes) -> bool:
        """Say `data` in the slot `number`; False when it is too large, and then the slot keeps what it had."""
        if len(data) + _HEADER.size > HALF:
            return False
        start = number * self._size
        half = 2 if self._memory[start] == 1 else 1
        at = self._start(number, half)
        self._memory[at : at + _HEADER.size] = _HEADER.pack(len(data), crc32(data))
        self._memory[at + _HEADER.size : at + _HEADER.size + len(data)] = data
        self._memory[start] = half
        return True

    def read(self, number: int) -> bytes | None:
        """What was said there last; None if nothing ever was."""
        for _ in range(_TRIES):
            half = self._memory[number * self._size]
            if not half:
                return None
            at = self._start(number, half)
            length, checksum = _HEADER.unpack_from(self._memory, at)
            data = self._memory[at + _HEADER.size : at + _HEADER.size + min(length, HALF)]
            if crc32(data) == checksum:
                return data
        return None

    def _start(self, number: int, half: int) -> int:
        return number * self._size + mmap.PAGESIZE + (half - 1) * HALF
