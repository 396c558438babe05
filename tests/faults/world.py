"""Where faults happen: a Postgres of its own, a bad network, and the gateway as a process behind it.

The bound on connections is small, so that callers are in each other's way. Nothing here judges.
"""

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlhttp import AsyncSql
from sqlhttp_gateway.cli import main as sqlhttp
from sqlhttp_gateway.settings import load_settings
from tests.faults import grants
from tests.faults.ledger import Ledger
from tests.support.bad_network import BadNetwork, bad_network
from tests.support.cluster import PASSWORD, Cluster, Database, running_cluster
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
POSTGRES = {"max_connections": str(MAX_CONNECTIONS), "synchronous_commit": "on"}
"""Settings of every server."""
GUEST = "guest"
"""A role that is there at times, for those who are not let in meanwhile."""
VARIABLE = "BROKEN_ON_PURPOSE"
"""Of the environment of a gateway that is to be broken; holds the name of one of `breakages`."""
CANARY = "canary-4f1c"
"""In every password and parameter; must never be seen in a log, a metric or an error."""


TRACES = (
    "SELECT set_config('app.tag', 'somebody', false)",
    "CREATE TEMP TABLE secret AS SELECT 1 AS a",
    "SELECT pg_advisory_lock(42 + (random() * 1000000)::int)",
    "SET statement_timeout = '1ms'",
    "SET default_transaction_read_only = on",
    "LISTEN everybody",
    "PREPARE theirs AS SELECT 1",
)
"""Statements that leave something behind in the session that runs them."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What stands below a world's gateways, and how they are to be set up for it."""

    clusters: tuple[Cluster, ...]
    """All servers, the primary first."""
    at: tuple[tuple[str, int], ...] = ()
    """Hosts and ports to which the gateway is to connect, in order; empty: those of the clusters."""
    query: str = ""
    """The end of its connection string, from the question mark on."""
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    gateways: int = 1
    """Gateways that know nothing of each other; episodes go to the first where they say nothing else."""
    tls: ssl.SSLContext | None = None
    """How programs speak to the gateways, where those have a certificate."""
    encrypts: bool = False
    """Whether every connection of the gateways to Postgres has to have TLS."""
    traces: tuple[str, ...] = TRACES
    """Of TRACES those that nobody else may ever find there."""
    more: int = 0
    """Connections beside the bound of each gateway that are its own."""
    orphans: int = 0
    """Backends that a pooler before Postgres may leave there when it is killed, each until its statement ends."""


@dataclass(slots=True)
class World:
    """Everything that an episode needs."""

    ground: Ground
    cluster: Cluster
    """The primary, which may be another one later."""
    database: Database
    networks: tuple[BadNetwork, ...]
    """In front of each place to which the gateway connects."""
    gateways: tuple[Gateway, ...]
    processes: tuple[GatewayProcess, ...]
    upstream: str
    """The gateway's own connection string."""
    door: Database
    """Where the gateway speaks Postgres's wire over TCP, as whoever calls."""
    log: Path
    workers: int = 1
    broken: str = ""
    """By what the gateway is broken on purpose; empty: it is not."""
    ledger: Ledger = field(default_factory=Ledger)
    clients: dict[str, AsyncSql] = field(default_factory=dict)
    """By connection string, those that keep connections of their own."""

    @property
    def gateway(self) -> Gateway:
        """The first one, or the only one."""
        return self.gateways[0]

    @property
    def process(self) -> GatewayProcess:
        """That of this gateway."""
        return self.processes[0]

    @property
    def network(self) -> BadNetwork:
        """The one in front of the primary as it was at the beginning."""
        return self.networks[0]

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How to speak to the gateway; None: in clear."""
        return self.ground.tls

    @property
    def pid(self) -> int:
        """The gateway's process; of several workers, their parent."""
        return self.process.pid

    @property
    def serving(self) -> list[int]:
        """The processes that serve."""
        if self.workers == 1:
            return [process.pid for process in self.processes]
        return [pid for process in self.processes for pid in children(process.pid)]

    @property
    def pool(self) -> int:
        """Most connections of the callers' pool of one gateway on one server, over all of its workers."""
        return POOL // self.workers * self.workers

    @property
    def bound(self) -> int:
        """Most connections of all gateways, with what they have beside their pools."""
        return (TOTAL + WATCH + TRY + self.ground.more) * len(self.processes) + self.ground.orphans

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
    with (
        running_cluster(POSTGRES | dict(options or {})) as cluster,
        made_on(Ground((cluster,), workers=workers, settings=settings or {}), broken=broken) as world,
    ):
        yield world


@contextmanager
def made_on(ground: Ground, settings: Mapping[str, str] | None = None, *, broken: str = "") -> Iterator[World]:
    """The same on ground that is there; `settings` go over the ground's."""
    cluster = ground.clusters[0]
    prepare(cluster)
    database = Database(cluster.host, cluster.port, "postgres", "app", f"{CANARY}-password")
    places = ground.at or tuple((each.host, each.port) for each in ground.clusters)
    log = cluster.data.with_name("gateway.log")
    scheme = "http" if ground.tls is None else "https"
    with ExitStack() as stack:
        networks = tuple(stack.enter_context(bad_network(*place)) for place in places)
        hosts = ",".join(f"127.0.0.1:{network.port}" for network in networks)
        upstream = f"postgres://postgres:{PASSWORD}@{hosts}/postgres{ground.query}"
        doors = [free_port() for _ in range(ground.gateways)]
        gateways, processes = [], []
        for number, door in enumerate(doors):
            port = free_port()
            more = {
                "SQLHTTP_LISTEN__POSTGRES": str(door),
                "SQLHTTP_LISTEN__WORKERS": str(ground.workers),
                **ground.settings,
                **(settings or {}),
                **_broken(broken),
            }
            own = log if not number else log.with_name(f"gateway{number}.log")
            process = gateway(upstream, port, own, more)
            stack.callback(process.kill)
            gateways.append(Gateway(f"{scheme}://127.0.0.1:{port}", load_settings(database_url=upstream)))
            processes.append(process)
        world = World(
            ground=ground,
            cluster=cluster,
            database=database,
            networks=networks,
            gateways=tuple(gateways),
            processes=tuple(processes),
            upstream=upstream,
            door=replace(database, host="127.0.0.1", port=doors[0]),
            log=log,
            workers=ground.workers,
            broken=broken,
        )
        for each, process in zip(gateways, processes, strict=True):
            process.wait_until_ready(each.url, ground.tls)
        yield world


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
