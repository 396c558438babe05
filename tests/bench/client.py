"""The client part: what importing and calling cost, each kind in fresh processes that do nothing else.

Run with `python -m tests.bench.client KIND CALLS` it is such a process: it calls, and prints what a call has cost.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.bench.measure import Sample, percentile
from tests.bench.processes import ROOT, environment, python

if TYPE_CHECKING:  # a process that calls through one client should not have loaded the others
    from tests.bench.stage import Stage

CALLS = 600
_WARM_UP = 100
_STARTS = 8
_TIMEOUT = 60.0  # seconds
_STATEMENT = "SELECT id, name, email, balance, active, created, tags, data FROM items WHERE id = $1"
_KEY = 4711

Call = Callable[[], object]


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def calls(kind: str, stage: "Stage") -> Sample:
    """Lookups by key one after another over one kept connection. CPU and time are the caller's, a call."""
    told = _told(python("tests.bench.client", kind, str(CALLS)), stage)
    found: dict[str, Any] = json.loads(told)
    return Sample(**found)


def _sqlhttp(url: str, endpoint: str) -> Call:
    from sqlhttp import neon

    sql = neon(url, endpoint=endpoint)
    return lambda: sql.query(_STATEMENT, [_KEY])


def _httpx(url: str, endpoint: str) -> Call:
    import httpx

    client = httpx.Client(headers=_headers(url))
    body = {"query": _STATEMENT, "params": [str(_KEY)]}

    def call() -> object:
        response = client.post(endpoint, json=body)
        response.raise_for_status()
        return response.json()

    return call


def _http_client(url: str, endpoint: str) -> Call:
    import http.client

    where = urlsplit(endpoint)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port)
    headers = _headers(url)
    body = {"query": _STATEMENT, "params": [str(_KEY)]}

    def call() -> object:
        connection.request("POST", where.path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        assert response.status == 200
        return json.loads(response.read())

    return call


def _asyncpg(url: str, endpoint: str) -> Call:
    """Past the gateway, in the way in which the gateway itself asks."""
    import asyncio

    import asyncpg

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(os.environ["BENCH_POSTGRES"], ssl=False))
    return lambda: loop.run_until_complete(connection.fetch(_STATEMENT, _KEY))


def _headers(url: str) -> dict[str, str]:
    return {"Neon-Connection-String": url, "Neon-Raw-Text-Output": "true", "Neon-Array-Mode": "true"}


CALLERS = {"sqlhttp": _sqlhttp, "httpx": _httpx, "http.client": _http_client, "asyncpg": _asyncpg}
"""Kinds of callers. sqlhttp also makes Python values of what comes; httpx and http.client stop at the JSON."""


def main(kind: str, count: int) -> None:
    """Call, and print a Sample."""
    call = CALLERS[kind](os.environ["BENCH_URL"], os.environ["BENCH_ENDPOINT"])
    for _ in range(_WARM_UP):
        call()
    latencies = []
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        before = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - before)
    used, seconds = time.process_time() - cpu, time.perf_counter() - began
    latencies.sort()
    found = {
        "requests": count,
        "seconds": seconds,
        "p50": percentile(latencies, 50) * 1e6,
        "p99": percentile(latencies, 99) * 1e6,
        "client_cpu": used / count * 1e6,
    }
    print(json.dumps(found))


# ── imports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_ASK = "import os, sqlhttp; sqlhttp.neon(os.environ['BENCH_URL'], endpoint=os.environ['BENCH_ENDPOINT'])('select 1')"
_NEEDED = f"import sys; at_start = set(sys.modules); {_ASK}; print(*(set(sys.modules) - at_start))"
IMPORTS = {
    "sqlhttp and what it needs": "",
    "sqlhttp": "import sqlhttp",
    "sqlhttp and ask": _ASK,
    "httpx": "import httpx",
    "httpx and ask": (
        "import os, httpx; httpx.Client().post(os.environ['BENCH_ENDPOINT'], json={'query': 'select 1', 'params': []}, "
        "headers={'Neon-Connection-String': os.environ['BENCH_URL']}).raise_for_status()"
    ),
    "http.client and json": "import http.client, json",
}
"""Programs whose start is compared with that of an interpreter that does nothing; the empty one has to be found out."""


def imports(kind: str, stage: "Stage") -> Sample:
    """A start beyond that of a bare interpreter, each the best of a few, taken in turns, as whatever else runs can only
    add to it. Microseconds of CPU and time."""
    program = IMPORTS[kind] or _import_of_all_needed(stage)
    spent: dict[str, list[tuple[float, float]]] = {"": [], program: []}
    for _ in range(_STARTS):
        for each, seen in spent.items():
            seen.append(_start(each, stage))
    (bare_cpu, bare_time), (cpu, wall) = (
        [min(column) * 1e6 for column in zip(*seen, strict=True)] for seen in spent.values()
    )
    return Sample(requests=_STARTS, seconds=0.0, p50=wall - bare_time, client_cpu=cpu - bare_cpu)


def _import_of_all_needed(stage: "Stage") -> str:
    """Imports of whatever a first query has imported, sqlhttp first, which brings most of it along."""
    needed = _told([sys.executable, "-c", _NEEDED], stage).split()
    return f"import sqlhttp, {', '.join(sorted(needed))}"


def _start(program: str, stage: "Stage") -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    _told([sys.executable, "-c", program], stage)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def _told(command: list[str], stage: "Stage") -> str:
    variables = environment(
        BENCH_URL=stage.database.url, BENCH_POSTGRES=stage.local.url, BENCH_ENDPOINT=stage.url("gateway")
    )
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=_TIMEOUT, start_new_session=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def installed_kib() -> dict[str, float]:
    """KiB of Python source that an installed client consists of, with what it needs, beside httpx's."""
    return {
        "sqlhttp": _source_kib(ROOT / "client" / "sqlhttp"),
        "httpx and what it needs": sum(
            map(_distribution_kib, ("httpx", "httpcore", "h11", "anyio", "certifi", "idna"))
        ),
        "asyncpg": _distribution_kib("asyncpg"),
    }


def _source_kib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.py")) / 1024


def _distribution_kib(name: str) -> float:
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return 0.0
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
