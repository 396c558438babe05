"""What `sqlhttp check` sees of one Postgres server. Asked here, judged in `check.judge`.

Each question stands for itself: one that this server or this role does not allow leaves its fact unknown (None), and
the others are asked all the same. Statements are unnamed and nothing is set at start-up, so that a pooler in between
cannot tell this connection from a plain one.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlhttp_gateway.auth.rls import IS_INSTALLED
from sqlhttp_gateway.errors import GatewayError, PasswordFailed
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.observe.sample import QUERY, Sample, sample_from_rows
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.connect import connect
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.rounds import are_too_many
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.wire.scram import Md5Verifier, Verifier, parse_verifier, verify_password

APPLICATION_NAME = "sqlhttp check"
WELL_KNOWN = ("postgres", "password", "admin", "secret", "changeme", "123456", "")
"""Passwords that come with examples and images; besides these, a role's own name."""
_MOST_ROLES = 20
_LONG_QUERY = 30.0

_SERVER = """\
SELECT current_setting('server_version'), current_setting('server_version_num'), pg_is_in_recovery()::int::text,
  CASE WHEN pg_is_in_recovery() THEN
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::text END,
  pg_backend_pid()::text"""
_TLS = "SELECT CASE WHEN ssl THEN version ELSE '' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::text"
_ROLE = """\
SELECT rolsuper::int::text, (rolsuper OR pg_has_role(oid, 'pg_read_all_stats', 'MEMBER'))::int::text,
  has_table_privilege('pg_catalog.pg_authid', 'SELECT')::int::text
FROM pg_catalog.pg_roles WHERE rolname = current_user"""
_PASSWORDS = """\
SELECT rolname, coalesce(rolpassword, ''), rolsuper::int::text FROM pg_catalog.pg_authid WHERE rolcanlogin
ORDER BY rolsuper DESC, rolname"""
_SUPERUSERS = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin ORDER BY 1"
_HOLDERS = """\
SELECT coalesce(nullif(application_name, ''), '(none)'), coalesce(usename, '?'), count(*)::text
FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL AND pid <> pg_backend_pid()
GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT 5"""


@dataclass(frozen=True, slots=True)
class RolePassword:
    """A role that can log in: what kind of password Postgres keeps for it, and whether everybody knows that one."""

    role: str
    kind: str
    """scram, md5, none or other."""
    is_superuser: bool
    is_well_known: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has connections now."""

    application: str
    role: str
    connections: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was seen of a target; None is what could not be seen."""

    target: str
    host: str
    port: int
    role: str
    error: str = ""
    """Why nothing else is known."""
    connect_seconds: float = 0.0
    version: str | None = None
    version_number: int | None = None
    """As Postgres numbers itself: 150004 is 15.4."""
    is_standby: bool | None = None
    replay_lag: float | None = None
    """Seconds since the last transaction that a standby has replayed; grows on a primary without writes, too."""
    is_behind_pooler: bool | None = None
    """The backend's pid is not the one that was told at log-in."""
    asks_password: bool | None = None
    """Whether a wrong password is refused; with `trust` in pg_hba.conf it is not."""
    tls: str | None = None
    """Version of TLS; empty for plain text."""
    clock_skew: float | None = None
    """Seconds that Postgres's clock is ahead of this machine's."""
    is_superuser: bool | None = None
    may_see_sessions: bool | None = None
    may_read_passwords: bool | None = None
    passwords: tuple[RolePassword, ...] | None = None
    superusers: frozenset[str] = frozenset()
    """Roles that can log in and may do everything."""
    has_claims: bool | None = None
    """Whether the functions for signed claims are installed in the connection string's database."""
    sample: Sample | None = None
    holders: tuple[Holder, ...] = ()


async def facts_of(upstream: Upstream) -> Facts:
    """Look at one target over a connection of the check's own. Never raises."""
    target, admin = upstream.target, upstream.admin
    facts = Facts(target.name, target.host, target.port, admin.role)
    plain = _plain(upstream)
    registry = PoolRegistry(max_total=1, cancel_timeout=1.0, observe=unobserved)
    try:
        pool = registry.pool(PoolKey(target.name, admin.database, admin.role), plain)
        began = time.monotonic()
        lease = await registry.lease(pool, lambda: admin.password or b"")
        facts = replace(facts, connect_seconds=time.monotonic() - began, asks_password=await _asks_password(plain))
        try:
            return await _asked(lease, facts)
        finally:
            lease.release()
    except GatewayError as error:
        return replace(facts, error=error.message)
    finally:
        await registry.drain(1.0)


async def _asks_password(upstream: Upstream) -> bool | None:
    """Try a password that nobody has."""
    admin = upstream.admin
    try:
        backend = await connect(
            upstream,
            database=admin.database,
            role=admin.role,
            password=secrets.token_hex(16).encode(),
            on_lost=lambda _: None,
        )
    except PasswordFailed:
        return True
    except GatewayError:
        return None
    await backend.close(1.0)
    return False


def _plain(upstream: Upstream) -> Upstream:
    """The same server as if it were behind a pooler: that way of asking works with one and without."""
    pool = upstream.pool.model_copy(update={"max_size": 1, "min_size": 0, "statement_cache_size": 0})
    settings = {"application_name": APPLICATION_NAME}
    return replace(upstream, is_pooler=True, pool=pool, server_settings=settings, group=None)


async def _asked(lease: Lease, facts: Facts) -> Facts:
    if server := await _rows(lease, _SERVER):
        version, number, standby, lag, pid = server[0]
        facts = replace(
            facts,
            version=version,
            version_number=int(number),
            is_standby=standby == "1",
            replay_lag=float(lag) if lag else None,
            is_behind_pooler=int(pid) != lease.backend.pid,
        )
    if not facts.is_behind_pooler and (tls := await _rows(lease, _TLS)):
        facts = replace(facts, tls=tls[0][0])
    facts = replace(facts, clock_skew=await _clock_skew(lease))
    if role := await _rows(lease, _ROLE):
        is_superuser, may_see_sessions, may_read_passwords = (value == "1" for value in role[0])
        facts = replace(
            facts,
            is_superuser=is_superuser,
            may_see_sessions=may_see_sessions,
            may_read_passwords=may_read_passwords,
        )
    if facts.may_read_passwords and (roles := await _rows(lease, _PASSWORDS)):
        facts = replace(facts, passwords=await asyncio.to_thread(_judged, roles))
    superusers = frozenset(row[0] for row in await _rows(lease, _SUPERUSERS))
    installed = await _rows(lease, IS_INSTALLED)
    facts = replace(facts, superusers=superusers, has_claims=installed[0][0] == "t" if installed else None)
    return replace(facts, sample=await _sample(lease), holders=await _holders(lease))


async def _rows(lease: Lease, text: str) -> list[tuple[str, ...]]:
    """The rows with NULL as an empty text; none when the question is not allowed here."""
    try:
        rows = await ask(lease, text)
    except GatewayError:
        return []
    return [tuple((value or b"").decode(errors="replace") for value in row) for row in rows]


async def _clock_skew(lease: Lease) -> float | None:
    before = time.time()
    rows = await _rows(lease, _CLOCK)
    after = time.time()
    return float(rows[0][0]) - (before + after) / 2 if rows else None


async def _sample(lease: Lease) -> Sample | None:
    try:
        return sample_from_rows(await ask(lease, QUERY, (b"%g" % _LONG_QUERY,)), at=time.time())
    except GatewayError:
        return None


async def _holders(lease: Lease) -> tuple[Holder, ...]:
    return tuple(Holder(application, role, int(number)) for application, role, number in await _rows(lease, _HOLDERS))


def _judged(roles: Sequence[tuple[str, ...]]) -> tuple[RolePassword, ...]:
    """Of the first roles also whether their password is well known, which takes some milliseconds each."""
    judged = []
    for number, (role, stored, is_superuser) in enumerate(roles):
        verifier = parse_verifier(stored) if stored else None
        match verifier:
            case Verifier():
                kind = "scram"
            case Md5Verifier():
                kind = "md5"
            case _:
                kind = "other" if stored else "none"
        is_well_known = number < _MOST_ROLES and verifier is not None and _is_well_known(verifier, role)
        judged.append(RolePassword(role, kind, is_superuser == "1", is_well_known))
    return tuple(judged)


def _is_well_known(verifier: Verifier | Md5Verifier, role: str) -> bool:
    if isinstance(verifier, Verifier) and are_too_many(verifier.iterations):
        return False
    return any(verify_password(verifier, word.encode(), role) for word in {*WELL_KNOWN, role})
