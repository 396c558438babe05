"""A primary and replicas that stream from it: real servers, made from one cluster's data.

A replica knows the addresses of all and follows whichever is the primary, as a fleet behind a failover manager does.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlhttp_gateway.embedded import Account, PrivatePostgres, programs
from sqlhttp_gateway.wire.lsn import lsn_from_text
from tests.support.cluster import FAST, PASSWORD, Cluster, Database, copy_data, initial_data
from tests.support.gateway import free_port

_PATIENCE = 20.0
_STREAMING: dict[str, str] = {
    # What is acknowledged is in the log, which a replica gets only once it is written there.
    "synchronous_commit": "on",
    "wal_level": "replica",
    "wal_writer_delay": "10ms",
    "wal_retrieve_retry_interval": "100ms",
    "max_wal_senders": "10",
    "wal_keep_size": "256MB",
    "hot_standby": "on",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Servers that stream to each other; the first was made as the primary."""

    servers: tuple[Cluster, ...]

    @property
    def primary(self) -> Cluster:
        return self.servers[0]

    @property
    def replicas(self) -> tuple[Cluster, ...]:
        return self.servers[1:]

    @property
    def url(self) -> str:
        """A connection string that names all servers, as libpq reads it."""
        places = ",".join(f"{server.host}:{server.port}" for server in self.servers)
        return f"postgres://postgres:{PASSWORD}@{places}/postgres"

    def wait_replayed(self, *replicas: Cluster) -> None:
        """Until these, or all, have replayed what the primary has written so far."""
        position = self.primary.maintenance.psql("SELECT pg_current_wal_lsn()").strip()
        for replica in replicas or self.replicas:
            wait_until(replica.maintenance, f"SELECT pg_last_wal_replay_lsn() >= '{position}'")

    def promote(self, replica: Cluster) -> None:
        """Make it a primary, and return when it says so."""
        replica.maintenance.psql("SELECT pg_promote(wait := false)")
        wait_until(replica.maintenance, "SELECT NOT pg_is_in_recovery()")

    def rejoin(self, server: Cluster, primary: Cluster) -> None:
        """Let one that has ended follow this primary, with a new copy of its data: what it has itself may be more."""
        account = Account.for_folder(server.data)
        shutil.rmtree(server.data)
        where = ["-h", primary.host, "-p", str(primary.port), "-U", "postgres"]
        how = ["-D", str(server.data), "-X", "stream", "-c", "fast", "--no-sync"]
        command = [str(programs() / "pg_basebackup"), *where, *how]
        subprocess.run(command, env={**os.environ, "PGPASSWORD": PASSWORD}, check=True, capture_output=True, timeout=60)
        (server.data / "standby.signal").touch()
        for path in (server.data, *server.data.rglob("*")):
            account.own(path)
        server.start()


def most_advanced(*replicas: Cluster) -> tuple[Cluster, ...]:
    """As a failover manager chooses: whoever has received the most comes first."""

    def received(replica: Cluster) -> int:
        return lsn_from_text(replica.maintenance.psql("SELECT pg_last_wal_receive_lsn()").strip())

    return tuple(sorted(replicas, key=received, reverse=True))


def wait_until(database: Database, condition: str) -> None:
    """Until the query answers t."""
    deadline = time.monotonic() + _PATIENCE
    while database.psql(condition).strip() != "t":
        assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {condition}"
        time.sleep(0.01)


@contextmanager
def running_fleet(replicas: int = 2, options: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """A primary and so many replicas, all caught up, for the length of the block; `options` are settings of each."""
    settings = FAST | _STREAMING | dict(options or {})
    ports = [free_port() for _ in range(1 + replicas)]
    everywhere = f"host={','.join(['127.0.0.1'] * len(ports))} port={','.join(map(str, ports))}"
    follow = f"{everywhere} user=postgres password={PASSWORD} sslmode=disable target_session_attrs=read-write"
    with tempfile.TemporaryDirectory(prefix="sqlhttp-test-") as folder, ExitStack() as running:
        servers = []
        for number, port in enumerate(ports):
            home = Path(folder, str(number))
            options_here = settings | {
                "primary_conninfo": f"{follow} application_name=server{number}",
                "cluster_name": f"server{number}",
            }
            server = PrivatePostgres(home, PASSWORD, options=options_here)
            server.port = port
            copy_data(initial_data(), server.data)  # all of one origin, as streaming needs
            if number:
                (server.data / "standby.signal").touch()
            servers.append(Cluster(server))
        for started in servers:
            running.callback(started.crash)  # nobody wants the data, so nobody need write them down
            started.start()
        fleet = Fleet(tuple(servers))
        fleet.wait_replayed()
        yield fleet
