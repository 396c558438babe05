"""All that runs during a bench: a private Postgres with its table, the gateway, its peers, PgBouncer, the loader."""

import asyncio
import importlib.util
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.loads import Loader
from tests.bench.measure import Unavailable
from tests.bench.processes import Process, environment, python
from tests.bench.workloads import SCHEMA, WORKLOADS, neon_headers
from tests.support.cluster import Database, running_cluster
from tests.support.gateway import free_port
from tests.support.pgbouncer import PROGRAM, pgbouncer

GRANIAN = importlib.util.find_spec("granian")
"""Another ASGI server, which nothing here needs: measured where it is installed."""
PGBENCH = shutil.which("pgbench")
POSTGRES = {"max_connections": "300", "shared_buffers": "128MB"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. `postgres` is the postmaster; `pooler_url` is None when PgBouncer is not installed."""

    postgres: int
    database: Database
    servers: dict[str, Process]
    door: Database
    """The database by way of the gateway's TCP door."""
    loader: Loader
    pooler_url: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What a driver sends with each request."""
        return neon_headers(self.database.url)

    def server(self, name: str) -> Process:
        """
        Raises:
            Unavailable: it is not installed.
        """
        if name not in self.servers:
            raise Unavailable(f"{name} is not installed")
        return self.servers[name]

    @property
    def pooler(self) -> str:
        """
        Raises:
            Unavailable: PgBouncer is not installed.
        """
        if self.pooler_url is None:
            raise Unavailable("PgBouncer is not installed")
        return self.pooler_url

    def url(self, server: str) -> str:
        return f"http://127.0.0.1:{self.servers[server].port}/sql"

    def ask(self, server: str, body: bytes) -> bytes:
        """One answer, to see that it is one before its speed is measured."""
        request = urllib.request.Request(self.url(server), data=body, headers=self.headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                told = error.read().decode(errors="replace")
            raise RuntimeError(f"{server} answers {body!r} with {told}\n{self.servers[server].log}") from None


@dataclass(frozen=True, slots=True)
class Ground:
    """What every measurement stands on: Postgres with its table, and a source of load."""

    postgres: int
    """The postmaster."""
    database: Database
    loader: Loader


@contextmanager
def running_ground() -> Iterator[Ground]:
    """Both for the length of the block."""
    with running_cluster(POSTGRES) as cluster, Loader() as loader:
        database = asyncio.run(cluster.create_database())
        asyncio.run(_fill(database))
        yield Ground(cluster.pid, database, loader)


@contextmanager
def serving(name: str, database: Database, *command: str, **settings: str) -> Iterator[Process]:
    """A server that answers: a module with its arguments, without them the gateway; `settings` by their names in the
    environment, where they are not the defaults."""
    port = free_port()
    module, *arguments = command or ("sqlhttp_gateway", "serve")
    variables = environment(DATABASE_URL=database.url, **settings)
    with Process(name, python(module, *arguments, "--port", str(port)), environment=variables, port=port) as server:
        server.wait_until_listening()
        yield server


@contextmanager
def running_stage() -> Iterator[Stage]:
    """Everything for the length of the block; ended in reverse order, whatever ends the block."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sqlhttp-bench-")))
        ground = running.enter_context(running_ground())
        database = ground.database
        if PGBENCH is not None:
            subprocess.run([PGBENCH, "-i", "-q", database.url], check=True, capture_output=True, timeout=60)
        servers: dict[str, Process] = {}
        door = replace(database, host="127.0.0.1", port=free_port())

        def serve(name: str, *command: str, **settings: str) -> None:
            servers[name] = running.enter_context(serving(name, database, *command, **settings))

        serve("gateway", SQLHTTP_LISTEN__POSTGRES=str(door.port))
        pooler_url = running.enter_context(pgbouncer(database, size=10)).url if PROGRAM is not None else None
        stage = Stage(ground.postgres, database, servers, door, ground.loader, pooler_url)
        answer = stage.ask("gateway", WORKLOADS["key"].neon_bodies[0])
        Path(folder, "answer.json").write_bytes(answer)
        serve("constant", "tests.bench.peers", "constant", "--body", str(folder / "answer.json"))
        serve("plain", "tests.bench.peers", "plain")
        serve("asyncpg", "tests.bench.peers", "asyncpg")
        serve("with the cache")  # the one that keeps no answer is not slowed by those who do
        serve("two workers", SQLHTTP_LISTEN__WORKERS="2")
        if GRANIAN is not None:
            arguments = ["--interface", "asgi", "--factory", "--loop", "uvloop", "--workers", "1", "--no-ws"]
            serve("granian", "granian", *arguments, "--host", "127.0.0.1", "tests.bench.peers:gateway")
        yield stage


async def _fill(database: Database) -> None:
    connection = await database.connect()
    try:
        await connection.execute(SCHEMA)
        await connection.execute("VACUUM ANALYZE items")  # nothing does it by itself in the tests' cluster
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def pgbouncer_version() -> str | None:
    """The first line of its own words; None when it is not installed."""
    if PROGRAM is None:
        return None
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=10).stdout
    return told.partition("\n")[0].removeprefix("PgBouncer ")
