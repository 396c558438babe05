"""How many workers: `python -m tests.bench.workers`, or `make bench-workers`.

The same load on gateways of one and of more workers, with Postgres and the load on the same cores as the gateway, and
on others. Beside the rate stand the CPU time of a request in the gateway and in Postgres, which say what would limit a
larger machine, and whether what workers share is shared: the pool's bound, and the counts in /metrics.
"""

import argparse
import os
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from sqlhttp_gateway.observe.activity import APPLICATION_NAME
from tests.bench.loads import WRK, wrk
from tests.bench.machine import load_average
from tests.bench.measure import Sample, family_cpu_seconds, family_mib
from tests.bench.processes import Process
from tests.bench.report import aligned
from tests.bench.stage import Ground, add_by, running_ground, serving
from tests.bench.workloads import WORKLOADS, neon_headers

ROUNDS, SECONDS = 3, 1.0
LOADS = (("key", 64), ("rows", 16))
"""Workloads, and over how many kept connections each comes."""
_REPORTED = 3.0
"""Seconds within which every worker has told the others what it counted; each does so every second."""
_POOLED = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()"
    f" AND pid <> pg_backend_pid() AND application_name <> '{APPLICATION_NAME}'"
)
_COUNTED = re.compile(rb"^sqlhttp_requests_total\{.*?\} ([\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers on which cores, and on which ones everything else is."""

    workers: int
    gateway: frozenset[int]
    others: frozenset[int]

    def __str__(self) -> str:
        return f"{self.workers} on {_cores(self.gateway)}, the rest on {_cores(self.others)}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One gateway of a placement, which lived for one round."""

    samples: Mapping[str, Sample]
    memory: float
    """MiB of all its processes."""
    backends: int
    """Connections to Postgres that the pools held at the end."""
    counted: int
    """Requests that /metrics told of, over all workers."""
    requests: int
    """Requests that the load had answered."""


def placements(cores: Collection[int]) -> list[Placement]:
    """One worker, two, and one for each core: all on all cores, and the gateway on one half of them."""
    every = frozenset(cores)
    ordered = sorted(every)
    half = frozenset(ordered[: max(1, len(ordered) // 2)])
    found = []
    for gateway, others in ((every, every), (half, every - half), (every, every - half)):
        for workers in sorted({1, 2, len(gateway)}):
            # One worker gains nothing by a second core that it cannot use.
            if others and (workers > 1 or gateway == half or others == every):
                found.append(Placement(workers, gateway, others))
    return found


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What is started in the block runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> int:
    """The exit status: 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.workers", description="How many workers, and where.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of one run")
    add_by(parser)
    given = parser.parse_args()
    wanted = placements(os.sched_getaffinity(0))
    found: dict[Placement, list[Seen]] = {placement: [] for placement in wanted}
    print(f"Postgres is asked by {given.by.told}")
    with running_ground(given.by) as ground:
        for number in range(given.rounds):
            for placement in wanted[::-1] if number % 2 else wanted:
                found[placement].append(_seen(ground, placement, given.seconds))
            print(f"round {number + 1}: load average {load_average():.1f}", flush=True)
    print("", table(found), sep="\n")
    return 0


def _seen(ground: Ground, placement: Placement, seconds: float) -> Seen:
    headers = neon_headers(ground.database.url)
    load = wrk if WRK else ground.loader.http
    os.sched_setaffinity(ground.postgres, placement.others)  # its backends are opened below, and are where it is
    workers = {"SQLHTTP_LISTEN__WORKERS": str(placement.workers)}
    with ExitStack() as running:
        with on_cores(placement.gateway):
            gateway = running.enter_context(serving("gateway", ground.local, **workers))
        running.enter_context(on_cores(placement.others))
        requests = load(gateway, WORKLOADS["key"].neon_bodies, headers, connections=64, seconds=1.0).requests
        samples = {}
        for name, connections in LOADS:
            before = family_cpu_seconds(ground.postgres)
            sample = load(gateway, WORKLOADS[name].neon_bodies, headers, connections=connections, seconds=seconds)
            used = family_cpu_seconds(ground.postgres) - before
            samples[name] = replace(sample, postgres_cpu=used / sample.requests * 1e6)
            requests += sample.requests
        backends = int(ground.database.psql(_POOLED))
        return Seen(samples, family_mib(gateway.pid), backends, _counted(gateway, requests), requests)


def _counted(gateway: Process, at_least: int) -> int:
    """The requests that /metrics tells of, over all workers; those of wrk that were under way at its end are more."""
    deadline = time.monotonic() + _REPORTED
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/metrics", timeout=10) as answer:
            counted = int(sum(float(number) for number in _COUNTED.findall(answer.read())))
        if counted >= at_least or time.monotonic() > deadline:
            return counted
        time.sleep(0.2)


def table(found: Mapping[Placement, Sequence[Seen]]) -> str:
    """A line for each placement and load; x is against the first placement, taken within the rounds."""
    first = next(iter(found.values()))
    lines = [("workers", "load", "per s", "x", "p99 ms", "CPU µs", "x", "Postgres µs", "MiB", "backends", "counted")]
    for placement, seen in found.items():
        for name, connections in LOADS:
            pairs = [(mine.samples[name], base.samples[name]) for mine, base in zip(seen, first, strict=True)]
            lines.append(
                (
                    str(placement),
                    f"{name}, {connections}",
                    f"{_middle(mine.rate for mine, _ in pairs):,.0f}",
                    f"{_middle(mine.rate / base.rate for mine, base in pairs):.2f}",
                    f"{_middle((mine.p99 or 0.0) / 1e3 for mine, _ in pairs):,.0f}",
                    f"{_middle(mine.server_cpu or 0.0 for mine, _ in pairs):,.0f}",
                    f"{_middle((mine.server_cpu or 0.0) / (base.server_cpu or 1.0) for mine, base in pairs):.2f}",
                    f"{_middle(mine.postgres_cpu or 0.0 for mine, _ in pairs):,.0f}",
                    f"{_middle(each.memory for each in seen):,.0f}",
                    f"{max(each.backends for each in seen)}",
                    f"{sum(each.counted for each in seen):,} of {sum(each.requests for each in seen):,}",
                )
            )
    return aligned(lines, left={0, 1})


def _middle(values: Iterable[float]) -> float:
    return statistics.median(values)


def _cores(cores: Collection[int]) -> str:
    return "core " + "+".join(map(str, sorted(cores)))


if __name__ == "__main__":
    sys.exit(main())
