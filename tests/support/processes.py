"""Processes as Linux tells of them in /proc."""

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """The processes that one has made and that have not ended."""
    made = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, made) if resident(child)]


def open_files(pid: int) -> int:
    """How many files it has open; none when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


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
