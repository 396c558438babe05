"""The tests' own Postgres: one cluster a session, and databases that live as long as one test.

Durability is switched off, since the data dies with the session. Nothing here knows of the gateway.
"""

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import asyncpg

from sqlhttp_gateway.embedded import PrivatePostgres, programs

PASSWORD = "postgres"
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "log_statement": "none",
}


@dataclass(frozen=True, slots=True)
class Database:
    """Where one database is and as whom to go there. `str()` is its connection string."""

    host: str
    port: int
    name: str
    role: str = "postgres"
    password: str = PASSWORD

    @property
    def url(self) -> str:
        who = f"{quote(self.role, safe='')}:{quote(self.password, safe='')}"
        return f"postgres://{who}@{self.host}:{self.port}/{quote(self.name, safe='')}"

    def __str__(self) -> str:
        return self.url

    def as_role(self, role: str, password: str) -> "Database":
        """The same database for somebody else."""
        return replace(self, role=role, password=password)

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection beside the gateway, to look at what it did. The caller closes it."""
        return await asyncpg.connect(
            host=self.host,
            port=self.port,
            user=self.role,
            password=self.password,
            database=self.name,
            ssl=False,
            timeout=10,
        )

    def psql(self, sql: str, *flags: str) -> str:
        """What `psql -X -At` prints for one command string; an error of Postgres is an exception here."""
        command = [str(programs() / "psql"), "-X", "-At", "-v", "ON_ERROR_STOP=1", *flags, "-c", sql, self.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout


class Cluster:
    """A running Postgres with superuser `postgres`, password `postgres`."""

    def __init__(self, server: PrivatePostgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int:
        """The postmaster."""
        pid = self._server.pid
        assert pid is not None, "Postgres has ended"
        return pid

    @property
    def data(self) -> Path:
        return self._server.data

    @property
    def log(self) -> Path:
        return self._server.log

    @property
    def maintenance(self) -> Database:
        """The superuser's own database, for CREATE ROLE and the like."""
        return self.database("postgres")

    def database(self, name: str) -> Database:
        return Database(self.host, self.port, name)

    async def create_database(self) -> Database:
        """A fresh, empty database under a name that nobody had."""
        database = self.database(f"test_{next(self._numbers)}")
        await self._run(f"CREATE DATABASE {database.name} TEMPLATE template0 STRATEGY wal_log")
        return database

    async def drop_database(self, database: Database) -> None:
        """Drop it with whoever is still connected."""
        await self._run(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    async def _run(self, sql: str) -> None:
        connection = await self.maintenance.connect()
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def restart(self) -> None:
        """An orderly end and a new start, on the same port if nobody took it meanwhile."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Every backend ends at once and nothing is written; recovery is left to `start`."""
        os.kill(self.pid, signal.SIGQUIT)
        self._server.wait()
        self._server.stop()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()


@contextmanager
def running_cluster(options: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster for the length of the block; `options` go over those that make it fast."""
    with (
        tempfile.TemporaryDirectory(prefix="sqlhttp-test-") as folder,
        PrivatePostgres(Path(folder), PASSWORD, options=FAST | dict(options or {})) as server,
    ):
        yield Cluster(server)
