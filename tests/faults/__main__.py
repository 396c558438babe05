"""`make faults`: the long form. Prints a table; the exit status is 1 when anything was found."""

import argparse
import asyncio
import secrets
import sys

from tests.faults import world as world_of
from tests.faults.killing import kill_again_and_again
from tests.faults.ledger import Ledger
from tests.faults.probes import Measured, probe
from tests.faults.run import Report, present, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the same seed, the same mixture")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--episodes", type=int, default=10**9, help="most episodes")
    arguments = parser.parse_args()
    seed, seconds = arguments.seed, arguments.seconds
    with world_of.made() as world:
        report = asyncio.run(run(world, seed=seed, episodes=arguments.episodes, seconds=seconds * 0.8))
        world.ledger = Ledger()
        killing = asyncio.run(kill_again_and_again(world, seed=seed, seconds=seconds * 0.2))
        report.faults += world.ledger.faults(asyncio.run(present(world, "kill-%")))
        if killing.unanswered:
            report.faults.append(f"{killing.unanswered} writes with keys were never answered")
        measured = asyncio.run(probe(world))
        world.process.stop()
        log = world.process.output
    if world_of.CANARY in log:
        report.faults.append("a secret in the log")
    if "Traceback" in log:
        report.faults.append("a traceback in the log")
        sys.stderr.write(log[log.index("Traceback") - 1000 :][:9000])
    print(table(report))
    print(f"\n{killing.kills} gateways killed, {killing.interrupted} writes interrupted, {killing.writes} answered")
    print()
    growth = report.figures["memory after, MiB"] / report.figures["memory when warm, MiB"]
    for row in (*measured, Measured("memory at the end against warm", growth, 1.05)):
        print(f"  {row.what:<42}{row.worst:>8.3f}  at most {row.limit:g}{'' if row.is_kept else '   MISSED'}")
    return 1 if report.faults else 0


def table(report: Report) -> str:
    """The report for people."""
    lines = [f"seed {report.seed}, {report.episodes} episodes in {report.seconds:.0f} s", ""]
    for (name, outcome), count in sorted(report.outcomes.items()):
        lines.append(f"  {name:<14}{outcome:<20}{count:>8}")
    lines.append("")
    lines += [f"  {name:<24}{count:>8}" for name, count in sorted(report.troubles.items())]
    lines.append("")
    lines += [f"  {name:<24}{figure:>8.4g}" for name, figure in report.figures.items()]
    lines += ["", f"{len(report.faults)} faults found"]
    lines += [f"  {fault}" for fault in report.faults[:50]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
