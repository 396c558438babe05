"""What has been tried against keys, tokens and row-level security, and what it got, before a whole gateway.

The same table stands in .github/SECURITY.md, and a test keeps it so.
"""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from tests.integration.test_row_security import READ, SCHEMA
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.issuer import Issuer, Server, encode, new_private_key, serving, sign
from tests.support.program import TIMEOUT, scratch_database, scratch_role
from tests.support.wire_program import logged_in

SECURITY = Path(__file__).parents[2] / ".github" / "SECURITY.md"
KEY = new_key()
NO_ROWS = "no rows"
ANNS = "the caller's own rows"


class Field(NamedTuple):
    """Where it is tried: a role with two users, ann, who attacks, and bob, on a single connection."""

    gateway: Gateway
    http: httpx.Client
    database: Database
    role: str
    issuer: Issuer
    server: Server

    def claims(self, sub: str = "ann", **more: object) -> dict[str, object]:
        return {"iss": "https://mine.example", "aud": "api", "sub": sub, "exp": int(time.time()) + 600, **more}

    def token(self, sub: str = "ann", **more: object) -> str:
        return self.issuer.token("one", self.claims(sub, **more))

    def post(
        self, *texts: str, token: str | None = None, url: str | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The body of the answer to one statement, or to a batch."""
        queries = [{"query": text} for text in texts]
        given = {
            "Neon-Connection-String": url or f"postgres://{self.role}@db.example/{self.database.name}",
            "Authorization": f"Bearer {token or self.token()}",
            "Neon-Array-Mode": "true",
            **(headers or {}),
        }
        body = queries[0] if len(queries) == 1 else {"queries": queries}
        found: dict[str, Any] = self.http.post(self.gateway.sql, json=body, headers=given).json()
        return found

    def got(self, *texts: str, **asked: Any) -> str:
        """What the last statement got, in words; bob is served afterwards as ever."""
        answer = self.post(*texts, **asked)
        assert self.post(READ, token=self.token("bob")).get("rows") == [["bob"]]
        if "message" in answer:
            return f"{answer['code']}: {answer['message']}"
        return _shown(answer["results"][-1]["rows"] if "results" in answer else answer["rows"])

    def tunneled(self, *texts: str) -> str:
        """The same for queries through a tunnel, one after the other."""

        async def run() -> str:
            who = Database("127.0.0.1", 0, self.database.name, self.role, self.token())
            async with logged_in(self.gateway, who) as program:
                for text in texts:
                    answer = await program.query(text)
                if "E" in answer.tags:
                    return f"{answer.error['C']}: {answer.error['M']}"
                return _shown(answer.rows)

        got = asyncio.run(run())
        assert self.post(READ, token=self.token("bob")).get("rows") == [["bob"]]
        return got


def _shown(rows: object) -> str:
    return {"[]": NO_ROWS, "[['ann']]": ANNS}.get(str(rows), str(rows))


Attack = Callable[[Field], str]
ATTACKS: dict[str, tuple[Attack, str]] = {}


def attack(name: str, gets: str) -> Callable[[Attack], Attack]:
    """One row of the table."""

    def add(function: Attack) -> Attack:
        ATTACKS[name] = (function, gets)
        return function

    return add


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────

UNSUPPORTED = "28000: signature algorithm not supported"
NOT_FOUND = "28000: jwk not found"
MALFORMED = "28000: Provided authentication token is not a valid JWT encoding"
MISMATCH = "28000: signature error: the signature does not match"


@attack("token with `alg` none", UNSUPPORTED)
def _(field: Field) -> str:
    parts = [encode(json.dumps(each).encode()) for each in ({"alg": "none", "kid": "one"}, field.claims("bob"))]
    return field.got(READ, token=f"{'.'.join(parts)}.")


@attack("token signed by HS256 with the issuer's public RS256 key for a secret", UNSUPPORTED)
def _(field: Field) -> str:
    public = field.issuer.keys["one"][1].public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body = (encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "one"}, field.claims("bob")))
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), secret)
    return field.got(READ, token=f"{head}.{body}.{encode(signature)}")


@attack("token whose `kid` is a path, SQL or a URL", NOT_FOUND)
def _(field: Field) -> str:
    key = field.issuer.keys["one"][1]
    got = {
        field.got(READ, token=sign("RS256", key, {"alg": "RS256", "kid": kid}, field.claims("bob")))
        for kid in ("../../../dev/null", "one' OR '1'='1", "https://evil.example/jwks.json")
    }
    return " / ".join(got)


@attack("token that brings its own key along (`jwk`, `jku`, `x5u`), under the issuer's `kid`", MISMATCH)
def _(field: Field) -> str:
    own = Issuer()
    own.keys["one"] = ("RS256", new_private_key("RS256"))
    header = {"jwk": own.public("one"), "jku": f"{field.server.url}/evil", "x5u": f"{field.server.url}/evil"}
    got = field.got(READ, token=own.token("one", field.claims("bob"), **header))
    assert not any("evil" in path for path in field.server.paths)
    return got


@attack("token with a claim twice", MALFORMED)
def _(field: Field) -> str:
    return field.got(READ, token=field.issuer.token("one", b'{"sub":"ann","sub":"bob","aud":"api"}'))


@attack(
    "token of 20,000 bytes",
    "28000: missing authentication credentials: required authorization bearer token in JWT format",
)
def _(field: Field) -> str:
    return field.got(READ, token=field.token("bob", groups="g" * 20_000))


@attack(
    "token whose time is over, or has not come",
    "28000: JWT token has expired (exp=1) / 28000: JWT token is not yet ready to use (nbf=4102444800)",
)
def _(field: Field) -> str:
    return " / ".join(field.got(READ, token=field.token(**when)) for when in ({"exp": 1}, {"nbf": 4_102_444_800}))


@attack(
    "token for somebody else (`aud`), or of somebody else (`iss`)",
    "28000: invalid JWT token audience / 28000: invalid JWT token issuer",
)
def _(field: Field) -> str:
    return " / ".join(field.got(READ, token=field.token(**who)) for who in ({"aud": "other"}, {"iss": "other"}))


@attack("token for a role that the issuer has no business with", NOT_FOUND)
def _(field: Field) -> str:
    return field.got(READ, url=f"postgres://postgres@db.example/{field.database.name}")


@attack("issuer whose keys redirect to an address inside", "28000: the keys of issuer moved cannot be fetched")
def _(field: Field) -> str:
    got = field.got(READ, token=field.token("bob", iss="https://moved.example"))
    assert "/inside" not in field.server.paths
    return got


@attack("claims that are SQL", NO_ROWS)
def _(field: Field) -> str:
    subs = ("bob' OR '1'='1", "'; DROP TABLE notes; --", "$1", "\\")
    got = {field.got(READ, token=field.token(sub)) for sub in subs}
    for sub in subs:
        assert field.post("SELECT auth.user_id()", token=field.token(sub))["rows"] == [[sub]]
    return " / ".join(got)


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────


@attack("two `Authorization` headers", "08P01: the header authorization came twice")
def _(field: Field) -> str:
    headers = [("Authorization", f"Bearer {field.token(who)}") for who in ("ann", "bob")]
    answer = field.http.post(field.gateway.sql, json={"query": READ}, headers=headers).json()
    return f"{answer['code']}: {answer['message']}"


@attack(
    "a second request inside the body (`Content-Length` beside `Transfer-Encoding`)",
    "400, and the connection is closed",
)
def _(field: Field) -> str:
    inner = f"POST /sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {field.token('bob')}\r\nContent-Length: 0\r\n\r\n"
    smuggled = (
        "POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
    ).encode()
    with socket.create_connection(("127.0.0.1", field.gateway.port), timeout=TIMEOUT) as program:
        program.sendall(smuggled)
        answers = b""
        while part := program.recv(65536):
            answers += part
    statuses = [line[9:12].decode() for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return f"{', '.join(statuses)}, and the connection is closed"


@attack("host and port in the connection string that lead elsewhere", ANNS)
def _(field: Field) -> str:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        port = elsewhere.getsockname()[1]
        got = field.got(READ, url=f"postgres://{field.role}@127.0.0.1:{port}/{field.database.name}?host=127.0.0.1")
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    return got


@attack("`options=-c role=postgres`, `-c row_security=off` and `search_path` in the connection string", ANNS)
def _(field: Field) -> str:
    options = "options=-c%20role%3Dpostgres%20-c%20row_security%3Doff&role=postgres&search_path=pg_temp"
    url = f"postgres://{field.role}@db.example/{field.database.name}?{options}"
    assert field.post("SELECT current_user::text", url=url)["rows"] == [[field.role]]
    return field.got(READ, url=url)


@attack(
    "API key beside the name of another database or role",
    "28000: the API key is for another database than the connection string names"
    " / 28000: the API key is for another role than the connection string names",
)
def _(field: Field) -> str:
    urls = (f"postgres://{field.role}@db.example/postgres", f"postgres://postgres@db.example/{field.database.name}")
    return " / ".join(field.got(READ, token=KEY.text, url=url) for url in urls)


@attack(
    "claims made up by who comes with an API key, which has none",
    "42501: the claims are not those that the gateway set in this transaction",
)
def _(field: Field) -> str:
    return field.got(
        "SELECT set_config('sqlhttp.claims', repeat('0', 64) || '{\"sub\":\"bob\"}', true)", READ, token=KEY.text
    )


# ── SQL ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

FORGERY = """'{"sub":"bob"}'"""
FORGED = "42501: the claims are not those that the gateway set in this transaction"


def sql(name: str, gets: str, *texts: str) -> None:
    """An attack that is SQL of the caller's own, in one request."""
    ATTACKS[name] = (lambda field: field.got(*texts), gets)


sql("`RESET ALL`", NO_ROWS, "RESET ALL", READ)
sql("`RESET ROLE`", ANNS, "RESET ROLE", READ)
sql("`SET ROLE postgres`", '42501: permission denied to set role "postgres"', "SET ROLE postgres", READ)
sql(
    "`SET SESSION AUTHORIZATION postgres`",
    '42501: permission denied to set session authorization "postgres"',
    "SET SESSION AUTHORIZATION postgres",
    READ,
)
sql("`DISCARD ALL` in a batch", "25001: DISCARD ALL cannot run inside a transaction block", "DISCARD ALL", READ)
sql("`COMMIT` inside a batch", NO_ROWS, "COMMIT", READ)
sql("`COMMIT AND CHAIN` inside a batch", NO_ROWS, "COMMIT AND CHAIN", READ)
sql("`set_config` of the claims", FORGED, f"SELECT set_config('sqlhttp.claims', {FORGERY}, false)", READ)
sql(
    "`set_config` in a CTE",
    FORGED,
    f"WITH x AS MATERIALIZED (SELECT set_config('sqlhttp.claims', {FORGERY}, true)) {READ}, x",
)
sql("`SET request.jwt.claims`", ANNS, f"SET request.jwt.claims = {FORGERY}", READ)
sql(
    "`sqlhttp.begin_claims` with claims made up",
    "28000: the claims are not signed by the gateway",
    f"SELECT sqlhttp.begin_claims({FORGERY})",
    READ,
)
sql("`SET row_security = off`", '42501: query would be affected by row-level security policy for table "notes"',
    "SET row_security = off", READ)  # fmt: skip
sql(
    "temporary function in place of `auth.user_id()`, and `search_path` to it",
    ANNS,
    "CREATE FUNCTION pg_temp.user_id() RETURNS text LANGUAGE sql AS $$SELECT 'bob'::text$$",
    "SET search_path = pg_temp, public",
    READ,
)
sql(
    "temporary table in place of the secret",
    ANNS,
    "CREATE TEMP TABLE claims_secret AS SELECT ''::bytea AS inner_pad, ''::bytea AS outer_pad",
    "SET search_path = pg_temp, sqlhttp, public",
    READ,
)
sql(
    "operators and functions of the caller's own in front of `pg_catalog`",
    ANNS,
    "CREATE FUNCTION pg_temp.eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.eq)",
    "SET search_path = pg_temp, pg_catalog, public",
    READ,
)
sql("function in schema `auth`", "42501: permission denied for schema auth",
    "CREATE FUNCTION auth.uid(text) RETURNS text LANGUAGE sql AS 'SELECT 1'")  # fmt: skip
sql("the secret's table", "42501: permission denied for table claims_secret", "TABLE sqlhttp.claims_secret")
sql("the table of API keys", "42501: permission denied for table api_keys", "TABLE sqlhttp.api_keys")
sql("`ALTER TABLE … DISABLE ROW LEVEL SECURITY`", "42501: must be owner of table notes",
    "ALTER TABLE notes DISABLE ROW LEVEL SECURITY", READ)  # fmt: skip
sql("`DO` that commits", "2D000: invalid transaction termination", "DO $$ BEGIN COMMIT; END $$", READ)
sql("several statements in one", "42601: cannot insert multiple commands into a prepared statement", f"COMMIT; {READ}")
sql("error in the middle of a batch", "22012: division by zero", "SELECT 1/0", READ)


@attack("`set_config` of the signed claims that another request was shown", FORGED)
def _(field: Field) -> str:
    [[signed]] = field.post("SELECT current_setting('sqlhttp.claims')", token=field.token("bob"))["rows"]
    return field.got(f"SELECT set_config('sqlhttp.claims', $q${signed}$q$, true)", READ)


@attack("prepared statement left for the next caller", '26000: prepared statement "trap" does not exist')
def _(field: Field) -> str:
    field.post("PREPARE trap AS SELECT DISTINCT owner FROM notes", token=field.token("bob"))
    return field.got("EXECUTE trap")


@attack("cursor `WITH HOLD` left for the next caller", '34000: cursor "trap" does not exist')
def _(field: Field) -> str:
    field.post(f"DECLARE trap CURSOR WITH HOLD FOR {READ}", token=field.token("bob"))
    return field.got("FETCH ALL FROM trap")


@attack("temporary view of one's own rows left for the next caller", ANNS)
def _(field: Field) -> str:
    field.post("CREATE TEMP VIEW notes AS SELECT 'bob' AS owner", token=field.token("bob"))
    return field.got(READ)


# ── SQL through a tunnel ─────────────────────────────────────────────────────────────────────────────────────────────


def tunneled(name: str, gets: str, *texts: str) -> None:
    """An attack that is SQL of the caller's own, query by query."""
    ATTACKS[f"tunnel: {name}"] = (lambda field: field.tunneled(*texts), gets)


tunneled("`COMMIT` and a query after it", ANNS, "BEGIN", "COMMIT", READ)
tunneled("`COMMIT` and a query in one message", ANNS, "BEGIN", f"COMMIT; {READ}")
tunneled("`COMMIT AND CHAIN`", ANNS, "BEGIN", "COMMIT AND CHAIN", READ)
tunneled("`ROLLBACK TO` in front of the claims", ANNS, "BEGIN", "SAVEPOINT a", "ROLLBACK TO a", READ)
tunneled("`RESET ALL` in the transaction", NO_ROWS, "BEGIN", "RESET ALL", READ)
tunneled("`DISCARD ALL`", ANNS, "DISCARD ALL", READ)
tunneled(
    "`SET SESSION AUTHORIZATION postgres`",
    '42501: permission denied to set session authorization "postgres"',
    "SET SESSION AUTHORIZATION postgres",
)
tunneled(
    "`set_config` of the claims for the session", ANNS, f"SELECT set_config('sqlhttp.claims', {FORGERY}, false)", READ
)
tunneled(
    "`set_config` of the claims in the transaction",
    FORGED,
    "BEGIN",
    f"SELECT set_config('sqlhttp.claims', {FORGERY}, true)",
    READ,
)
tunneled("`PREPARE` and `EXECUTE`", ANNS, "PREPARE trap AS SELECT DISTINCT owner FROM notes", "EXECUTE trap")


@pytest.fixture(scope="module")
def field(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    issuer = Issuer()
    issuer.rotate("one", "RS256")
    with ExitStack() as stack:
        role = stack.enter_context(scratch_role(postgres))
        database = stack.enter_context(scratch_database(postgres))
        server, moved = stack.enter_context(serving()), stack.enter_context(serving())
        server.body = issuer.jwks()
        moved.status, moved.headers = 302, {"Location": server.url.replace("/jwks.json", "/inside")}
        for words in (["auth", "install"], ["keys", "create", "--role", "x", "--database", "x"]):
            assert cli.main([*words, "--set", f"database_url={database.url}"]) == 0
        database.psql(SCHEMA.format(role=role) + f"; GRANT USAGE, CREATE ON SCHEMA public TO {role}")
        shared = {"roles": [role], "audience": "api"}
        settings: dict[str, Any] = {
            "issuers": {
                "mine": {"jwks_url": server.url, "issuer": "https://mine.example", **shared},
                "moved": {"jwks_url": moved.url, "issuer": "https://moved.example", **shared},
            },
            "logins": {"app": {"role": role, "password": "secret"}},
            "keys": {KEY.id: {"hash": hash_of(KEY), "database": database.name, "role": role}},
            "auth": {"jwks_insecure": True, "jwks_pause": 0.01},
            "pool": {"max_size": 1},
        }
        gateway = stack.enter_context(gateway_in_thread(database.url, settings))
        http = stack.enter_context(httpx.Client(timeout=TIMEOUT, trust_env=False))
        yield Field(gateway, http, database, role, issuer, server)
        database.psql(f"DROP OWNED BY {role}")


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_gets_what_the_table_says(field: Field, name: str) -> None:
    run, gets = ATTACKS[name]
    assert run(field) == gets


def test_table_in_the_security_policy_is_that_of_the_tests() -> None:
    rows = [f"| {name} | {gets.replace('|', chr(92) + '|')} |" for name, (_, gets) in ATTACKS.items()]
    _, _, after = SECURITY.read_text().partition("| tried | got |\n| --- | --- |\n")
    assert after.split("\n\n")[0].rstrip("\n").split("\n") == rows
