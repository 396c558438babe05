from dataclasses import replace
from ssl import _create_unverified_context, create_default_context

import pytest

from sqlhttp_gateway.check.facts import Facts, Holder, RolePassword
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge import is_loopback, judge_target
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.pools.targets import SslChoice
from tests.support.reports import sample

DSN = Dsn("db.internal", 5432, "main", "gateway", b"made-by-chance")
GOOD = Facts(
    target="default",
    host="db.internal",
    port=5432,
    role="gateway",
    connect_seconds=0.012,
    version="18.1",
    version_number=180001,
    is_standby=False,
    is_behind_pooler=False,
    asks_password=True,
    tls="TLSv1.3",
    clock_skew=0.01,
    is_superuser=False,
    may_see_sessions=True,
    may_read_passwords=True,
    passwords=(RolePassword("app", "scram", is_superuser=False, is_well_known=False),),
    sample=sample(),
    holders=(Holder("web", "app", 3),),
)


def judged(
    *,
    dsn: Dsn = DSN,
    ssl: SslChoice = "verify-full",
    is_pooler: bool = False,
    is_default: bool = True,
    **changes: object,
) -> dict[str, Finding]:
    facts = replace(GOOD, **changes)  # type: ignore[arg-type]  # names of facts
    findings = judge_target(facts, dsn=dsn, ssl=ssl, is_pooler=is_pooler, is_default=is_default)
    for finding in findings:
        assert finding.text.endswith("."), finding
        assert (finding.level in {Level.OK, Level.NOTE}) or finding.remedy, finding
    return {finding.subject: finding for finding in findings}


def test_good_server_has_nothing_but_good_findings() -> None:
    assert {finding.level for finding in judged().values()} == {Level.OK}
    assert judged()["reachable"].text == "default (db.internal:5432): connected as gateway in 12 ms."


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("cannot connect to Postgres: Connection refused", "See that host and port are right"),
        ('password authentication failed for user "gateway"', "Correct role and password"),
        ("unsupported startup parameter: statement_timeout", "add pgbouncer=true"),
        ('Peer authentication failed for user "gateway"', "scram-sha-256, not peer"),
    ],
)
def test_server_that_cannot_be_reached_is_the_only_finding_and_has_a_remedy(error: str, remedy: str) -> None:
    facts = Facts("default", "db.internal", 5432, "gateway", error=error)
    [finding] = judge_target(facts, dsn=DSN, ssl=False, is_pooler=False, is_default=True)
    assert (finding.level, error in finding.text, remedy in finding.remedy) == (Level.ERROR, True, True)


@pytest.mark.parametrize(
    ("error", "remedy"), [("No such file or directory", "unix_socket_directories"), ("Permission denied", "account")]
)
def test_socket_that_cannot_be_used_has_a_remedy_of_its_own(error: str, remedy: str) -> None:
    facts = Facts("default", "/run/postgresql", 5432, "gateway", error=f"cannot connect to Postgres: {error}")
    [finding] = judge_target(facts, dsn=DSN, ssl=False, is_pooler=False, is_default=True)
    assert finding.text.startswith("default (/run/postgresql/.s.PGSQL.5432): ")
    assert remedy in finding.remedy


CASES: list[tuple[dict[str, object], str, Level]] = [
    ({"version": "13.4", "version_number": 130004}, "version", Level.WARNING),
    ({"version": "14.1", "version_number": 140001}, "version", Level.OK),
    ({"tls": ""}, "tls", Level.WARNING),
    ({"tls": "", "host": "127.0.0.1"}, "tls", Level.OK),
    ({"tls": "", "host": "/run/postgresql"}, "tls", Level.OK),
    ({"ssl": "require"}, "tls", Level.NOTE),
    ({"ssl": create_default_context()}, "tls", Level.OK),
    ({"ssl": _create_unverified_context()}, "tls", Level.NOTE),
    ({"is_behind_pooler": True}, "pooler", Level.ERROR),
    ({"is_behind_pooler": True, "is_pooler": True}, "pooler", Level.NOTE),
    ({"is_pooler": True}, "pooler", Level.NOTE),
    ({"clock_skew": -1.9}, "clock", Level.OK),
    ({"clock_skew": -2.1}, "clock", Level.WARNING),
    ({"clock_skew": 31.0}, "clock", Level.ERROR),
    ({"is_standby": True, "replay_lag": 1.0}, "primary", Level.ERROR),
    ({"is_standby": True, "replay_lag": 1.0, "is_default": False}, "lag", Level.OK),
    ({"is_standby": True, "replay_lag": 31.0, "is_default": False}, "lag", Level.WARNING),
    ({"dsn": replace(DSN, password=b"postgres")}, "password", Level.ERROR),
    ({"dsn": replace(DSN, password=b"gateway")}, "password", Level.ERROR),
    ({"passwords": (RolePassword("app", "scram", is_superuser=False, is_well_known=True),)}, "password", Level.ERROR),
    (
        {"passwords": (RolePassword("app", "md5", is_superuser=False, is_well_known=False),)},
        "password kind",
        Level.WARNING,
    ),
    ({"asks_password": False}, "authentication", Level.WARNING),
    ({"asks_password": False, "may_read_passwords": False, "passwords": None}, "authentication", Level.ERROR),
    ({"is_superuser": True}, "role", Level.NOTE),
    ({"may_read_passwords": False, "passwords": None}, "pg_authid", Level.NOTE),
    ({"may_see_sessions": False}, "pg_monitor", Level.WARNING),
    ({"sample": sample(by_state={"idle": 80})}, "connections", Level.WARNING),
    (
        {"sample": sample(by_state={"idle in transaction": 1}, longest_idle_in_transaction=5.0)},
        "idle in transaction",
        Level.NOTE,
    ),
    (
        {"sample": sample(by_state={"idle in transaction": 1}, longest_idle_in_transaction=61.0)},
        "idle in transaction",
        Level.WARNING,
    ),
]


@pytest.mark.parametrize(("changes", "subject", "level"), CASES)
def test_each_fact_is_judged(changes: dict[str, object], subject: str, level: Level) -> None:
    assert judged(**changes)[subject].level is level  # type: ignore[arg-type]  # names of facts


def test_what_could_not_be_seen_is_not_judged() -> None:
    unseen = Facts("default", "db.internal", 5432, "gateway", connect_seconds=0.1)
    assert [each.subject for each in judge_target(unseen, dsn=DSN, ssl=False, is_pooler=False, is_default=True)] == [
        "reachable"
    ]


def test_no_finding_shows_a_password() -> None:
    findings = judged(dsn=replace(DSN, password=b"changeme"))
    assert not [finding for finding in findings.values() if "changeme" in finding.text + finding.remedy]


def test_who_has_the_connections_is_named() -> None:
    assert judged()["connections"].text == "5 of 97 are taken now (5%). Most: web as app 3."


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "/run/postgresql"])
def test_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "db.internal"])
def test_others_are_not(host: str) -> None:
    assert not is_loopback(host)
