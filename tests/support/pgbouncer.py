"""A real PgBouncer in transaction mode between the gateway and the tests' Postgres, where one is installed."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlhttp_gateway.embedded import Account
from tests.support.cluster import Database
from tests.support.gateway import free_port

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
log_connections = 0
log_disconnections = 0
"""


@contextmanager
def pgbouncer(database: Database, *, size: int, by_socket: bool = False) -> Iterator[Database]:
    """`database` as it is reached through a PgBouncer with `size` server connections, by TCP or by its Unix socket.

    Under its name with `_session` behind, it is lent for the session.
    """
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        account = Account.for_folder(folder)  # it refuses to run as root
        before = replace(database, host="127.0.0.1", port=free_port())
        settings = _SETTINGS.format(
            name=database.name,
            host=database.host,
            port=database.port,
            listen_port=before.port,
            folder=folder,
            size=size,
        )
        (folder / "pgbouncer.ini").write_text(settings)
        (folder / "users").write_text(f'"{database.role}" "{database.password}"\n')
        for path in (folder / "pgbouncer.ini", folder / "users", folder):
            account.own(path)
        running = subprocess.Popen(
            [PROGRAM, str(folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account.switch,
        )
        try:
            _wait_until_it_answers(before)
            yield replace(before, host=name) if by_socket else before
        finally:
            running.terminate()
            running.wait(_START_TIMEOUT)


def _wait_until_it_answers(database: Database) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            database.psql("SELECT 1")
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
