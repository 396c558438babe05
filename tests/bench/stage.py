"""All that runs during a bench: a private Postgres with its table, the gateway, its peers, PgBouncer, the loader."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlhttp_gateway.embedded import Account
from tests.bench.loads import Loader
from tests.bench.measure import Unavailable
from tests.bench.processes import Process, environment, python
from tests.bench.workloads import SCHEMA, WORKLOADS, neon_headers
from tests.support.cluster import Database, running_cluster
from tests.support.gateway import free_port

POSTGRES = {"max_connections": "300", "shared_buffers": "128MB"}
_PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_PGBOUNCER_INI = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. `postgres` is the postmaster; `pooler_url` is None when PgBouncer is not installed."""

    postgres: int
    database: Database
    servers: dict[str, Process]
    loader: Loader
    pooler_url: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What a driver sends with each request."""
        return neon_headers(self.database.url)

    def server(self, name: str) -> Process:
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


@contextmanager
def running_stage() -> Iterator[Stage]:
    """Everything for the length of the block; ended in reverse order, whatever ends the block."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sqlhttp-bench-")))
        cluster = running.enter_context(running_cluster(POSTGRES))
        database = asyncio.run(cluster.create_database())
        asyncio.run(_fill(database))
        servers: dict[str, Process] = {}

        def serve(name: str, module: str, *arguments: str) -> None:
            port = free_port()
            command = python(module, *arguments, "--port", str(port))
            child = Process(name, command, environment=environment(DATABASE_URL=database.url), port=port)
            servers[name] = running.enter_context(child)
            child.wait_until_listening()

        serve("gateway", "sqlhttp_gateway", "serve")
        loader = running.enter_context(Loader())
        stage = Stage(cluster.pid, database, servers, loader, _pooler(running, folder, database))
        answer = stage.ask("gateway", WORKLOADS["key"].neon_bodies[0])
        Path(folder, "answer.json").write_bytes(answer)
        serve("constant", "tests.bench.peers", "constant", "--body", str(folder / "answer.json"))
        serve("plain", "tests.bench.peers", "plain")
        serve("asyncpg", "tests.bench.peers", "asyncpg")
        yield stage


async def _fill(database: Database) -> None:
    connection = await database.connect()
    try:
        await connection.execute(SCHEMA)
        await connection.execute("VACUUM ANALYZE items")  # nothing does it by itself in the tests' cluster
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _pooler(running: ExitStack, folder: Path, database: Database) -> str | None:
    """Start PgBouncer with SCRAM on both of its sides; it refuses to run as root."""
    if _PGBOUNCER is None:
        return None
    home = folder / "pgbouncer"
    home.mkdir()
    account = Account.for_folder(home)
    port = free_port()
    settings = _PGBOUNCER_INI.format(host=database.host, port=database.port, listen_port=port, folder=home)
    (home / "pgbouncer.ini").write_text(settings)
    (home / "users").write_text(f'"{database.role}" "{database.password}"\n')
    folder.chmod(0o755)
    for path in (home / "pgbouncer.ini", home / "users", home):
        account.own(path)
    command = [_PGBOUNCER, str(home / "pgbouncer.ini")]
    pooler = Process("pgbouncer", command, environment=environment(), port=port, options=account.switch)
    running.enter_context(pooler).wait_until_listening()
    return Database("127.0.0.1", port, database.name, database.role, database.password).url


def pgbouncer_version() -> str | None:
    """The first line of its own words; None when it is not installed."""
    if _PGBOUNCER is None:
        return None
    told = subprocess.run([_PGBOUNCER, "--version"], capture_output=True, text=True, timeout=10).stdout
    return told.partition("\n")[0].removeprefix("PgBouncer ")
