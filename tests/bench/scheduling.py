"""Who is let onto which core, and when: Linux's SCHED_BATCH, as chrt(1) gives it, and affinity, as taskset(1) does."""

import contextlib
import os
from collections.abc import Collection, Iterator

from tests.bench.measure import Unavailable, family


@contextlib.contextmanager
def as_batch(pid: int) -> Iterator[None]:
    """A process and its children so scheduled for the length of the block, and then as any.

    Raises:
        Unavailable: the system has no such thing, or forbids it.
    """
    if not hasattr(os, "SCHED_BATCH"):
        raise Unavailable("SCHED_BATCH is Linux's")
    try:
        _schedule(pid, os.SCHED_BATCH)
        yield
    except PermissionError:
        raise Unavailable("Postgres runs as somebody whose processes may not be scheduled from here") from None
    finally:
        with contextlib.suppress(PermissionError):
            _schedule(pid, os.SCHED_OTHER)


def _schedule(pid: int, policy: int) -> None:
    for member in family(pid):
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            os.sched_setscheduler(member, policy, os.sched_param(0))


@contextlib.contextmanager
def apart_from(servers: Collection[int]) -> Iterator[None]:
    """This process, and the programs it starts, on a core of its own, and these processes and their children on the
    others, for the length of the block; with one core for all everything stays where it is.

    Left to the system, what takes a few microseconds stays on one core, and what takes more moves to another, which
    takes longer to wake than all the work: of the same two programs the one then needs twice or twelve times as long.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(cores) < 2:
        yield
        return
    own = {min(cores)}
    try:
        _place(servers, cores - own)
        os.sched_setaffinity(0, own)
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _place(servers, cores)


def _place(servers: Collection[int], cores: Collection[int]) -> None:
    for server in servers:
        for member in family(server):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # of somebody else: where it is, then
                os.sched_setaffinity(member, cores)
