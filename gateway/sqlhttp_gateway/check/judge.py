"""What the facts of a target mean. Pure: facts in, findings out."""

from collections.abc import Iterator
from ipaddress import ip_address
from ssl import CERT_NONE, SSLContext

from sqlhttp_gateway.check.facts import WELL_KNOWN, Facts
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.model import Dsn, place
from sqlhttp_gateway.pools.targets import SslChoice

OLDEST_WITH_FIXES = 140000
"""PostgreSQL 14, the oldest major version that still gets fixes (its last is due in November 2026)."""
_SKEW_WARNING, _SKEW_ERROR = 2.0, 30.0
_LAG_WARNING = 30.0


def judge_target(facts: Facts, *, dsn: Dsn, ssl: SslChoice, is_pooler: bool, is_default: bool) -> list[Finding]:
    """All findings about one target; `is_pooler` is what its connection string says of it."""
    where = f"{facts.target} ({place(facts.host, facts.port)})"
    if facts.error:
        remedy = _remedy_for(facts.error, is_socket=facts.host.startswith("/"))
        return [Finding("reachable", Level.ERROR, f"{where}: {facts.error}", remedy)]
    milliseconds = round(facts.connect_seconds * 1000)
    return [
        Finding("reachable", Level.OK, f"{where}: connected as {facts.role} in {milliseconds} ms."),
        *_version(facts),
        *_tls(facts, ssl),
        *_pooler(facts, is_pooler),
        *_clock(facts),
        *_replication(facts, is_default=is_default),
        *_passwords(facts, dsn),
        *_rights(facts),
        *_sessions(facts),
    ]


def is_loopback(host: str) -> bool:
    """Whether what goes to `host` stays on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in {"", "localhost"} or host.startswith("/")


def _remedy_for(error: str, *, is_socket: bool) -> str:
    if "startup parameter" in error:
        return "This looks like PgBouncer: add pgbouncer=true to the connection string."
    if "password" in error:
        return "Correct role and password in the connection string."
    if "Peer authentication failed" in error:
        return "Let the line of pg_hba.conf that begins with local say scram-sha-256, not peer."
    if is_socket and "Permission denied" in error:
        return "Let the gateway's account into the socket's folder, and see unix_socket_permissions and _group."
    if is_socket:
        return (
            "See that Postgres runs, that its port and unix_socket_directories lead to this path, "
            "and, of containers, that both have the folder mounted."
        )
    return "See that host and port are right, that Postgres runs, and that no firewall is in between."


def _version(facts: Facts) -> Iterator[Finding]:
    if facts.version_number is None:
        return
    if facts.version_number < OLDEST_WITH_FIXES:
        text = f"Postgres {facts.version} no longer gets fixes."
        yield Finding("version", Level.WARNING, text, f"Go to {OLDEST_WITH_FIXES // 10000} or newer.")
    else:
        yield Finding("version", Level.OK, f"Postgres {facts.version}.")


def _tls(facts: Facts, ssl: SslChoice) -> Iterator[Finding]:
    if facts.tls is None:
        return
    if not facts.tls:
        if is_loopback(facts.host):
            yield Finding("tls", Level.OK, "Plain text, which stays on this machine.")
        else:
            yield Finding(
                "tls",
                Level.WARNING,
                f"Statements and rows travel to {facts.host} in plain text.",
                "Add sslmode=verify-full&sslrootcert=FILE to the connection string, and ssl = on to Postgres.",
            )
    elif not _checks_server(ssl) and not is_loopback(facts.host):
        mode = ssl if isinstance(ssl, str) else "require"
        yield Finding(
            "tls",
            Level.NOTE,
            f"{facts.tls}, but the server's certificate is not checked (sslmode={mode}).",
            "Add sslmode=verify-full&sslrootcert=FILE to be sure to whom the gateway speaks.",
        )
    else:
        yield Finding("tls", Level.OK, f"{facts.tls}.")


def _checks_server(ssl: SslChoice) -> bool:
    return ssl.verify_mode != CERT_NONE if isinstance(ssl, SSLContext) else ssl in {"verify-ca", "verify-full"}


def _pooler(facts: Facts, is_pooler: bool) -> Iterator[Finding]:
    if facts.is_behind_pooler is None:
        return
    if facts.is_behind_pooler and not is_pooler:
        yield Finding(
            "pooler",
            Level.ERROR,
            "The connection ends at a pooler (the backend's pid is not the one told at log-in), "
            "so that prepared statements and start-up parameters may reach the wrong backend.",
            "Connect to Postgres itself, or add pgbouncer=true to the connection string.",
        )
    elif facts.is_behind_pooler:
        yield Finding("pooler", Level.NOTE, "There is a transaction pooler in between, as the connection string says.")
    elif is_pooler:
        yield Finding(
            "pooler",
            Level.NOTE,
            "The connection string says pgbouncer=true, but this is Postgres itself.",
            "Remove it: prepared statements are worth having.",
        )
    else:
        yield Finding("pooler", Level.OK, "No pooler in between.")


def _clock(facts: Facts) -> Iterator[Finding]:
    skew = facts.clock_skew
    if skew is None:
        return
    text = f"Postgres's clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}."
    if abs(skew) < _SKEW_WARNING:
        yield Finding("clock", Level.OK, f"Clocks agree within {max(abs(skew), 0.001):.3f} s.")
    else:
        level = Level.WARNING if abs(skew) < _SKEW_ERROR else Level.ERROR
        yield Finding("clock", level, text, "Let both machines take their time from NTP: tokens and logs depend on it.")


def _replication(facts: Facts, *, is_default: bool) -> Iterator[Finding]:
    if facts.is_standby and is_default:
        yield Finding(
            "primary",
            Level.ERROR,
            "The default target is a standby: no statement can write.",
            "Let database_url point to the primary.",
        )
    if facts.is_standby and facts.replay_lag is not None:
        lag = facts.replay_lag
        text = f"Standby; the last transaction it replayed is {lag:.1f} s old."
        if lag > _LAG_WARNING:
            remedy = "Look at pg_stat_replication on the primary; without writes there the number grows by itself."
            yield Finding("lag", Level.WARNING, text, remedy)
        else:
            yield Finding("lag", Level.OK, text)
    elif facts.is_standby is False:
        yield Finding("primary", Level.OK, "A primary: statements can write.")


def _passwords(facts: Facts, dsn: Dsn) -> Iterator[Finding]:
    own = dsn.password
    if own is not None and own.decode(errors="replace") in {*WELL_KNOWN, dsn.role}:
        yield Finding(
            "password",
            Level.ERROR,
            f"The gateway's own role {dsn.role} has a password that everybody tries first.",
            f"ALTER ROLE {dsn.role} PASSWORD '…' with one made by chance, and put it into the connection string.",
        )
    if facts.asks_password is False:
        yield _trust(facts)
    if facts.passwords is None:
        return
    known = [each.role for each in facts.passwords if each.is_well_known and each.role != dsn.role]
    if known:
        text = f"{len(known)} more role(s) with a password that everybody tries first: {', '.join(known)}."
        yield Finding("password", Level.ERROR, text, "Give them passwords made by chance: callers reach these roles.")
    old = [each.role for each in facts.passwords if each.kind == "md5"]
    if old:
        yield Finding(
            "password kind",
            Level.WARNING,
            f"{len(old)} role(s) have an MD5 password: {', '.join(old[:5])}{', …' if len(old) > 5 else ''}.",
            "Set password_encryption to scram-sha-256 and give these roles their passwords again.",
        )
    else:
        number = sum(each.kind == "scram" for each in facts.passwords)
        yield Finding("password kind", Level.OK, f"All passwords are SCRAM-SHA-256 ({number} role(s)).")


def _trust(facts: Facts) -> Finding:
    way = "trust or peer" if facts.host.startswith("/") else "trust or the like"
    text = f"Postgres lets the gateway in with any password ({way} in pg_hba.conf)."
    if facts.may_read_passwords:
        remedy = (
            "Change it to scram-sha-256; callers are safe meanwhile, as their passwords are compared with pg_authid."
        )
        return Finding("authentication", Level.WARNING, text, remedy)
    text += " And it may not read pg_authid, so that it cannot check any caller's password: all are refused."
    return Finding(
        "authentication", Level.ERROR, text, "Change pg_hba.conf to scram-sha-256 for the gateway's address."
    )


def _rights(facts: Facts) -> Iterator[Finding]:
    if facts.is_superuser:
        yield Finding(
            "role",
            Level.NOTE,
            f"The gateway's own role {facts.role} is a superuser.",
            "A role with SELECT on pg_authid and membership in pg_monitor is enough.",
        )
    if facts.may_read_passwords:
        yield Finding("pg_authid", Level.OK, "May be read: callers' passwords are compared with Postgres's verifiers.")
    elif facts.may_read_passwords is False:
        yield Finding(
            "pg_authid",
            Level.NOTE,
            f"Role {facts.role} may not read it: callers' passwords are checked by logging in, one connection each.",
            f"GRANT SELECT ON pg_authid TO {facts.role} makes that cheap, where you may.",
        )
    if facts.may_see_sessions is False:
        yield Finding(
            "pg_monitor",
            Level.WARNING,
            f"Role {facts.role} cannot see what other roles' sessions do, so that alerts on them cannot come.",
            f"GRANT pg_monitor TO {facts.role}.",
        )


def _sessions(facts: Facts) -> Iterator[Finding]:
    sample = facts.sample
    if sample is None or sample.limit <= 0:
        return
    taken = sample.connections / sample.limit
    holders = "; ".join(f"{each.application} as {each.role} {each.connections}" for each in facts.holders)
    text = f"{sample.connections} of {sample.limit} are taken now ({taken:.0%}). Most: {holders or 'nobody else'}."
    level = Level.OK if taken < 0.7 else Level.WARNING
    yield Finding(
        "connections", level, text, "" if level is Level.OK else "Find out whose they are before you add more."
    )
    if sample.idle_in_transaction:
        longest = sample.longest_idle_in_transaction
        yield Finding(
            "idle in transaction",
            Level.WARNING if longest > 60 else Level.NOTE,
            f"{sample.idle_in_transaction} session(s), the longest for {longest:.0f} s.",
            "Set idle_in_transaction_session_timeout in Postgres, and see who forgets to COMMIT.",
        )
