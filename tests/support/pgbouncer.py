"""A real PgBouncer in transaction mode between the gateway and the tests' Postgres, where one is installed."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlhttp_gateway.embedded import Account
from tests.support.cluster import Database
from tests.support.gateway import free_port
from tests.support.processes import frozen

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_START_TIMEOUT = 10.0  # seconds; a start takes a few hundredths of one
_SETTINGS = """
[databases]
{name}_session = host={host} port={port} dbname={name} pool_mode=session
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir = {folder}
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
server_login_retry = 0.1
log_connections = 0
log_disconnections = 0
"""


class PgBouncer:
    """One in front of a database, in `folder`; it can be killed and started again on its port."""

    def __init__(self, folder: Path, database: Database, *, size: int, accounts: Mapping[str, str]) -> None:
        assert PROGRAM is not None
        self.before = replace(database, host="127.0.0.1", port=free_port())
        """The database as it is reached through it by TCP."""
        self.by_socket = replace(self.before, host=str(folder))
        """The same by its Unix socket."""
        self._account = Account.for_folder(folder)  # it refuses to run as root
        self._command = [PROGRAM, str(folder / "pgbouncer.ini")]
        self._process: subprocess.Popen[bytes] | None = None
        settings = _SETTINGS.format(
            name=database.name,
            host=database.host,
            port=database.port,
            listen_port=self.before.port,
            folder=folder,
            size=size,
        )
        (folder / "pgbouncer.ini").write_text(settings)
        users = {database.role: database.password, **accounts}
        (folder / "users").write_text("".join(f'"{role}" "{password}"\n' for role, password in users.items()))
        for path in (folder / "pgbouncer.ini", folder / "users", folder):
            self._account.own(path)

    def start(self) -> None:
        """Run it; return when it passes queries on."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._account.switch
        )
        _wait_until_it_answers(self.before)

    def stop(self) -> None:
        """End it as it likes to be ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_START_TIMEOUT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def frozen(self) -> AbstractContextManager[None]:
        """It stands still for the length of the block."""
        return frozen(self._process)


@contextmanager
def running_pgbouncer(
    database: Database, *, size: int, accounts: Mapping[str, str] | None = None
) -> Iterator[PgBouncer]:
    """One with `size` server connections to each database and role, for the length of the block.

    `accounts` are passwords of more roles. Under a database's name with `_session` behind, it is lent for the session.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        pooler = PgBouncer(folder, database, size=size, accounts=accounts or {})
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.stop()


@contextmanager
def pgbouncer(database: Database, *, size: int, by_socket: bool = False) -> Iterator[Database]:
    """`database` as it is reached through one, by TCP or by its Unix socket."""
    with running_pgbouncer(database, size=size) as pooler:
        yield pooler.by_socket if by_socket else pooler.before


def _wait_until_it_answers(database: Database) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            database.psql("SELECT 1")
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
