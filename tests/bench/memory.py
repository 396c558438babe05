"""What connections cost in memory, each time seen in a gateway of its own that has done nothing else."""

import subprocess

from tests.bench.measure import Sample, highest_mib, resident_mib
from tests.bench.processes import Process, environment, python
from tests.bench.stage import Stage, serving, variables_of
from tests.bench.workloads import Workload

_FIRST = 5
"""WebSockets before any is counted: what the first ones need of code and caches is there for all."""
_TIMEOUT = 60.0  # seconds


def kept(build: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """Keep-alive connections that ask; `memory` is the most MiB that the gateway held resident meanwhile."""
    with serving("gateway", stage.local, **variables_of(build)) as gateway:
        bodies = workload.neon_bodies
        sample = stage.loader.http(gateway, bodies, stage.headers, connections=connections, seconds=seconds)
        most = highest_mib(gateway.pid)
    return Sample(requests=connections, seconds=0.0, errors=sample.errors, memory=most)


def idle(build: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """WebSockets with a statement each behind them; `memory` is the MiB by which all of them together let it grow."""
    with serving("gateway", stage.local, **variables_of(build)) as gateway:
        _open(stage, gateway, _FIRST)
        before = resident_mib(gateway.pid)
        after = _open(stage, gateway, connections)
    return Sample(requests=connections, seconds=0.0, memory=after - before)


def _open(stage: Stage, gateway: Process, count: int) -> float:
    """Open so many, and close them again; the gateway's memory in between, in MiB."""
    variables = environment(BENCH_URL=stage.database.url, BENCH_PORT=str(gateway.port))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = python("tests.bench.over_wire", "idle", str(count))
    with Process("idle programs", command, environment=variables, options=pipes) as programs:
        programs.ask("", timeout=_TIMEOUT)
        return resident_mib(gateway.pid)
