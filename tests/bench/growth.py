"""How the gateway's cost grows: `python -m tests.bench.growth`, or `make bench-growth`.

Along each axis one thing becomes more: rows or columns of an answer, connections, pools, tenants, distinct statement
texts. Shown is the gateway's CPU time for a request and its memory; marked are a step from one point to the next that
costs more than in proportion, and memory beyond what each one more may take. The figures are printed, and kept and
drawn in bench-results/. Nothing is asserted.
"""

import argparse
import json
import math
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.axes import AXES, Axis, Point, Site
from tests.bench.growth_plot import draw
from tests.bench.measure import Unavailable, highest_mib
from tests.bench.processes import ROOT
from tests.bench.stage import Ground, add_by, running_ground, serving

SLACK = 1.2
"""A step is worse than linear when its cost grows by more than its size to this power, which leaves room for noise."""
NOISE_MIB = 12.0
"""Memory that may come and go with what a gateway happens to be doing."""
_DESCRIPTORS = 12_000
_WARM_UP = 0.3  # seconds


def steps_worse_than_linear(sizes: Sequence[int], costs: Sequence[float]) -> list[int]:
    """The sizes at which a request costs more than in proportion to what it cost at the size before."""
    return [after for after, grown, dearer in _steps(sizes, costs) if dearer > grown**SLACK]


def steps_that_cost(sizes: Sequence[int], costs: Sequence[float]) -> list[int]:
    """The sizes at which a request costs more than twice as much as at a tenth of the size, where it should stay."""
    return [after for after, grown, dearer in _steps(sizes, costs) if dearer > 2 ** math.log10(grown) * SLACK]


def _steps(sizes: Sequence[int], costs: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Each size but the first, by how much it is larger than the one before, and by how much a request is dearer."""
    for before, after, cheap, dear in zip(sizes, sizes[1:], costs, costs[1:], strict=False):
        if cheap:
            yield after, after / before, dear / cheap


def sizes_beyond_their_room(points: Sequence[Point], room: float) -> list[int]:
    """The sizes at which the gateway holds more memory than `room` KiB for each one more allows."""
    first = points[0]
    return [
        point.size
        for point in points[1:]
        if point.memory - first.memory > NOISE_MIB + (point.size - first.size) * room / 1024
    ]


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def table(axis: Axis, points: Sequence[Point]) -> Iterator[str]:
    """One line a point."""
    costs = [point.cpu for point in points]
    worse = steps_worse_than_linear(axis.sizes, costs)
    dearer = [] if axis.is_work else steps_that_cost(axis.sizes, costs)
    beyond = sizes_beyond_their_room(points, axis.room)
    yield f"{axis.name:>26}{'per s':>10}{'CPU µs':>12}{'µs each':>10}{'p50 ms':>10}{'errors':>8}{'MiB':>8}"
    for point in points:
        sample = point.sample
        each = point.cpu / point.size if axis.is_work else point.cpu
        marks = [
            *(["worse than linear"] if point.size in worse else ["not flat"] if point.size in dearer else []),
            *(["more memory than it has room for"] if point.size in beyond else []),
        ]
        yield (
            f"{point.size:>26,}{sample.rate:>10,.0f}{point.cpu:>12,.1f}{each:>10,.2f}"
            f"{(sample.p50 or 0) / 1000:>10,.2f}{sample.errors:>8}{point.memory:>8,.1f}  {', '.join(marks)}".rstrip()
        )


def main() -> int:
    """The exit status: 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description="How the gateway's cost grows.")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of which the best counts")
    parser.add_argument("--only", default="", metavar="TEXT", help="axes whose name has it")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="folder for JSON and PNG")
    add_by(parser)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    measured: list[tuple[Axis, Sequence[Point]]] = []
    print(f"Postgres is asked by {given.by.told}")
    with running_ground(given.by) as ground:
        for axis in AXES:
            if given.only in axis.name:
                points = [measure(axis, ground, size, given) for size in axis.sizes]
                measured.append((axis, points))
                print(*table(axis, points), "", sep="\n", flush=True)
        if ground.loader.fault:
            print(f"the loader's last fault: {ground.loader.fault}")
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / ".gitignore").write_text("*\n")
    path = given.results / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-growth.json"
    path.write_text(json.dumps({axis.name: [asdict(point) for point in points] for axis, points in measured}, indent=1))
    print(path)
    try:
        draw(measured, path.with_suffix(".png"))
    except Unavailable as error:
        print(error)
    else:
        print(path.with_suffix(".png"))
    return 0


def measure(axis: Axis, ground: Ground, size: int, given: argparse.Namespace) -> Point:
    """One point, in a gateway of its own, so that its memory is of this size alone.

    Of several runs that with the least CPU time counts: whatever else the machine does can only add to it.
    """
    if axis.prepare:
        ground.database.psql(axis.prepare.format(size=size, most=max(axis.sizes)))
    with serving("gateway", ground.local, **axis.settings) as gateway:
        site = Site(ground, gateway)
        site.load([b'{"query":"SELECT 0","params":[]}'], connections=4, seconds=_WARM_UP)
        runs = [axis.measure(site, size, given.seconds) for _ in range(given.rounds)]
        best = min(runs, key=lambda sample: sample.server_cpu or math.inf)
        errors = sum(sample.errors for sample in runs)
        return Point(size, replace(best, errors=errors, memory=highest_mib(gateway.pid)))


if __name__ == "__main__":
    sys.exit(main())
