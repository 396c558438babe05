"""The doors for Postgres's own wire: pgbench by each way to the database, and round trips.

pgbench's own SELECT-only script (`-S`) is asked in its three protocols. PgBouncer before 1.21 knows no prepared
statements in transaction mode, so that in `prepared` it lends a connection for the session; the gateway does not.
"""

import json
import math
import re
import subprocess
from dataclasses import replace

from tests.bench.measure import Sample, Unavailable, cpu_seconds
from tests.bench.processes import ROOT, environment, python
from tests.bench.scheduling import apart_from
from tests.bench.stage import PGBENCH, Stage
from tests.bench.workloads import Workload

_MANY = 50
"""From so many clients on a run is made longer: their log-ins take a part of it."""
_TIMEOUT = 60.0  # seconds
_LATENCY = re.compile(r"latency average = ([\d.]+) ms")
_PROCESSED = re.compile(r"number of transactions actually processed: (\d+)")
_RATE = re.compile(r"tps = ([\d.]+)")


def pgbench(
    way: str, stage: Stage, workload: Workload, connections: int, seconds: float, *, server: str = "gateway"
) -> Sample:
    """`way` is direct, pooler or door, which is that of `server`. p50 is pgbench's average; it counts in whole seconds,
    so they are rounded up.

    Raises:
        Unavailable: pgbench, or PgBouncer, is not installed.
    """
    if PGBENCH is None:
        raise Unavailable("pgbench is not installed")
    gateway = stage.server(server)
    urls = {"direct": lambda: stage.local.url, "door": lambda: stage.doors[server].url, "pooler": lambda: stage.pooler}
    url = urls[way]()
    if way == "pooler" and workload.name == "prepared":
        url += "_session"
    if connections >= _MANY:
        seconds += 2.0
    command = [PGBENCH, "-n", "-S", "-M", workload.name, "-c", str(connections), "-T", str(math.ceil(seconds)), url]
    before = cpu_seconds(gateway.pid)
    told = _told(command)
    used = cpu_seconds(gateway.pid) - before
    count = int(_found(_PROCESSED, told))
    if not count:  # it was not connected in time
        return Sample(requests=0, seconds=seconds, errors=1)
    rate = _found(_RATE, told)
    return Sample(
        requests=count,
        seconds=count / rate,
        p50=_found(_LATENCY, told) * 1e3,
        server_cpu=used / count * 1e6 if way == "door" else None,
    )


def round_trips(
    how: str,
    stage: Stage,
    workload: Workload,
    connections: int,
    seconds: float,
    *,
    server: str = "gateway",
    by_tcp: bool = False,
) -> Sample:
    """One program that waits for each answer, by the same client whatever the way; `by_tcp` where the program itself
    asks Postgres so.
    It has a core of its own, as one that is elsewhere has; Postgres and the gateway share the others."""
    gateway = stage.server(server)
    [argument, *_] = [*map(str, workload.arguments[0]), ""]
    variables = environment(
        BENCH_URL=stage.local.url if how == "direct" and not by_tcp else stage.database.url,
        BENCH_PORT=str(gateway.port),
        BENCH_DOOR=str(stage.doors[server].port) if how == "tcp" else "0",
        BENCH_STATEMENT=workload.statement,
        BENCH_ARGUMENT=argument,
    )
    before = cpu_seconds(gateway.pid)
    with apart_from((stage.postgres, gateway.pid)):
        sample = Sample(**json.loads(_told(python("tests.bench.over_wire", how, str(seconds)), variables)))
    used = cpu_seconds(gateway.pid) - before
    return sample if how == "direct" else replace(sample, server_cpu=used / sample.requests * 1e6)


def _told(command: list[str], variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=variables or environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        start_new_session=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def _found(pattern: re.Pattern[str], text: str) -> float:
    match = pattern.search(text)
    if match is None:
        raise RuntimeError(f"pgbench said something else: {text}")
    return float(match[1])
