"""Who can be measured, each under the name by which `rows` calls it, and how.

A subject is a function from a stage, a workload, a number of connections and a time to a Sample. To add one, write the
function and put it into SUBJECTS; to compare it, add a line to `rows.RATIOS`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.bench import client, doors, memory
from tests.bench.loads import WRK, encode_request, wrk
from tests.bench.measure import Run, Sample, family_cpu_seconds
from tests.bench.scheduling import as_batch
from tests.bench.stage import COMPILED, PLAIN, Stage
from tests.bench.workloads import WORKLOADS, Workload
from tests.support.other_servers import OTHERS

Subject = Callable[[Stage, Workload, int, float], Sample]

_MOST_FRESH = 400
"""Connections that one run may open to Postgres or PgBouncer; each costs a process or a log-in."""
_MOST_SOCKETS = 4_000
"""TCP connections that one run may open; a closed one keeps its port for a minute."""
_OPENING = 20.0  # seconds
_WARM_UP = 0.3
"""Seconds of load that are not counted, before each run of a server: other servers have had the caches meanwhile, a
first run opens connections to Postgres and prepares statements there, and the first request of each connection costs
the gateway some 0.3 ms, which in a short run on a busy machine is a tenth of all."""
_MANY = 500
"""From so many connections on a run is made longer: opening them takes a part of it."""


def measure(stage: Stage, run: Run, seconds: float) -> Sample:
    """One run.

    Raises:
        Unavailable: the subject cannot be measured here.
    """
    before = family_cpu_seconds(stage.postgres)
    sample = SUBJECTS[run.subject](stage, WORKLOADS[run.workload], run.connections, seconds)
    used = family_cpu_seconds(stage.postgres) - before
    if sample.p99 is None or not sample.requests:  # starts of programs are not requests
        return sample
    return replace(sample, postgres_cpu=used / sample.requests * 1e6)


def _served(name: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """A server under keep-alive load: from wrk, or from the loader where there is no wrk.

    At its end wrk drops what is under way. Where that is much beside what was answered, the loader is asked, which
    waits, or the run is made longer.
    """
    server, bodies = stage.server(name), bodies_for(name, workload)
    headers = stage.headers | dict(workload.headers)
    stage.loader.http(server, bodies, headers, connections=min(connections, 64), seconds=_WARM_UP)
    load = wrk if WRK and not workload.is_slow else stage.loader.http
    if connections >= _MANY:
        seconds *= 3
    return load(server, bodies, headers, connections=connections, seconds=seconds)


def _beside_batch(name: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """The same beside a Postgres that pushes nobody from a core."""
    with as_batch(stage.postgres):
        return _served(name, stage, workload, connections, seconds)


def bodies_for(server: str, workload: Workload) -> list[bytes]:
    """What this server is sent for a workload."""
    return workload.plain_bodies if server.partition(",")[0] == "plain" else workload.neon_bodies


def _by_loader(name: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """The gateway asked by the process that also asks asyncpg, so that what the asking costs is the same."""
    server, bodies, headers = stage.server(name), workload.neon_bodies, stage.headers | dict(workload.headers)
    stage.loader.http(server, bodies, headers, connections=connections, seconds=_WARM_UP)
    return stage.loader.http(server, bodies, headers, connections=connections, seconds=seconds)


def _open_before(name: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """The same over connections that are open, and have asked once, before anything is measured."""
    gateway, loader = stage.server(name), stage.loader
    request = encode_request(workload.neon_bodies[0], stage.headers | dict(workload.headers))
    loader.open(gateway, request, connections=connections, seconds=_OPENING)
    try:
        return loader.ask(gateway, seconds=seconds)
    finally:
        loader.open(gateway, request, connections=0, seconds=_OPENING)


def _new_connections(name: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    """The same with a TCP connection for each request."""
    headers = stage.headers | dict(workload.headers)
    return stage.loader.http(
        stage.server(name),
        workload.neon_bodies,
        headers,
        connections=connections,
        seconds=seconds,
        keep_alive=False,
        most=_MOST_SOCKETS,
    )


def _direct(
    how: str, stage: Stage, workload: Workload, connections: int, seconds: float, *, by_tcp: bool = False
) -> Sample:
    """asyncpg in the loader's process; `by_tcp` however everybody else asks."""
    local = stage.database if by_tcp else stage.local
    return stage.loader.direct(
        how,
        url=stage.pooler if how == "pooler" else local.url,
        connections=connections,
        seconds=seconds,
        most=_MOST_FRESH if how in ("fresh", "pooler") else 1_000_000,
        statement=workload.statement,
        arguments=[list(map(str, each)) for each in workload.arguments] if how == "text" else workload.arguments,
        batch=workload.batch,
    )


def _called(kind: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    return client.calls(kind, stage)


def _imported(kind: str, stage: Stage, workload: Workload, connections: int, seconds: float) -> Sample:
    return client.imports(kind, stage)


def _gateways(build: str) -> dict[str, Subject]:
    """The subjects that are gateways of one build."""
    gateway, caching = "gateway" + build, "with the cache" + build
    subjects: dict[str, Subject] = {
        # Asked by wrk.
        "gateway": partial(_served, gateway),
        "with the cache": partial(_served, caching),
        "gateway, Postgres as batch": partial(_beside_batch, gateway),
        # By the loader.
        "gateway, kept": partial(_by_loader, gateway),
        "gateway, open": partial(_open_before, gateway),
        "gateway, new TCP": partial(_new_connections, gateway),
        # By Postgres's own wire.
        "pgbench, TCP door": partial(doors.pgbench, "door", server=gateway),
        "wire, TCP door": partial(doors.round_trips, "tcp", server=gateway),
        "wire, WebSocket": partial(doors.round_trips, "websocket", server=gateway),
        # Started for the purpose.
        "kept connections": partial(memory.kept, build),
        "idle WebSockets": partial(memory.idle, build),
    }
    return {name + build: subject for name, subject in subjects.items()}


SUBJECTS: dict[str, Subject] = {
    **_gateways(PLAIN),
    **_gateways(COMPILED),
    # Other servers, asked by wrk.
    "constant": partial(_served, "constant"),
    "plain": partial(_served, "plain"),
    "two workers": partial(_served, "two workers"),
    **{name: partial(_served, name) for name in OTHERS},
    **{f"constant, {name}": partial(_served, f"constant, {name}") for name in OTHERS},
    "asyncpg in C": partial(_served, "asyncpg"),
    # Asked by the loader, one process for all of these.
    "asyncpg pool": partial(_direct, "pool"),
    "asyncpg kept": partial(_direct, "single"),
    "asyncpg to text": partial(_direct, "text"),
    "fresh": partial(_direct, "fresh"),
    "fresh, PgBouncer": partial(_direct, "pooler"),
    # Programs that speak Postgres's own wire.
    "pgbench, direct": partial(doors.pgbench, "direct"),
    "pgbench, PgBouncer": partial(doors.pgbench, "pooler"),
    "wire, direct": partial(doors.round_trips, "direct"),
    # The same once more, asking by TCP while all of the above ask by the socket.
    "gateway, by TCP": partial(_served, "gateway, by TCP"),
    "plain, by TCP": partial(_served, "plain, by TCP"),
    "gateway, kept, by TCP": partial(_by_loader, "gateway, by TCP"),
    "asyncpg kept, by TCP": partial(_direct, "single", by_tcp=True),
    "wire, direct, by TCP": partial(doors.round_trips, "direct", by_tcp=True),
    "wire, WebSocket, by TCP": partial(doors.round_trips, "websocket", server="gateway, by TCP"),
    # Clients, each in a process of its own.
    **{f"call: {kind}": partial(_called, kind) for kind in client.CALLERS},
    **{f"import: {kind}": partial(_imported, kind) for kind in client.IMPORTS},
}
