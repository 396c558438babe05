"""What becomes more along each axis of `growth`, from how few to how many, and what the gateway is asked for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.loads import encode_request
from tests.bench.measure import Sample
from tests.bench.processes import Process
from tests.bench.stage import Ground
from tests.bench.workloads import neon_headers
from tests.support.cluster import Database

_TEXTS_AT_ONCE = 10_000
_FORMS = tuple(f"SELECT {number} AS answer" for number in range(8))
_FIRST_PASS = 60.0
"""Seconds in which everybody who asks has asked once: a log-in, or a look at a table, is behind them then."""
_ONE = b'{"query":"SELECT 1","params":[]}'


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway that nobody has asked yet, and what it stands on."""

    ground: Ground
    gateway: Process

    @property
    def database(self) -> Database:
        return self.ground.database

    def load(self, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Sample:
        """Kept connections that send these one after the other."""
        headers = neon_headers(self.database.url)
        return self.ground.loader.http(self.gateway, bodies, headers, connections=connections, seconds=seconds)

    def each_asks(self, requests: Sequence[bytes], seconds: float) -> Sample:
        """Requests of as many callers, by turns, when each of them has been here once."""
        loader = self.ground.loader
        first = loader.send(self.gateway, requests, connections=4, seconds=_FIRST_PASS, most=len(requests))
        if first.errors:
            raise RuntimeError(f"{first.errors} of {len(requests)} callers got an error: {loader.fault}")
        return loader.send(self.gateway, requests, connections=4, seconds=seconds)


Measure = Callable[[Site, int, float], Sample]


@dataclass(frozen=True, slots=True)
class Axis:
    """What becomes more.

    `is_work` says whether a request may cost more for it: rows may, connections may not. `room` is the KiB of memory
    that each one more may take, beside what a gateway holds anyway; 0 is where the text of a setting promises a bound.
    """

    name: str
    sizes: Sequence[int]
    measure: Measure
    is_work: bool = False
    room: float = 0.0
    settings: Mapping[str, str] = field(default_factory=dict)
    """The gateway's, by their names in the environment, where they are not the defaults."""
    prepare: str = ""
    """SQL for the database before the gateway starts, with the largest size as {most} and this one as {size}."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size along an axis and what a request cost there. The sample's memory is the most that was resident."""

    size: int
    sample: Sample

    @property
    def cpu(self) -> float:
        """The gateway's CPU for a request, in microseconds."""
        return self.sample.server_cpu or 0.0

    @property
    def memory(self) -> float:
        """MiB."""
        return self.sample.memory or 0.0


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


def _statement(text: str) -> bytes:
    return b'{"query":"%b","params":[]}' % text.encode()


def _rows(site: Site, size: int, seconds: float) -> Sample:
    text = f"SELECT n, n * 2, 'row ' || n FROM generate_series(1, {size}) AS n"
    return site.load([_statement(text)], connections=4, seconds=seconds)


def _columns(site: Site, size: int, seconds: float) -> Sample:
    columns = ", ".join(f"{number} AS c{number}" for number in range(size))
    return site.load([_statement(f"SELECT {columns}")], connections=4, seconds=seconds)


def _connections(site: Site, size: int, seconds: float) -> Sample:
    loader = site.ground.loader
    request = encode_request(_ONE, neon_headers(site.database.url))
    loader.open(site.gateway, request, connections=size, seconds=_FIRST_PASS)
    return loader.ask(site.gateway, seconds=seconds + size / 1000)


def _pools(site: Site, size: int, seconds: float) -> Sample:
    roles = [site.database.as_role(f"grower_{number}", "grower") for number in range(size)]
    return site.each_asks([encode_request(_ONE, neon_headers(role.url)) for role in roles], seconds)


def _tenants(site: Site, size: int, seconds: float) -> Sample:
    headers = neon_headers(site.database.url)
    hosts = [f"t{number}.example" for number in range(size)]
    return site.each_asks([encode_request(_ONE, {"Host": host} | headers) for host in hosts], seconds)


def _keys(site: Site, size: int, seconds: float) -> Sample:
    headers = {name: value for name, value in neon_headers("").items() if name != "Neon-Connection-String"}
    keys = [f"Bearer sk_{number:012x}_{number:040}" for number in range(size)]
    return site.each_asks([encode_request(_ONE, headers | {"Authorization": key}) for key in keys], seconds)


def _texts(site: Site, size: int, seconds: float) -> Sample:
    """All of the texts, once or until the time is over; the last of it is what is told."""
    sample: Sample | None = None
    for start in range(0, size, _TEXTS_AT_ONCE):
        part = range(start, min(size, start + _TEXTS_AT_ONCE))
        bodies = [_statement(f"{_FORMS[number % len(_FORMS)]}, {number} AS number") for number in part]
        requests = [encode_request(body, neon_headers(site.database.url)) for body in bodies]
        most = {"most": len(bodies)} if size > _TEXTS_AT_ONCE else {}
        limit = max(seconds, 20.0) if size > _TEXTS_AT_ONCE else seconds
        sample = site.ground.loader.send(site.gateway, requests, connections=16, seconds=limit, **most)
    assert sample is not None
    return sample


# ── the axes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_ROLES = """
DO $$ BEGIN FOR n IN 0..{most} - 1 LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grower_' || n) THEN
        EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', 'grower_' || n, 'grower');
    END IF;
END LOOP; END $$
"""
_TENANTS_TABLE = """
CREATE SCHEMA IF NOT EXISTS sqlhttp; DROP TABLE IF EXISTS sqlhttp.tenants;
CREATE TABLE sqlhttp.tenants (
    name text PRIMARY KEY, hosts text[] NOT NULL DEFAULT '{{}}', databases text[] NOT NULL DEFAULT '{{}}',
    target text NOT NULL DEFAULT 'default', database text, limits json
);
INSERT INTO sqlhttp.tenants (name, hosts, database, limits)
SELECT 't' || n, ARRAY['t' || n || '.example'], current_database(), '{{"rate": 100000}}'
FROM generate_series(0, {size} - 1) AS n
"""
_KEYS_TABLE = """
CREATE SCHEMA IF NOT EXISTS sqlhttp; DROP TABLE IF EXISTS sqlhttp.api_keys;
CREATE TABLE sqlhttp.api_keys (
    id text PRIMARY KEY, hash text NOT NULL, name text NOT NULL DEFAULT '', target text NOT NULL DEFAULT 'default',
    database text NOT NULL, role text NOT NULL, expires_at timestamptz, origins text[] NOT NULL DEFAULT '{{}}',
    addresses text[] NOT NULL DEFAULT '{{}}', read_only boolean NOT NULL DEFAULT false, statements text[],
    created_at timestamptz NOT NULL DEFAULT now(), revoked_at timestamptz, login text, limits json
);
INSERT INTO sqlhttp.api_keys (id, hash, database, role, limits)
SELECT id, 'sha256:' || encode(sha256(convert_to('sk_' || id || '_' || lpad(n::text, 40, '0'), 'UTF8')), 'hex'),
       current_database(), current_user, '{{"rate": 100000}}'
FROM (SELECT n, lpad(to_hex(n), 12, '0') AS id FROM generate_series(0, {size} - 1) AS n) AS numbered
"""

_MOST_CONNECTIONS = 5_000

AXES = (
    Axis("rows", (1, 10, 100, 1_000, 10_000, 100_000), _rows, is_work=True, room=0.5),
    Axis("columns", (1, 10, 100, 400, 1_600), _columns, is_work=True, room=2.0),
    # So many may wait for a connection here; by default most of the last ones would be refused.
    Axis("connections", (1, 16, 64, 256, 1_000, _MOST_CONNECTIONS), _connections, room=16.0,
         settings={"SQLHTTP_POOL__MAX_WAITING": str(_MOST_CONNECTIONS)}),
    Axis("pools", (1, 10, 50, 200), _pools, room=50.0, prepare=_ROLES,
         settings={"SQLHTTP_POOL__MAX_TOTAL": "250"}),
    # More roles than there may be connections by default (pool.max_total, 50) take them from each other, and then each
    # request waits for a log-in: what that costs is to be seen here.
    Axis("pools, of 50 connections", (1, 10, 50, 200), _pools, prepare=_ROLES, room=50.0),
    Axis("tenants by host", (1, 10, 100, 1_000, 10_000), _tenants, room=3.0, prepare=_TENANTS_TABLE,
         settings={"SQLHTTP_AUTH__TENANTS_TABLE": "true"}),
    Axis("tenants by key", (1, 10, 100, 1_000, 10_000), _keys, room=3.0, prepare=_KEYS_TABLE,
         settings={"SQLHTTP_AUTH__KEYS_TABLE": "true"}),
    # More texts than a connection keeps prepared are parsed again.
    Axis("statement texts", (1, 10, 100, 1_000, 10_000, 100_000), _texts),
)  # fmt: skip
