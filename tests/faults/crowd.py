"""Ten thousand programs that are connected to a gateway and ask nothing, half of them from the beginning.

What is false of it is said: that all of them are let in, that others are answered meanwhile, that each costs little
memory and no processor time, and that nothing is left of them once they have gone.
"""

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.faults.resources import BUSY, gateway, post
from tests.faults.world import TOTAL, World
from tests.support.processes import cpu_seconds, open_files, resident

COUNT = 10_000
_OTHERS = 20
_ANSWERED_WITHIN = 10.0
_GONE_WITHIN = 5.0
_AT_REST = 0.3
"""Seconds in which no more of them is closed."""
_OF_EACH = 6 * 1024
"""Bytes of memory that one may cost; it is 3.7 KiB for one that has asked once."""
_OF_ALL = 4 << 20
"""Bytes that may come on top, whatever their number."""
_OWN_FILES = 200
_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def idle(world: World, count: int = COUNT) -> list[str]:
    """So many of them, at a gateway of their own; fewer where this process may not open as many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, hard - _OWN_FILES) if hard != resource.RLIM_INFINITY else count
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + _OWN_FILES), hard))
    more = {"SQLHTTP_LISTEN__MAX_CONNECTIONS": str(count + _OTHERS), "SQLHTTP_REQUEST__HEAD_TIMEOUT": "300"}
    try:
        with Path("/dev/null").open("wb") as log, gateway(world, log.fileno(), more) as (process, port):
            return _come_and_go(world, process.pid, port, count)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _come_and_go(world: World, pid: int, port: int, count: int) -> list[str]:
    if any(post(world, port, "SELECT 1") != 200 for _ in range(_OTHERS)):
        return ["no answer before"]
    faults = []
    files, memory = _files_at_rest(pid), resident(pid)
    with ExitStack() as connected:
        for number in range(count):
            program = connected.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if number % 2:
                program.sendall(_LIVEZ)
                if not program.recv(4096).startswith(b"HTTP/1.1 200"):
                    faults.append(f"number {number} was not answered")
                    break
        here = open_files(pid) - files
        if here < count:
            faults.append(f"{here} of {count} are connected")
        began, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(1.0)  # what is measured is what it does meanwhile, with nothing to do
        share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        if share > BUSY:
            faults.append(f"{share:.0%} of a processor without anything to do")
        grown = resident(pid) - memory
        if grown > _OF_ALL + _OF_EACH * count:
            faults.append(f"{grown / count / 1024:.1f} KiB for each of {count}")
        for _ in range(_OTHERS):
            began = time.monotonic()
            if post(world, port, "SELECT 1") != 200 or time.monotonic() - began > _ANSWERED_WITHIN:
                faults.append(f"another one was not answered within {_ANSWERED_WITHIN:g} s")
                break
    deadline = time.monotonic() + _GONE_WITHIN
    kept = files + TOTAL  # connections to Postgres may have come meanwhile
    while open_files(pid) > kept and time.monotonic() < deadline:
        time.sleep(0.05)
    if open_files(pid) > kept:
        faults.append(f"{open_files(pid)} descriptors {_GONE_WITHIN:g} s after they have gone, {files} before")
    return faults


def _files_at_rest(pid: int) -> int:
    """Open descriptors, once those of requests that are over have been closed."""
    deadline = time.monotonic() + _GONE_WITHIN
    fewest, since = open_files(pid), time.monotonic()
    while time.monotonic() - since < _AT_REST and time.monotonic() < deadline:
        time.sleep(0.02)
        now = open_files(pid)
        if now < fewest:
            fewest, since = now, time.monotonic()
    return fewest
