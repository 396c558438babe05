"""`make endurance`: an hour of mixed load with faults, sampled each second, judged, kept as JSON and drawn.

Callers of all kinds come at a modest, steady rate while troubles come now and then, so that what grows shows. The exit
status is 1 when the ledger was not whole or something was not flat.
"""

import argparse
import asyncio
import json
import math
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlhttp_gateway.build import build_version
from tests.faults import world as world_of
from tests.faults.__main__ import table
from tests.faults.flatness import Flat, judge, slope
from tests.faults.picture import draw
from tests.faults.run import ALL, STEADY, Pace, Report, run
from tests.faults.sampling import EVERY, Sample, sampling
from tests.faults.shapes.shape import Shape
from tests.faults.shapes.table import SHAPES
from tests.faults.troubles import TROUBLES
from tests.support.cluster import running_cluster

FOLDER = Path("bench-results")
_POSTGRES = {"autovacuum": "on"}  # temporary tables leave rows in the catalog, and an hour of them would be felt
_GATEWAY = {"SQLHTTP_POOL__MAX_LIFETIME": "300"}  # seconds: connections are to be replaced many times


@dataclass(frozen=True, slots=True)
class Endured:
    """What was seen, and what it means."""

    report: Report
    samples: Sequence[Sample]
    flat: Sequence[Flat]

    @property
    def is_whole(self) -> bool:
        """Nothing was found, and everything stayed as it was."""
        return not self.report.faults and all(row.is_kept for row in self.flat)

    def summary(self) -> dict[str, Any]:
        """All of it, for the JSON file."""
        report = self.report
        return {
            "seed": report.seed,
            "seconds": report.seconds,
            "load average": os.getloadavg(),
            "episodes": {" ".join(names): count for names, count in sorted(report.outcomes.items())},
            "troubles": report.troubles,
            "figures": report.figures,
            "faults": report.faults,
            "memory, MiB an hour": slope(self.samples),
            "flat": [asdict(row) | {"limit": _finite(row.limit), "is_kept": row.is_kept} for row in self.flat],
            "moments": [asdict(moment) for moment in report.moments],
            "samples": [asdict(sample) for sample in self.samples],
        }


def endure(
    *,
    seed: int,
    seconds: float,
    shape: str = "",
    pace: Pace = STEADY,
    log: Path | None = None,
    settings: Mapping[str, str] = _GATEWAY,
) -> Endured:
    """Let it happen, in one of `SHAPES` or with one gateway on one Postgres; `log` is where its log is copied to."""
    with _standing(shape) as standing, world_of.made_on(standing.ground, settings) as world:
        report, samples = asyncio.run(_sampled(world, standing, seed=seed, seconds=seconds, pace=pace))
        for process in world.processes:
            process.stop()
        text = "".join(process.output for process in world.processes)
    if log is not None:
        log.write_text(text)
    for what, sign in (("a secret", world_of.CANARY), ("a traceback", "Traceback")):
        if sign in text:
            report.faults.append(f"{what} in the log")
    return Endured(report, samples, judge(samples, report.moments))


@contextmanager
def _standing(name: str) -> Iterator[Shape]:
    if name:
        with SHAPES[name](_POSTGRES) as shape:
            yield shape
    else:
        with running_cluster(world_of.POSTGRES | _POSTGRES) as cluster:
            yield Shape(world_of.Ground((cluster,)), TROUBLES, ALL)


async def _sampled(
    world: world_of.World, shape: Shape, *, seed: int, seconds: float, pace: Pace
) -> tuple[Report, list[Sample]]:
    async with sampling(world) as samples:
        report = await run(
            world,
            seed=seed,
            episodes=10**9,
            seconds=seconds,
            pace=pace,
            troubles=shape.troubles,
            kinds=shape.kinds,
        )
    # What comes after the last episode is the way back to rest, at which `run` has looked.
    return report, [sample for sample in samples if sample.at <= seconds + EVERY / 2]


def show(endured: Endured) -> str:
    """The result for people."""
    samples = endured.samples
    lines = [table(endured.report), "", f"{len(samples)} samples, memory {slope(samples):+.2f} MiB an hour", ""]
    lines.append(f"  {'second tenth against last':<32}{'early':>9}{'late':>9}{'at most':>9}")
    for row in endured.flat:
        limit = f"{row.limit:9.2f}" if math.isfinite(row.limit) else "        -"
        lines.append(f"  {row.what:<32}{row.early:9.2f}{row.late:9.2f}{limit}{'' if row.is_kept else '   NOT FLAT'}")
    return "\n".join(lines)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="make endurance", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the same seed, the same mixture")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (3600)")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where JSON, PNG and the gateway's log are kept")
    parser.add_argument("--shape", choices=SHAPES, default="", help="a constellation (one gateway on one Postgres)")
    arguments = parser.parse_args()
    print(f"sqlhttp {build_version()}", flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    began = datetime.now(UTC)
    stem = arguments.results / "-".join(filter(None, ("endurance", arguments.shape, f"{began:%Y%m%d-%H%M%S}")))
    endured = endure(
        seed=arguments.seed, seconds=arguments.seconds, shape=arguments.shape, log=stem.with_suffix(".log")
    )
    stem.with_suffix(".json").write_text(json.dumps(endured.summary(), indent=1))
    print(show(endured))
    report, where = endured.report, f"{arguments.shape}: " if arguments.shape else ""
    title = (
        f"{where}{report.episodes:,} episodes and {len(report.moments)} troubles in {report.seconds / 60:.0f} minutes,"
        f" seed {arguments.seed}, sqlhttp {build_version()}, {began:%Y-%m-%d %H:%M} UTC"
    )
    try:
        draw(endured.samples, endured.report.moments, stem.with_suffix(".png"), title=title)
    except ImportError as error:
        print(f"\nno picture: {error}; matplotlib is in the dependency group bench")
    print(f"\n{stem}.json, .png, .log")
    return 0 if endured.is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
