"""Processes as Linux tells of them in /proc, and one that stands still."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ESTABLISHED = "01"  # the kernel's include/net/tcp_states.h


def children(pid: int) -> list[int]:
    """The processes that one has made and that have not ended."""
    made = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, made) if resident(child)]


@contextmanager
def frozen(process: "subprocess.Popen[bytes] | None") -> Iterator[None]:
    """It stands still for the length of the block: connections are made, and nothing is answered."""
    assert process is not None, "it does not run"
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def open_files(pid: int) -> int:
    """How many files it has open; none when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def open_connections(*ports: int) -> int:
    """TCP connections over IPv4 to these ports of this machine that neither side has closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(state == _ESTABLISHED and int(local.rpartition(":")[2], 16) in ports for _, local, _, state, *_ in lines)


def resident(pid: int) -> int:
    """Bytes of memory that it holds; 0 when it has ended, be it that its parent has not looked yet."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def threads(pid: int) -> int:
    """How many it has; none when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU time so far; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
