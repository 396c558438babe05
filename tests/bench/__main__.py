"""Measurements side by side: `python -m tests.bench`, or `make bench ROUNDS=3`.

All runs are made once a round, in another order each time, and every ratio is taken within its round, so that what
else the machine does falls on both sides of it. The figures are printed and kept in bench-results/.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench import client, machine
from tests.bench.loads import WRK
from tests.bench.measure import Run, Sample, Unavailable
from tests.bench.plot import plot
from tests.bench.processes import ROOT
from tests.bench.report import as_json, ratio_table, sample_table
from tests.bench.rounds import Rounds
from tests.bench.rows import RATIOS, runs
from tests.bench.stage import BUILD, By, Stage, add_by, running_stage
from tests.bench.subjects import bodies_for, measure
from tests.bench.workloads import WORKLOADS
from tests.support.other_servers import OTHERS

ROUNDS, SECONDS, QUICK_SECONDS = 5, 1.0, 2.0
QUICK_LIMIT = 150.0
"""Seconds after which --quick begins no run any more; with a run's own limit and the end of all servers it then stays
below five minutes whatever hangs."""
LIMIT = 3600.0
_ASKED = {"gateway", "plain", "asyncpg", "gateway, by TCP", "plain, by TCP", "gateway, compiled"}
"""Servers that answer every workload by asking Postgres."""
_DESCRIPTORS = 4096


def arguments() -> argparse.Namespace:
    """From the command line; ROUNDS and SHORT also from the environment, where make puts them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measurements side by side.")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 0), help="default 5, quick 1")
    parser.add_argument("--seconds", type=float, help="length of one run; wrk rounds it up to whole seconds")
    parser.add_argument("--quick", action="store_true", default=os.environ.get("SHORT", "") not in ("", "0"),
                        help="only the ratios that have a target, two minutes; also SHORT=1")  # fmt: skip
    add_by(parser)
    parser.add_argument("--compiled", action="store_true", default=os.environ.get("COMPILED", "") not in ("", "0"),
                        help="also the build of `make compiled`, which the image has; also COMPILED=1")  # fmt: skip
    parser.add_argument("--limit", type=float, help="seconds after which no run is begun; 3600, quick 150")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose subject, workload, connections have it")
    parser.add_argument("--list", action="store_true", help="say which runs there are, and make none")
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="folder for JSON and PNG")
    given = parser.parse_args()
    if given.compiled and not BUILD.is_dir():
        parser.error(f"--compiled: there is no {BUILD}; make compiled makes it")
    given.rounds = given.rounds or (1 if given.quick else ROUNDS)
    given.seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    given.limit = given.limit or (QUICK_LIMIT if given.quick else LIMIT)
    return given


def main() -> int:
    """The exit status: 0 whatever the figures are, 1 when something could not be measured that should be, 130 when
    interrupted."""
    given = arguments()
    in_both_ways = given.by is By.UNIX and not given.quick
    every = runs(quick=given.quick, in_both_ways=in_both_ways, compiled=given.compiled)
    wanted = [run for run in every if given.only in str(run)]
    if given.list:
        print(*wanted, sep="\n")
        return 0
    began = time.monotonic()
    with _ending_on_signals():
        others = {run.subject for run in wanted} & OTHERS.keys()
        with running_stage(given.by, others, in_both_ways=in_both_ways, compiled=given.compiled) as stage:
            status = _bench(given, wanted, stage)
        print(f"{time.monotonic() - began:.0f} s in all")
    return status


def _bench(given: argparse.Namespace, wanted: list[Run], stage: Stage) -> int:
    about = machine.describe(stage)
    for part in ("machine", "versions"):
        print(f"{part}: " + ", ".join(f"{name} {value}" for name, value in about[part].items()))
    pool = about["settings"]["gateway"]["pool"]
    print(f"settings: the gateway's defaults, a pool of {pool['max_size']}; Postgres without fsync")
    also = ", and by TCP where a row says so" if "gateway, by TCP" in stage.servers else ""
    print(f"Postgres is asked by {given.by.told}{also}")
    left_out = "the plain build alone; the compiled one, which the container image has, was left out"
    print("builds: " + ("plain, and compiled as in the container image" if given.compiled else left_out))
    told = f"{'wrk' if WRK else 'own loader'}; {len(wanted)} runs of {given.seconds:g} s, {given.rounds} round(s)"
    print(f"load: {told}, load average {machine.load_average():.1f}", flush=True)
    _check_and_warm_up(stage)
    loads, shares = [machine.load_average()], []
    others = machine.Others(stage.postgres)
    rounds = Rounds(wanted, lambda run: measure(stage, run, given.seconds), limit=given.limit)
    for number in range(given.rounds):
        began = time.monotonic()
        rounds.play(number)
        loads.append(machine.load_average())
        shares.append(others.share())
        told = f"load average {loads[-1]:.1f}, of the machine others used {shares[-1]:.0%}"
        print(f"round {number + 1}: {time.monotonic() - began:.0f} s, {told}", flush=True)
        if rounds.is_over:
            print(f"no run was begun after {given.limit:g} s, the limit of them all")
            break
    samples = rounds.samples
    sizes = client.installed_kib()
    chosen = [ratio for ratio in RATIOS if ratio.ours in wanted and ratio.theirs in wanted]
    print("", sample_table(samples), "", ratio_table(chosen, samples, rounds.missing), "", sep="\n")
    print("installed, KiB: " + ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items()))
    _print_faults(stage)
    round_facts = {"rounds": given.rounds, "seconds": given.seconds, "load averages": loads, "others": shares}
    _keep(given, samples, about | round_facts | {"installed KiB": sizes} | as_json(chosen, samples))
    for fault in rounds.broken:
        print(f"not measured: {fault}")
    return 1 if rounds.broken else 0


def _keep(given: argparse.Namespace, samples: dict[Run, list[Sample]], told: dict[str, Any]) -> None:
    """Write the figures, and the picture if there is one to draw."""
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / ".gitignore").write_text("*\n")  # figures are one machine's, so they are not for the repository
    path = given.results / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False))
    print(path)
    if given.quick:
        return
    versions = told["versions"]
    title = f"sqlhttp {versions['sqlhttp']}, Python {versions['python']}, Postgres {versions['postgres']}"
    try:
        plot(samples, path.with_suffix(".png"), title=f"{title}; {told['machine']['cores']} cores for all of it")
    except Unavailable as error:
        print(error)
    else:
        print(path.with_suffix(".png"))


def _check_and_warm_up(stage: Stage) -> None:
    """Every server answers every workload, with as many rows as it should; then a moment of load on each."""
    for name in stage.servers.keys() & _ASKED:
        for workload in WORKLOADS.values():
            if not workload.statement:
                continue
            answer = json.loads(stage.ask(name, bodies_for(name, workload)[0]))
            results = answer["results"] if workload.batch else [answer]
            rows = {"rows": 100, "many": 10_000}.get(workload.name, 1)
            if [len(result["rows"]) for result in results] != [rows] * max(1, workload.batch):
                raise RuntimeError(f"{name} answers {workload.name} with other rows")
    for name in stage.servers:
        stage.loader.http(
            stage.server(name), bodies_for(name, WORKLOADS["key"]), stage.headers, connections=16, seconds=0.5
        )


def _print_faults(stage: Stage) -> None:
    """What went wrong besides being slow; a figure with faults is none."""
    if stage.loader.fault:
        print(f"the loader's last fault: {stage.loader.fault}")
    for name, server in stage.servers.items():
        lines = [line for line in server.log.splitlines() if " error " in line or " warning " in line]
        if lines:
            print(f"{name} logged {len(lines)} warnings or errors, the last: {lines[-1]}")


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """SIGTERM ends the bench as Ctrl-C does: children first, in order. Enough descriptors for 1,000 connections."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has ended", file=sys.stderr)
        sys.exit(130)
