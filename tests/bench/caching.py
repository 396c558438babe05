"""What the result cache is worth: hits beside misses, beside the same request without the cache, and beside Starlette
answering a constant. `python -m tests.bench.caching` plays it on a stage of its own and prints the table.

A miss is a request with `no-cache`: it is fetched and kept each time. All four send the same body, a lookup by key.
"""

import asyncio
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.loads import Loader
from tests.bench.measure import Sample
from tests.bench.processes import Process, environment, python
from tests.bench.workloads import SCHEMA, WORKLOADS, neon_headers
from tests.support.cluster import running_cluster
from tests.support.gateway import free_port

ROUNDS, SECONDS, CONNECTIONS = 3, 2.0, 16
ASKED: Mapping[str, Mapping[str, str]] = {
    "hit": {"Cache-Control": "max-age=3600"},
    "miss": {"Cache-Control": "max-age=3600, no-cache"},
    "without the cache": {},
    "Starlette, a constant": {},
}


def main(rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """Measure and print."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sqlhttp-bench-")))
        cluster = running.enter_context(running_cluster({"shared_buffers": "128MB"}))
        database = asyncio.run(cluster.create_database())
        database.psql(SCHEMA)

        def serve(name: str, module: str, *arguments: str) -> Process:
            port = free_port()
            command = python(module, *arguments, "--port", str(port))
            child = Process(name, command, environment=environment(DATABASE_URL=database.url), port=port)
            running.enter_context(child).wait_until_listening()
            return child

        body, headers = WORKLOADS["key"].neon_bodies[0], neon_headers(database.url)
        gateway = serve("gateway", "sqlhttp_gateway", "serve")
        request = urllib.request.Request(f"http://127.0.0.1:{gateway.port}/sql", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            Path(folder, "answer.json").write_bytes(answer.read())
        constant = serve("constant", "tests.bench.peers", "constant", "--body", str(folder / "answer.json"))
        loader = running.enter_context(Loader())
        samples: dict[str, list[Sample]] = {name: [] for name in ASKED}
        for _ in range(rounds):
            for name, more in ASKED.items():  # neighbours in time, so that their ratio means something
                server = constant if name.startswith("Starlette") else gateway
                sample = loader.http(server, [body], headers | more, connections=CONNECTIONS, seconds=seconds)
                if sample.errors:
                    raise RuntimeError(f"{name}: {sample.errors} errors, {loader.fault}")
                samples[name].append(sample)
    print(f"{'':24}{'requests/s':>12}{'server CPU, µs':>16}{'CPU, x a hit':>14}")
    cost = {name: median(each.server_cpu or 0.0 for each in found) for name, found in samples.items()}
    for name, found in samples.items():
        rate = median(each.requests / each.seconds for each in found)
        print(f"{name:24}{rate:12.0f}{cost[name]:16.1f}{cost[name] / cost['hit']:14.2f}")


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:2]))
