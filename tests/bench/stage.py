"""All that runs during a bench: a private Postgres with its table, the gateway, its peers, PgBouncer, the loader.

Whatever stands on one machine asks Postgres in one and the same way: by its Unix socket, as one would have it there, or
by TCP. No figure of ours by the one is ever set against a peer's by the other.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from tests.bench.loads import Loader
from tests.bench.measure import Unavailable
from tests.bench.processes import ROOT, Process, environment, python
from tests.bench.workloads import SCHEMA, WORKLOADS, neon_headers
from tests.support.cluster import Database, running_cluster
from tests.support.gateway import free_port
from tests.support.other_servers import command, is_installed
from tests.support.pgbouncer import PROGRAM, pgbouncer


class By(StrEnum):
    """How Postgres is asked."""

    UNIX = "unix"
    TCP = "tcp"

    @property
    def told(self) -> str:
        return "its Unix socket" if self is By.UNIX else "TCP over loopback"


def add_by(parser: argparse.ArgumentParser) -> None:
    """The option `--by`, or SOCKET in the environment, where make puts it."""
    default = By(os.environ.get("SOCKET") or By.UNIX)
    parser.add_argument(
        "--by", type=By, choices=list(By), default=default, help="how Postgres is asked; also SOCKET=tcp"
    )


BUILD = ROOT / ".compiled"
"""The compiled build, to be put before the source."""
PLAIN, COMPILED = "", ", compiled"
"""How what is measured ends by name: the gateway as it comes, and the compiled build, which the container image has."""
PGBENCH = shutil.which("pgbench")
POSTGRES = {"max_connections": "300", "shared_buffers": "128MB"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. `postgres` is the postmaster; `pooler_url` is None when PgBouncer is not installed."""

    postgres: int
    by: By
    database: Database
    """As a program names it that is elsewhere: by TCP."""
    local: Database
    """The same as everything on this machine asks it, which is `by`."""
    servers: dict[str, Process]
    doors: dict[str, Database]
    """The database by way of the TCP door of each server that has one."""
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
    """As a program names it that is elsewhere: by TCP."""
    local: Database
    """The same as everything on this machine asks it."""
    loader: Loader


@contextmanager
def running_ground(by: By) -> Iterator[Ground]:
    """Both for the length of the block."""
    with running_cluster(POSTGRES) as cluster, Loader() as loader:
        database = asyncio.run(cluster.create_database())
        asyncio.run(_fill(database))
        yield Ground(cluster.pid, database, cluster.by_socket(database) if by is By.UNIX else database, loader)


Command = Callable[[int], Sequence[str]]
"""What starts a server on a port."""


def gateway_itself(port: int) -> Sequence[str]:
    """The command of the gateway as people start it."""
    return python("sqlhttp_gateway", "serve", "--port", str(port))


def variables_of(build: str) -> dict[str, str]:
    """What in the environment makes a gateway that is started be of this build."""
    return {"PYTHONPATH": os.pathsep.join((str(BUILD), os.environ.get("PYTHONPATH", "")))} if build == COMPILED else {}


@contextmanager
def serving(name: str, database: Database, command: Command = gateway_itself, **settings: str) -> Iterator[Process]:
    """A server that answers; `settings` of a gateway by their names in the environment, where they are not the
    defaults."""
    port = free_port()
    variables = environment(DATABASE_URL=database.url, **settings)
    with Process(name, command(port), environment=variables, port=port) as server:
        server.wait_until_listening()
        yield server


@contextmanager
def running_stage(by: By, others: Iterable[str] = (), *, in_both_ways: bool, compiled: bool = False) -> Iterator[Stage]:
    """Everything for the length of the block; ended in reverse order, whatever ends the block.

    `others` are the ASGI servers that are not the gateway's own, as far as they are installed. `in_both_ways` adds the
    gateway and the plain way a second time, asking by TCP; `compiled` adds the build that `make compiled` has made.
    """
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sqlhttp-bench-")))
        ground = running.enter_context(running_ground(by))
        database, local = ground.database, ground.local
        if PGBENCH is not None:
            subprocess.run([PGBENCH, "-i", "-q", database.url], check=True, capture_output=True, timeout=60)
        servers: dict[str, Process] = {}
        doors: dict[str, Database] = {}

        def serve(name: str, command: Command = gateway_itself, asked: Database = local, **settings: str) -> None:
            servers[name] = running.enter_context(serving(name, asked, command, **settings))

        def peer(*arguments: str) -> Command:
            return lambda port: python("tests.bench.peers", *arguments, "--port", str(port))

        def serve_build(build: str) -> None:
            doors["gateway" + build] = door = replace(database, host="127.0.0.1", port=free_port())
            serve("gateway" + build, SQLHTTP_LISTEN__POSTGRES=str(door.port), **variables_of(build))

        serve_build(PLAIN)
        pooler_url = running.enter_context(pgbouncer(local, size=10)).url if PROGRAM is not None else None
        stage = Stage(ground.postgres, by, database, local, servers, doors, ground.loader, pooler_url)
        body = Path(folder, "answer.json")
        body.write_bytes(stage.ask("gateway", WORKLOADS["key"].neon_bodies[0]))
        serve("constant", peer("constant", "--body", str(body)))
        serve("plain", peer("plain"))
        serve("asyncpg", peer("asyncpg"))
        if compiled:
            serve_build(COMPILED)
        for build in (PLAIN, COMPILED) if compiled else (PLAIN,):
            # The one that keeps no answer is not slowed by those who do.
            serve("with the cache" + build, **variables_of(build))
        serve("two workers", SQLHTTP_LISTEN__WORKERS="2")
        if in_both_ways:
            serve("gateway, by TCP", asked=database)
            serve("plain, by TCP", peer("plain"), asked=database)
        for other in others:
            if is_installed(other):
                serve(other, partial(command, other))
                application = "tests.bench.peers:constant_of_environment"
                constant = partial(command, other, application=application)
                serve(f"constant, {other}", constant, BENCH_BODY=str(body))
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
