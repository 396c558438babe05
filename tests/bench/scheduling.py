"""Postgres that does not push others from their core when it is woken: Linux's SCHED_BATCH, as chrt(1) gives it."""

import contextlib
import os
from collections.abc import Iterator

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
