"""Published drivers from npm, and JDBC's, against the gateway, one process each."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from tests.support.certificates import Authority
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, free_port
from tests.support.issuer import Issuer
from tests.support.program import scratch_role

SCRIPTS = Path(__file__).parent / "drivers"
JDBC = Path("/usr/share/java/postgresql.jar")
TIMEOUT = 120.0  # seconds; a script takes one to three


@dataclass(frozen=True, slots=True)
class Run:
    """What one script printed. `finished` is how many checks it says it made, None when it ended early."""

    checks: list[dict[str, object]]
    finished: int | None
    status: int
    complaints: str

    @property
    def failures(self) -> str:
        """Every check that failed, for people."""
        return "\n".join(
            f"{check['name']}\n    got  {check['got']}\n    want {check['want']}"
            for check in self.checks
            if not check["ok"]
        )


def run(node: str, script: str, gateway: Gateway, database: Database, **variables: str) -> Run:
    """Let one script work on a database of its own through the gateway, with more `variables` in its environment."""
    # Prisma's adapter takes every timestamptz for UTC, and a cluster's own zone is that of its machine.
    database.psql(f"ALTER DATABASE {database.name} SET timezone TO 'UTC'")
    command = [node, str(SCRIPTS / script)]
    return finish(command, GATEWAY_URL=gateway.url, DATABASE_URL=database.url, **variables)


def finish(command: list[str], **variables: str) -> Run:
    """Run a script to its end."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=TIMEOUT)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    finished = lines.pop()["finished"] if lines and "finished" in lines[-1] else None
    return Run(lines, finished, done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("script", "least"),
    [
        ("serverless.mjs", 130),
        ("drizzle.mjs", 30),
        ("kysely.mjs", 35),
        ("prisma.mjs", 50),
        ("websocket.mjs", 44),
        ("websocket_orms.mjs", 11),
    ],
)
def test_driver_finds_in_the_gateway_what_it_finds_in_neon(
    script: str, least: int, node: str, gateway: Gateway, database: Database
) -> None:
    judge(run(node, script, gateway, database), script, least=least)


def test_driver_finds_the_same_where_no_statement_is_named(
    node: str, postgres: Cluster, database: Database, start_gateway: Callable[..., Gateway]
) -> None:
    """As behind a transaction pooler, where a named statement may meet another backend."""
    gateway = start_gateway(database_url=f"{postgres.maintenance.url}?pgbouncer=true", pool={"max_size": 2})
    judge(run(node, "serverless.mjs", gateway, database), "serverless.mjs", least=130)


def test_driver_comes_in_with_a_token_as_with_neon(
    node: str, postgres: Cluster, database: Database, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    issuer, key, jwks = Issuer(), new_key(), tmp_path / "jwks.json"
    issuer.rotate("one", "RS256")
    jwks.write_bytes(issuer.jwks())
    assert cli.main(["auth", "install", "--set", f"database_url={database.url}"]) == 0
    with scratch_role(postgres) as role:
        database.psql(_NOTES.format(role=role))
        gateway = start_gateway(
            issuers={"mine": {"jwks_file": str(jwks), "roles": [role]}},
            logins={"app": {"role": role, "password": "secret"}},
            keys={key.id: {"hash": hash_of(key), "database": database.name, "role": role}},
            pool={"max_size": 4},
        )
        soon = int(time.time()) + 600
        tokens = {
            name.upper(): issuer.token("one", {"sub": name, "role": "member", "exp": exp})
            for name, exp in (("ann", soon), ("bob", soon), ("late", 1))
        }
        ran = run(node, "auth_token.mjs", gateway, database, KEY=key.text, ROLE=role, **tokens)
        database.psql(f"DROP OWNED BY {role}")
    judge(ran, "auth_token.mjs", least=20)


_NOTES = """
CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, owner text NOT NULL DEFAULT auth.user_id(), body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = (SELECT auth.user_id())) WITH CHECK (owner = (SELECT auth.user_id()));
INSERT INTO notes (owner, body) VALUES ('ann', 'ann 1'), ('bob', 'bob 1'), ('ann', 'ann 2'), ('bob', 'bob 2');
GRANT SELECT, INSERT, DELETE ON notes TO {role}
"""


@pytest.mark.parametrize(("script", "least"), [("serverless.mjs", 130), ("websocket.mjs", 44)])
def test_driver_finds_the_same_over_tls(
    script: str, least: int, node: str, database: Database, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    files = authority.issue()
    gateway = start_gateway(listen={"port": 0, "tls_certificate": files.certificate, "tls_key": files.key})
    assert gateway.url.startswith("https://")
    ran = run(node, script, gateway, database, NODE_EXTRA_CA_CERTS=str(authority.root))
    judge(ran, script, least=least)


@pytest.fixture
def door(start_gateway: Callable[..., Gateway], database: Database) -> tuple[Gateway, Database]:
    """A gateway, and the database by way of its TCP door: fewer connections than the drivers open."""
    port = free_port()
    gateway = start_gateway(
        listen={"port": 0, "postgres": port}, pool={"max_size": 8, "wait_timeout": 60}, tunnel={"max_pinned": 6}
    )
    return gateway, Database("127.0.0.1", port, database.name)


def test_node_postgres_through_the_tcp_door(node: str, door: tuple[Gateway, Database]) -> None:
    judge(run(node, "node_postgres.mjs", *door), "node_postgres.mjs", least=15)


def test_jdbc_through_the_tcp_door(door: tuple[Gateway, Database], tmp_path: Path) -> None:
    compiler, java = shutil.which("javac"), shutil.which("java")
    if compiler is None or java is None or not JDBC.is_file():
        pytest.skip(f"needs a JDK and {JDBC} (Debian: libpostgresql-jdbc-java)")
    _, database = door
    subprocess.run(
        [compiler, "-cp", str(JDBC), "-d", str(tmp_path), str(SCRIPTS / "Jdbc.java")], check=True, timeout=TIMEOUT
    )
    url = f"jdbc:postgresql://{database.host}:{database.port}/{database.name}"
    ran = finish(
        [java, "-cp", f"{tmp_path}:{JDBC}", "Jdbc"],
        JDBC_URL=f"{url}?user={database.role}&password={database.password}",
    )
    judge(ran, "Jdbc.java", least=12)


def judge(ran: Run, script: str, *, least: int) -> None:
    assert not ran.failures, f"{script}:\n{ran.failures}"
    assert ran.finished == len(ran.checks), f"{script} ended early with {ran.status}:\n{ran.complaints}"
    assert ran.status == 0, ran.complaints
    assert len(ran.checks) >= least, "a script that checks less than it did has lost something"
