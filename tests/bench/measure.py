"""One measurement as values, and the readings it is made of.

How load is made is in `loads`, whom it falls on in `subjects`, what is compared in `rows`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024
_PARENT, _UTIME, _STIME = 1, 11, 12


class Run(NamedTuple):
    """What is measured: which subject, under which workload, over how many connections (or callers) at once."""

    subject: str
    workload: str
    connections: int

    def __str__(self) -> str:
        return f"{self.subject}, {self.workload}, {self.connections}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of about a second showed. Times are microseconds; None was not measured.

    `server_cpu` is CPU time of the process that answered, for each request, `client_cpu` that of the process that
    asked, `postgres_cpu` that of Postgres; `memory` is MiB resident in the answering process right after the load.
    """

    requests: int
    seconds: float
    errors: int = 0
    p50: float | None = None
    p99: float | None = None
    server_cpu: float | None = None
    client_cpu: float | None = None
    postgres_cpu: float | None = None
    memory: float | None = None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """The sample with its rate, for the file."""
        return {"rate": self.rate} | asdict(self)


class Unavailable(Exception):
    """A subject cannot be measured here; the text says what is missing."""


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and all its threads have used, user and system.

    To the nanosecond where the system keeps schedstat, else in steps of 10 ms.
    """
    return _own_cpu(pid, _stat(pid))


def family_cpu_seconds(pid: int) -> float:
    """The same for a process and all its children, those included that have ended and were waited for."""
    fields = _stat(pid)
    ended = sum(map(int, fields[_UTIME + 2 : _UTIME + 4])) * _TICK
    return _own_cpu(pid, fields) + ended + sum(_own_cpu(child, of_child) for child, of_child in _children(pid))


def _own_cpu(pid: int, fields: Sequence[str]) -> float:
    """By both of the system's counts, of which either may be short: stat leaves off what does not fill a tick, and
    schedstat the threads that have ended."""
    in_ticks = (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK
    nanoseconds = 0
    with contextlib.suppress(OSError):  # the system does not count, or a thread has ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return max(in_ticks, nanoseconds / 1e9)


def family(pid: int) -> Iterator[int]:
    """A process and its children."""
    yield pid
    for child, _ in _children(pid):
        yield child


def family_mib(pid: int) -> float:
    """Memory in RAM of a process and its children; what they share counts for each."""
    return resident_mib(pid) + sum(resident_mib(child) for child, _ in _children(pid))


def _children(pid: int) -> Iterator[tuple[int, list[str]]]:
    """Those that are there now, with their `_stat`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                fields = _stat(int(entry.name))
                if int(fields[_PARENT]) == pid:
                    yield int(entry.name), fields


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) that follow the process's name, which may hold anything, from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM now, shared pages included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def highest_mib(pid: int) -> float:
    """The most that `resident_mib` has been since the process began."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of a sorted, non-empty sequence do not exceed (nearest rank)."""
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
