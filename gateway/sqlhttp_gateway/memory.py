"""Memory that large answers needed goes back to the system once they are sent.

glibc keeps what was freed below anything that is still in use: after sixteen answers of 1.4 MB at once a process stayed
some 15 MiB larger for ever. It gives that back when told to (`malloc_trim`), which takes a millisecond, and a tenth of
a second where hundreds of MiB are in use; other C libraries do so by themselves or not at all, and other systems than
Linux have no place to look. What is in use, and by whom, is not known here.

Before that Python's garbage is collected. A connection and its last request refer to each other, and what its program
did not take hangs on them: the collector, which counts objects and not bytes, left 10 MiB of that for minutes.
"""

import contextlib
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

GROWN = 4 * 1024 * 1024
"""Bytes more than the least that was seen, from which on it is worth to ask for some back."""
_LITTLE = GROWN // 4
"""Less than this given back: what there is now may be needed."""
_TRIES = 6
"""So often in a row little has to come back, after one, two, four … looks, until it is taken as needed. A single try
may come while a large answer is on its way, and what that leaves would be kept for ever."""

_STATM = Path("/proc/self/statm")
_RESIDENT = 1  # the second field of proc(5)'s statm, in pages


class Memory:
    """This process's memory, looked at every few seconds."""

    def __init__(
        self,
        resident: Callable[[], int] | None = None,
        give_back: Callable[[], object] | None = None,
    ) -> None:
        """`resident` tells the bytes that the process has in RAM; without either the system's own is taken."""
        if resident is None and _STATM.exists():
            resident = resident_bytes
        self._resident = resident
        self._give_back = give_back or _collect_and_trim()
        self._least: int | None = None
        self._in_vain = 0
        """Tries in a row that gave little back."""
        self._pause = 0
        """Looks until the next try."""

    def look(self) -> None:
        """Have what is not needed given back, if the process has grown since it was smallest."""
        if self._resident is None:
            return
        with contextlib.suppress(OSError):  # no file can be opened just now, /proc's neither: it serves on all the same
            self._look(self._resident)

    def _look(self, resident: Callable[[], int]) -> None:
        now = resident()
        if self._least is None or now < self._least:
            self._least = now
        if now < self._least + GROWN:
            self._in_vain = self._pause = 0
        elif self._pause:
            self._pause -= 1
        else:
            self._give_back()
            self._judge(resident(), before=now)

    def _judge(self, left: int, *, before: int) -> None:
        if before - left >= _LITTLE:
            self._in_vain = 0
            return
        self._in_vain += 1
        self._pause = 2 ** (self._in_vain - 1) - 1
        if self._in_vain == _TRIES:
            self._least, self._in_vain, self._pause = left, 0, 0  # what is left is in use


def resident_bytes() -> int:
    """What this process has in RAM, shared pages included; Linux only."""
    return int(_STATM.read_bytes().split()[_RESIDENT]) * os.sysconf("SC_PAGE_SIZE")


def _collect_and_trim() -> Callable[[], object]:
    """Free what only cycles hold, then have glibc give it back; other C libraries are left to themselves."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return gc.collect
    return lambda: (gc.collect(), trim(0))
