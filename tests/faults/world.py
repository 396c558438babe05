"""Where faults happen: a Postgres of its own, a bad network, and the gateway as a process behind it.

The bound on connections is small, so that callers are in each other's way. Nothing here judges.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlhttp_gateway.cli import main as sqlhttp
from sqlhttp_gateway.settings import load_settings
from tests.faults import grants
from tests.faults.ledger import Ledger
from tests.support.bad_network import BadNetwork, bad_network
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.gateway import Gateway, GatewayProcess, free_port
from tests.support.processes import children, open_files, resident

POOL = 5
TOTAL = 8
"""Most connections of the gateway, those of its watch aside."""
WATCH = 1
TRY = 1
"""Whether a server is back is tried by one connection beside the bound where that is reached."""
LISTENING = 1
"""The backend that hears notifications for everybody, beside the pool."""
WAIT_TIMEOUT = 2.0
MAX_WAITING = 50
PROOF_LIFETIME = 2.0
MAX_CONNECTIONS = 30
MAX_PROGRAMS = 450
PAUSE_LIMIT = 10.0
ASLEEP = "wait_event = 'PgSleep'"
"""What pg_stat_activity says of who runs pg_sleep."""
GUEST = "guest"
"""A role that is there at times, for those who are not let in meanwhile."""
VARIABLE = "BROKEN_ON_PURPOSE"
"""Of the environment of a gateway that is to be broken; holds the name of one of `breakages`."""
CANARY = "canary-4f1c"
"""In every password and parameter; must never be seen in a log, a metric or an error."""


@dataclass(slots=True)
class World:
    """Everything that an episode needs."""

    cluster: Cluster
    database: Database
    network: BadNetwork
    gateway: Gateway
    process: GatewayProcess
    upstream: str
    """The gateway's own connection string."""
    door: Database
    """Where the gateway speaks Postgres's wire over TCP, as whoever calls."""
    log: Path
    workers: int = 1
    broken: str = ""
    """By what the gateway is broken on purpose; empty: it is not."""
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def pid(self) -> int:
        """The gateway's process; of several workers, their parent."""
        return self.process.pid

    @property
    def serving(self) -> list[int]:
        """The processes that serve."""
        return [self.pid] if self.workers == 1 else children(self.pid)

    @property
    def pool(self) -> int:
        """Most connections of the callers' pool, over all workers."""
        return POOL // self.workers * self.workers

    def descriptors(self) -> int:
        """Open files of the processes that serve."""
        return sum(open_files(pid) for pid in self.serving)

    def memory(self) -> int:
        """Bytes of memory that the processes that serve hold."""
        return sum(resident(pid) for pid in self.serving)


def environment(database_url: str) -> dict[str, str]:
    """The gateway's settings."""
    return {
        "DATABASE_URL": database_url,
        "SQLHTTP_POOL__MAX_SIZE": str(POOL),
        "SQLHTTP_POOL__MAX_TOTAL": str(TOTAL),
        "SQLHTTP_POOL__WAIT_TIMEOUT": str(WAIT_TIMEOUT),
        "SQLHTTP_POOL__MAX_WAITING": str(MAX_WAITING),
        "SQLHTTP_POOL__CONNECT_TIMEOUT": "2",
        "SQLHTTP_POOL__PAUSE_LIMIT": str(PAUSE_LIMIT),
        "SQLHTTP_LISTEN__MAX_CONNECTIONS": str(MAX_PROGRAMS),
        "SQLHTTP_STATEMENT__TIMEOUT": "10",
        "SQLHTTP_STATEMENT__CANCEL_TIMEOUT": "1",
        "SQLHTTP_TUNNEL__STARTUP_TIMEOUT": "3",
        "SQLHTTP_TUNNEL__IDLE_IN_TRANSACTION_TIMEOUT": "3",
        "SQLHTTP_TUNNEL__SEND_TIMEOUT": "3",
        "SQLHTTP_REQUEST__READ_TIMEOUT": "3",
        "SQLHTTP_DRAIN__GRACE": "3",
        "SQLHTTP_AUTH__PROOF_LIFETIME": str(PROOF_LIFETIME),
        "SQLHTTP_AUTH__FAILURES": "0",  # those who have not heard of a changed password would lock out all others
        **grants.environment("postgres"),
    }


@contextmanager
def made(
    options: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    broken: str = "",
) -> Iterator[World]:
    """A world for the length of the block; `options` are more of Postgres's settings, `settings` of the gateway's.

    `broken` names one of `breakages` from which the gateway is to suffer.
    """
    ours = {"max_connections": str(MAX_CONNECTIONS), "synchronous_commit": "on"}
    with running_cluster(ours | dict(options or {})) as cluster:
        prepare(cluster)
        database = Database(cluster.host, cluster.port, "postgres", "app", f"{CANARY}-password")
        with bad_network(cluster.host, cluster.port) as network:
            through = Database("127.0.0.1", network.port, "postgres")
            port, door = free_port(), free_port()
            log = cluster.data.with_name("gateway.log")
            url = f"http://127.0.0.1:{port}"
            where = Gateway(url, load_settings(database_url=through.url))
            more = {
                "SQLHTTP_LISTEN__POSTGRES": str(door),
                "SQLHTTP_LISTEN__WORKERS": str(workers),
                **(settings or {}),
                **_broken(broken),
            }
            process = gateway(through.url, port, log, more)
            to_door = replace(database, host="127.0.0.1", port=door)
            world = World(cluster, database, network, where, process, through.url, to_door, log, workers, broken)
            try:
                world.process.wait_until_ready(url)
                yield world
            finally:
                world.process.kill()


def gateway(database_url: str, port: int, log: Path, settings: Mapping[str, str]) -> GatewayProcess:
    """The gateway's process, started; `settings` go over those of everybody's."""
    given = environment(database_url) | dict(settings)
    module = "tests.faults.broken_gateway" if VARIABLE in given else "sqlhttp_gateway"
    return GatewayProcess("serve", "--port", str(port), environment=given, log=log, module=module)


def _broken(name: str) -> dict[str, str]:
    return {VARIABLE: name} if name else {}


def prepare(cluster: Cluster) -> None:
    """The tables that callers use, and their roles."""
    with contextlib.redirect_stdout(None):
        assert sqlhttp(["auth", "install", "--set", f"database_url={cluster.maintenance.url}"]) == 0
    cluster.maintenance.psql(
        f"CREATE ROLE app LOGIN PASSWORD '{CANARY}-password';"
        f"CREATE ROLE {GUEST} LOGIN PASSWORD '{CANARY}-guest';"
        "CREATE TABLE written (tag text NOT NULL, by text);"
        "CREATE TABLE promised (tag text UNIQUE DEFERRABLE INITIALLY DEFERRED, by text);"
        "CREATE SEQUENCE ended; GRANT USAGE ON ended TO app;"
        "CREATE FUNCTION leave_prepared() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        "  EXECUTE 'PREPARE theirs AS SELECT 1'; RETURN set_config('app.tag', 'theirs', false);"
        "  EXCEPTION WHEN duplicate_prepared_statement THEN RETURN 'there'; END $$;"
        "CREATE TABLE shape (a int, b text); INSERT INTO shape VALUES (1, 'x');"
        "CREATE TABLE counted (tag text PRIMARY KEY, n int NOT NULL);"
        "GRANT SELECT, INSERT ON written, promised TO app; GRANT SELECT ON shape TO app;"
        "GRANT SELECT, INSERT, UPDATE ON counted TO app;" + grants.SCHEMA
    )
