"""Whether what was sampled over a long time stayed as it was: the last tenth of it beside the second. Pure.

The first tenth is left out: caches fill then. Where times are compared, seconds near a trouble are left out, since a
request that waits for a restart is slow for a reason, and those in which the machine had other things to do: the same
statement was slow past the gateway, too.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.faults.sampling import Sample

AFTERMATH = 5.0
"""Seconds after a trouble in which its effects are not the gateway's doing."""
GROWTH = 1.05
"""How much more memory there may be at the end."""
SLOWER = 1.25
"""How much slower the probe may be at the end, and how much more CPU time a request may take."""
LATER = 1.5
"""The same for the slowest of the probes."""
BUSY = 2.0
"""The machine is busy when a statement past the gateway takes so many times what it takes in a good tenth of all
seconds."""


THREADS = 8 + min(32, (os.cpu_count() or 1) + 4)
"""Those that begin with the gateway, and all that asyncio's executor may have: it makes one only when it needs one, and
keeps it, so that their number rises for hours and ends there."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A trouble, and from when to when it was made, in seconds since the beginning."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Flat:
    """One row: a figure early and late, and how large the second may be."""

    what: str
    early: float
    late: float
    limit: float

    @property
    def is_kept(self) -> bool:
        return self.late <= self.limit


def judge(samples: Sequence[Sample], moments: Sequence[Moment]) -> list[Flat]:
    """A row for memory, descriptors, threads, CPU and latency."""
    early, late = _tenth(samples, 1), _tenth(samples, 9)
    calm_early, calm_late = (calm(tenth, moments, than=samples) for tenth in (early, late))
    rows = [
        _grown("memory, MiB", early, late, lambda s: s.memory, factor=GROWTH),
        _grown("descriptors but callers'", early, late, _own_descriptors, factor=1.0, more=1.0),
        _grown("threads", early, late, lambda s: float(s.threads), factor=0.0, more=THREADS),
        _grown("CPU for a request, ms", early, late, _cpu_of_a_request, factor=SLOWER),
        _grown("probe's p50, ms", calm_early, calm_late, lambda s: s.p50, factor=SLOWER),
        _grown("probe's p99, ms", calm_early, calm_late, lambda s: s.p99, factor=LATER),
        _grown("p50 past the gateway, ms", calm_early, calm_late, lambda s: s.direct, factor=math.inf),
    ]
    return [row for row in rows if row is not None]


def slope(samples: Sequence[Sample]) -> float:
    """How memory grows, in MiB an hour, by least squares over all but the first tenth."""
    rest = samples[len(samples) // 10 :]
    if len(rest) < 2:
        return 0.0
    found = statistics.linear_regression([sample.at for sample in rest], [sample.memory for sample in rest])
    return found.slope * 3600


def quiet(samples: Iterable[Sample], moments: Sequence[Moment]) -> list[Sample]:
    """Those with no trouble in their second or shortly before."""
    return [
        sample
        for sample in samples
        if not any(moment.began <= sample.at <= moment.ended + AFTERMATH + 1 for moment in moments)
    ]


def calm(samples: Iterable[Sample], moments: Sequence[Moment], *, than: Sequence[Sample]) -> list[Sample]:
    """Of these the quiet ones in which the machine was not busy, as judged by all samples."""
    known = sorted(sample.direct for sample in than if sample.direct is not None)
    most = known[len(known) // 10] * BUSY if known else 0.0
    return [sample for sample in quiet(samples, moments) if sample.direct is not None and sample.direct <= most]


def _tenth(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    return samples[len(samples) * number // 10 : len(samples) * (number + 1) // 10]


def _grown(
    what: str,
    early: Iterable[Sample],
    late: Iterable[Sample],
    figure: Callable[[Sample], float | None],
    *,
    factor: float,
    more: float = 0.0,
) -> Flat | None:
    """Middle against middle; None where one of them has nothing to show."""
    before = [found for sample in early if (found := figure(sample)) is not None]
    after = [found for sample in late if (found := figure(sample)) is not None]
    if not before or not after:
        return None
    middle = statistics.median(before)
    return Flat(what, middle, statistics.median(after), middle * factor + more)


def _own_descriptors(sample: Sample) -> float:
    """On a busy machine more callers are there at a time; a connection whose caller has gone is no caller's."""
    return float(sample.descriptors - sample.callers)


def _cpu_of_a_request(sample: Sample) -> float | None:
    return sample.cpu * 1000 / sample.requests if sample.requests else None
