"""How the gateway's cost grows: `python -m tests.bench.growth`, or `make bench-growth`.

Along each axis one thing becomes more: rows or columns of an answer, connections, pools, distinct statement texts.
Shown is the gateway's CPU time for a request and its memory behind it; a step from one point to the next that costs
more than in proportion is marked. The figures are printed and drawn into bench-results/. Nothing is asserted.
"""

import argparse
import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.loads import WRK, encode_request, wrk
from tests.bench.measure import Sample
from tests.bench.processes import ROOT
from tests.bench.stage import Stage, running_stage
from tests.bench.workloads import neon_headers

SLACK = 1.2
"""A step is worse than linear when its cost grows by more than its size to this power, which leaves room for noise."""
_TEXTS_AT_ONCE = 10_000
_DESCRIPTORS = 12_000
_FORMS = tuple(f"SELECT {number} AS answer" for number in range(8))


@dataclass(frozen=True, slots=True)
class Point:
    """One size along an axis and what a request cost there."""

    size: int
    sample: Sample

    @property
    def cpu(self) -> float:
        """The gateway's CPU for a request, in microseconds."""
        return self.sample.server_cpu or 0.0


Measure = Callable[[Stage, int, float], Sample]


@dataclass(frozen=True, slots=True)
class Axis:
    """What becomes more, and whether a request may cost more for it: rows may, connections may not."""

    name: str
    sizes: Sequence[int]
    measure: Measure
    is_work: bool


def steps_worse_than_linear(sizes: Sequence[int], costs: Sequence[float], *, is_work: bool) -> list[int]:
    """The sizes whose cost has grown out of proportion since the size before.

    For what is work, in proportion to the size; for what is not, the cost of a request should stay, and here it may
    double with each tenfold size.
    """
    worse = []
    for before, after, cheap, dear in zip(sizes, sizes[1:], costs, costs[1:], strict=False):
        grown = after / before
        allowed = grown**SLACK if is_work else 2 ** math.log10(grown) * SLACK
        if cheap and dear / cheap > allowed:
            worse.append(after)
    return worse


# ── the axes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _statement(text: str) -> bytes:
    return b'{"query":"%b","params":[]}' % text.encode()


def _rows(stage: Stage, size: int, seconds: float) -> Sample:
    bodies = [_statement(f"SELECT n, n * 2, 'row ' || n FROM generate_series(1, {size}) AS n")]
    return stage.loader.http(stage.server("gateway"), bodies, stage.headers, connections=4, seconds=seconds)


def _columns(stage: Stage, size: int, seconds: float) -> Sample:
    columns = ", ".join(f"{number} AS c{number}" for number in range(size))
    return stage.loader.http(
        stage.server("gateway"), [_statement(f"SELECT {columns}")], stage.headers, connections=4, seconds=seconds
    )


def _connections(stage: Stage, size: int, seconds: float) -> Sample:
    bodies = [_statement("SELECT 1")]
    if WRK is None:
        return stage.loader.http(stage.server("gateway"), bodies, stage.headers, connections=size, seconds=seconds)
    return wrk(stage.server("gateway"), bodies, stage.headers, connections=size, seconds=seconds + size / 1000)


def _pools(stage: Stage, size: int, seconds: float) -> Sample:
    requests = []
    for number in range(size):
        role = f"grower_{number}"
        url = stage.database.as_role(role, role).url
        requests.append(encode_request(_statement("SELECT 1"), neon_headers(url)))
    server = stage.server("gateway")
    stage.loader.send(server, requests, connections=4, seconds=20.0, most=size)  # each one's first log-in
    return stage.loader.send(server, requests, connections=4, seconds=seconds)


def _texts(stage: Stage, size: int, seconds: float) -> Sample:
    """All of the texts, once or until the time is over; the last of it is what is told."""
    sample: Sample | None = None
    for start in range(0, size, _TEXTS_AT_ONCE):
        part = range(start, min(size, start + _TEXTS_AT_ONCE))
        bodies = [_statement(f"{_FORMS[number % len(_FORMS)]}, {number} AS number") for number in part]
        most = {"most": len(bodies)} if size > _TEXTS_AT_ONCE else {}
        limit = max(seconds, 20.0) if size > _TEXTS_AT_ONCE else seconds
        sample = stage.loader.http(
            stage.server("gateway"), bodies, stage.headers, connections=16, seconds=limit, **most
        )
    assert sample is not None
    return sample


AXES = (
    Axis("rows", (1, 10, 100, 1_000, 10_000, 100_000), _rows, is_work=True),
    Axis("columns", (1, 10, 100, 400, 1_600), _columns, is_work=True),
    # So many may wait for a connection here (_SETTINGS); by default most of the last ones would be refused.
    Axis("connections", (1, 16, 64, 256, 1_000, 5_000), _connections, is_work=False),
    # More roles than connections (pool.max_total) take them from each other, each time with a log-in.
    Axis("pools", (1, 10, 50, 200), _pools, is_work=False),
    # More texts than a connection keeps prepared are parsed again.
    Axis("statement texts", (1, 10, 100, 1_000, 10_000, 100_000), _texts, is_work=False),
)

_SETTINGS = {"SQLHTTP_POOL__MAX_WAITING": str(max(max(axis.sizes) for axis in AXES if axis.name == "connections"))}


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def table(axis: Axis, points: Sequence[Point]) -> Iterator[str]:
    """One line a point."""
    worse = steps_worse_than_linear(axis.sizes, [point.cpu for point in points], is_work=axis.is_work)
    yield f"{axis.name:>16}{'per s':>10}{'CPU µs':>12}{'µs each':>10}{'p50 ms':>10}{'errors':>8}{'MiB':>8}"
    for point in points:
        sample = point.sample
        each = point.cpu / point.size if axis.is_work else point.cpu
        mark = "  worse than linear" if point.size in worse else ""
        yield (
            f"{point.size:>16,}{sample.rate:>10,.0f}{point.cpu:>12,.1f}{each:>10,.2f}"
            f"{(sample.p50 or 0) / 1000:>10,.2f}{sample.errors:>8}{sample.memory or 0:>8,.1f}{mark}"
        )


def draw(measured: Sequence[tuple[Axis, Sequence[Point]]], path: Path) -> bool:
    """A column for each axis: above the CPU of a request, below the memory; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    wide = len(measured)
    figure, axes = pyplot.subplots(2, wide, figsize=(4 * wide, 7), squeeze=False, layout="constrained")
    for column, (axis, points) in enumerate(measured):
        sizes = [point.size for point in points]
        cost, memory = axes[0][column], axes[1][column]
        cost.loglog(sizes, [point.cpu for point in points], marker="o", color="#0b6e4f")
        if axis.is_work:
            last = points[-1]
            cost.loglog(sizes, [last.cpu * size / last.size for size in sizes], ":", color="#8d99ae", label="linear")
            cost.legend()
        memory.semilogx(sizes, [point.sample.memory for point in points], marker="o", color="#d1495b")
        memory.set_ylim(bottom=0)
        memory.set_xlabel(axis.name)
        for each in (cost, memory):
            each.grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("gateway CPU, µs a request")
    axes[1][0].set_ylabel("gateway memory, MiB")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def main() -> int:
    """The exit status: 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description="How the gateway's cost grows.")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one run")
    parser.add_argument("--only", default="", metavar="TEXT", help="axes whose name has it")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="folder for the picture")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    measured: list[tuple[Axis, Sequence[Point]]] = []
    with running_stage(_SETTINGS) as stage:
        _make_roles(stage, max(AXES[3].sizes))
        for axis in AXES:
            if given.only in axis.name:
                points = [Point(size, axis.measure(stage, size, given.seconds)) for size in axis.sizes]
                measured.append((axis, points))
                print(*table(axis, points), "", sep="\n", flush=True)
        if stage.loader.fault:
            print(f"the loader's last fault: {stage.loader.fault}")
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / ".gitignore").write_text("*\n")
    path = given.results / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-growth.png"
    print(path if measured and draw(measured, path) else "no plot: matplotlib is not installed")
    return 0


def _make_roles(stage: Stage, count: int) -> None:
    texts = [f"CREATE ROLE grower_{number} LOGIN PASSWORD 'grower_{number}'" for number in range(count)]
    stage.database.psql("; ".join(texts))


if __name__ == "__main__":
    sys.exit(main())
