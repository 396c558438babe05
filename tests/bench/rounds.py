"""Runs in rounds, each with a limit, and all of them with one together: what hangs is told, and stops nothing else."""

import random
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tests.bench.measure import Run, Sample, Unavailable

RUN_LIMIT = 40.0
"""Seconds that one run may take; the longest takes three, and ten on a busy machine."""
_SETTLE = 0.15
"""Seconds between runs: wrk leaves requests under way when it ends, and the server has to see to them."""


class TookTooLong(Exception):
    """A run was ended by its limit."""


class Rounds:
    """What was measured so far, and what could not be."""

    def __init__(self, runs: Sequence[Run], measure: Callable[[Run], Sample], *, limit: float) -> None:
        """`limit` is the seconds from now after which no run begins any more."""
        self.samples: dict[Run, list[Sample]] = {}
        """A sample a round of each run; a run that failed once has none."""
        self.missing: dict[str, str] = {}
        """The subjects that are left out, with the reason."""
        self.broken: list[str] = []
        """What went wrong in the measuring, one text each: a fault of a server or of the bench."""
        self.is_over = False
        self._runs = runs
        self._measure = measure
        self._end = time.monotonic() + limit

    def play(self, number: int) -> None:
        """One round. When time is up it stays unfinished, and samples of it that have no counterpart are not used."""
        for run in shuffled(self._runs, number):
            if run.subject in self.missing:
                continue
            if time.monotonic() >= self._end:
                self.is_over = True
                return
            try:
                with limited(RUN_LIMIT):
                    self.samples.setdefault(run, []).append(self._measure(run))
            except Unavailable as error:
                self._leave_out(run, str(error))
            except (TookTooLong, subprocess.TimeoutExpired):
                self._leave_out(run, f"took longer than {RUN_LIMIT:g} s")
                self.broken.append(f"{run}: took longer than {RUN_LIMIT:g} s")
            except (OSError, RuntimeError, ValueError) as error:
                self._leave_out(run, f"failed: {type(error).__name__}")
                self.broken.append(f"{run}: {''.join(traceback.format_exception(error))}")
            time.sleep(_SETTLE)

    def _leave_out(self, run: Run, why: str) -> None:
        """The subject from now on; of this run also what was seen, as its rounds would no longer match."""
        self.samples.pop(run, None)
        self.missing[run.subject] = why


def shuffled(runs: Sequence[Run], number: int) -> list[Run]:
    """The order of a round: other than the last one, with neighbours of a ratio still near each other."""
    start = random.Random(number).randrange(len(runs)) if runs else 0
    order = [*runs[start:], *runs[:start]]
    return order[::-1] if number % 2 else order


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End whatever the block waits for, in this the main thread.

    Raises:
        TookTooLong: it was not done in time.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
