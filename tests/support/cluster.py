"""The tests' own Postgres: one cluster a session, and databases that live as long as one test.

Durability is switched off, since the data dies with the session. Nothing here knows of the gateway.

Most of the time that a test of one statement takes would go into the making of its database, so a database that was
given back untouched is given to another test, under another name; and initdb runs once a session, not once a cluster.
"""

import atexit
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psycopg

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

_END_SESSIONS = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
"""Each has told what it did before it is gone."""
_IS_UNTOUCHED = """
SELECT tup_inserted + tup_updated + tup_deleted = 0 AND stats_reset IS NULL AND datacl IS NULL AND datconnlimit = -1
    AND datallowconn AND shobj_description(oid, 'pg_database') IS NULL
    AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = oid)
FROM pg_database JOIN pg_stat_database ON datid = oid WHERE pg_database.datname = %s
"""
"""Rows of catalogs are counted with the others, also those of transactions that were rolled back."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where one database is and as whom to go there. `str()` is its connection string."""

    host: str
    """A name or an address, or the folder of a Unix socket."""
    port: int
    name: str
    role: str = "postgres"
    password: str = PASSWORD

    @property
    def url(self) -> str:
        who = f"{quote(self.role, safe='')}:{quote(self.password, safe='')}"
        if self.host.startswith("/"):
            return f"postgres://{who}@/{quote(self.name, safe='')}?host={quote(self.host)}&port={self.port}"
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
        self._untouched: list[str] = []
        self._own: psycopg.Connection[tuple[bool | None]] | None = None
        """The connection that makes databases."""

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def socket_folder(self) -> Path:
        """Where its Unix socket is, for whoever runs on this machine, under any account."""
        folder = self._server.socket_folder
        assert folder is not None, "the folder of temporary files has too long a path"
        return folder

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

    def by_socket(self, database: Database) -> Database:
        """The same database, asked by the Unix socket."""
        return replace(database, host=str(self.socket_folder))

    async def create_database(self) -> Database:
        """An empty database under a name that nobody had."""
        database = self.database(f"test_{next(self._numbers)}")
        while self._untouched:
            try:
                self._run(f"ALTER DATABASE {self._untouched[-1]} RENAME TO {database.name}")
            except psycopg.errors.ObjectInUse:  # somebody has come back to it
                self._run(f"DROP DATABASE {self._untouched.pop()} WITH (FORCE)")
            else:
                self._untouched.pop()
                return database
        self._run(f"CREATE DATABASE {database.name} TEMPLATE template0 STRATEGY wal_log")
        return database

    async def drop_database(self, database: Database) -> None:
        """End whoever is still connected; the database is gone, at least under this name."""
        self._run(_END_SESSIONS, database.name)
        if self._run(_IS_UNTOUCHED, database.name):
            self._untouched.append(database.name)
        else:
            self._run(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    def _run(self, sql: str, *params: str) -> bool | None:
        """The first value of the last row."""
        if self._own is None or self._own.broken:
            self._own = psycopg.connect(self.maintenance.url, autocommit=True, connect_timeout=10)
        done = self._own.execute(sql.encode(), params or None)
        rows = done.fetchall() if done.description is not None else []
        return rows[-1][0] if rows else None

    def _hang_up(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def restart(self) -> None:
        """An orderly end and a new start, on the same port if nobody took it meanwhile."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Every backend ends at once and nothing is written; recovery is left to `start`."""
        self._hang_up()
        if self._server.pid is not None:
            os.kill(self.pid, signal.SIGQUIT)
            self._server.wait()
        self._server.stop()

    def stop(self) -> None:
        self._hang_up()
        self._server.stop()

    def start(self) -> None:
        self._server.start()


@contextmanager
def running_cluster(options: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster for the length of the block; `options` go over those that make it fast."""
    with tempfile.TemporaryDirectory(prefix="sqlhttp-test-") as folder:
        Path(folder).chmod(0o711)  # to the socket, which is the one thing in there that others may use
        copy_data(initial_data(), Path(folder, "postgres"))
        server = PrivatePostgres(Path(folder), PASSWORD, options=FAST | dict(options or {}))
        server.start()
        cluster = Cluster(server)
        try:
            yield cluster
        finally:
            cluster.crash()  # nobody wants the data, so nobody need write them down


@cache
def initial_data() -> Path:
    """A data directory as initdb makes it, to copy from."""
    folder = tempfile.mkdtemp(prefix="sqlhttp-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = PrivatePostgres(Path(folder), PASSWORD, options=FAST)
    with server:
        pass
    return server.data


def copy_data(source: Path, destination: Path) -> None:
    """The data of a server that does not run, with the same owner."""
    destination.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(source, destination)
    owner = source.stat()
    for path in (destination, *destination.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    destination.chmod(0o700)
