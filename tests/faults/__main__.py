"""`make faults`: the long form. Prints a table; the exit status is 1 when anything was found."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlhttp_gateway.build import build_version
from tests.faults import clocks, crowd, resources
from tests.faults import world as world_of
from tests.faults.cancels import Race, keys_of_survivors, race
from tests.faults.episodes import QUICK
from tests.faults.followers import hand_overs, run_again
from tests.faults.killing import Killing, kill_again_and_again
from tests.faults.limits import pauses, programs
from tests.faults.probes import Measured, probe
from tests.faults.run import Report, run
from tests.faults.shapes.table import SHAPES
from tests.faults.troubles import MILD
from tests.faults.world import World

WORKERS = 2
_SHARES = {"quick": 0.1, "mixture": 0.4, "workers": 0.3, "kills": 0.1, "cancels": 0.1}
"""Of the seconds; what is no mixture takes as long as it takes, some 90 s."""


@dataclass(slots=True)
class Shortage:
    """What came of letting a gateway run short of something, or of moving its clock."""

    what: str
    faults: list[str]


@dataclass(slots=True)
class Whole:
    """Everything that was done."""

    quick: Report
    mixture: Report
    workers: Report
    killing: Killing
    race: Race
    measured: list[Measured]
    shortages: list[Shortage] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that was found."""
        found = self.quick.faults + self.mixture.faults + self.workers.faults + self.race.faults + self.killing.faults
        found += [f"{shortage.what}: {fault}" for shortage in self.shortages for fault in shortage.faults]
        found += [f"{row.what}: {row.worst:.3f}, at most {row.limit:g}" for row in self.measured if not row.is_kept]
        return found + self.logs


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the same seed, the same mixture")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--episodes", type=int, default=10**9, help="most episodes of each mixture")
    parser.add_argument("--kills", type=int, help="only this: kill the gateway so often, within the seconds")
    parser.add_argument("--shape", choices=SHAPES, help="one constellation of several in place of all else")
    arguments = parser.parse_args()
    print(f"sqlhttp {build_version()}", flush=True)
    if arguments.kills:
        return _only_kill(seed=arguments.seed, seconds=arguments.seconds, kills=arguments.kills)
    if arguments.shape:
        report = in_shape(arguments.shape, seed=arguments.seed, seconds=arguments.seconds, episodes=arguments.episodes)
        print("\n".join([f"{arguments.shape}:", table(report), "", *_found(report.faults)]))
        return 1 if report.faults else 0
    whole = _do(seed=arguments.seed, seconds=arguments.seconds, episodes=arguments.episodes)
    print("\n".join(_lines(whole)))
    return 1 if whole.faults else 0


def _do(*, seed: int, seconds: float, episodes: int) -> Whole:
    with world_of.made() as world:
        quick = asyncio.run(
            run(world, seed=seed, episodes=episodes, seconds=seconds * _SHARES["quick"], kinds=QUICK, troubles=MILD)
        )
        logs = _said(world)
    with world_of.made() as world:
        mixture = asyncio.run(run(world, seed=seed, episodes=episodes, seconds=seconds * _SHARES["mixture"]))
        killing = asyncio.run(kill_again_and_again(world, seed=seed, seconds=seconds * _SHARES["kills"]))
        raced = asyncio.run(race(world, seed=seed, seconds=seconds * _SHARES["cancels"]))
        measured = asyncio.run(probe(world))
        measured += [asyncio.run(measure(world)) for measure in (hand_overs, run_again, programs, pauses)]
        growth = mixture.figures["memory after, MiB"] / mixture.figures["memory when warm, MiB"]
        measured.append(Measured("memory at the end against warm", growth, 1.05))
        shortages = [
            Shortage("log on a full disk", resources.log_on_a_full_disk(world)),
            Shortage("log that nobody reads", resources.log_that_nobody_reads(world)),
            Shortage("descriptors", resources.files(world)),
            Shortage("ten thousand idle sockets", crowd.idle(world)),
        ]
        logs += _said(world)
    with world_of.made(workers=WORKERS) as world:
        shortages.append(Shortage("cancel keys while a worker is replaced", asyncio.run(keys_of_survivors(world))))
        workers = asyncio.run(run(world, seed=seed, episodes=episodes, seconds=seconds * _SHARES["workers"]))
        logs += _said(world)
    with world_of.made(workers=WORKERS) as world:
        shortages.append(Shortage("memory", resources.memory(world)))
    if clocks.is_possible():
        with tempfile.TemporaryDirectory() as folder:
            offset = Path(folder, "offset")
            with world_of.made(settings=clocks.environment(offset)) as world:
                shortages.append(Shortage("wall clock a day forward and back", asyncio.run(clocks.jump(world, offset))))
                logs += _said(world)
    return Whole(quick, mixture, workers, killing, raced, measured, shortages, logs)


def _only_kill(*, seed: int, seconds: float, kills: int) -> int:
    with world_of.made() as world:
        killing = asyncio.run(kill_again_and_again(world, seed=seed, seconds=seconds, kills=kills))
    print("\n".join([f"seed {seed}", *killing.lines(), "", *killing.faults, f"{len(killing.faults)} faults found"]))
    return 1 if killing.faults else 0


def _said(world: World) -> list[str]:
    """What the world's gateways should not have logged. They are stopped."""
    for process in world.processes:
        process.stop()
    log, found = "".join(process.output for process in world.processes), []
    if world_of.CANARY in log:
        found.append("a secret in the log")
    if "Traceback" in log:
        found.append("a traceback in the log")
        sys.stderr.write(log[max(0, log.index("Traceback") - 1000) :][:9000])
    return found


def _lines(whole: Whole) -> list[str]:
    """The report for people."""
    killing, raced = whole.killing, whole.race
    lines = []
    parts = {"the quick way alone": whole.quick, "all ways": whole.mixture, f"{WORKERS} workers": whole.workers}
    for title, report in parts.items():
        lines += [f"{title}:", table(report), ""]
    lines += killing.lines()
    lines.append(f"{raced.sent} cancels, {raced.hit} seen to hit, {raced.undisturbed} statements of bystanders")
    lines.append("")
    for row in whole.measured:
        lines.append(f"  {row.what:<42}{row.worst:>8.3f}  at most {row.limit:g}{'' if row.is_kept else '   MISSED'}")
    lines += [f"  {each.what:<42}{'as it should be' if not each.faults else 'FAULTS':>15}" for each in whole.shortages]
    return [*lines, "", *_found(whole.faults)]


def _found(faults: Sequence[str]) -> list[str]:
    return [f"{len(faults)} faults found", *(f"  {fault}" for fault in faults[:50])]


def in_shape(
    name: str, *, seed: int, seconds: float, episodes: int = 10**9, troubles: Collection[str] | None = None
) -> Report:
    """The mixture of one constellation; of its troubles those named, or all."""
    with SHAPES[name]({}) as shape, world_of.made_on(shape.ground) as world:
        chosen = {each: how for each, how in shape.troubles.items() if troubles is None or each in troubles}
        report = asyncio.run(
            run(world, seed=seed, episodes=episodes, seconds=seconds, troubles=chosen, kinds=shape.kinds)
        )
        report.faults += _said(world)
    return report


def table(report: Report) -> str:
    """One mixture, for people."""
    lines = [f"seed {report.seed}, {report.episodes} episodes in {report.seconds:.0f} s", ""]
    for (name, outcome), count in sorted(report.outcomes.items()):
        lines.append(f"  {name:<14}{outcome:<20}{count:>8}")
    lines.append("")
    lines += [f"  {name:<24}{count:>8}" for name, count in sorted(report.troubles.items())]
    lines.append("")
    lines += [f"  {name:<24}{figure:>8.4g}" for name, figure in report.figures.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
