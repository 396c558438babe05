"""Row-level security before a whole gateway: two users of one role and one small pool, and all that one may try.

The policies are of Supabase's, Neon's and PostgREST's kind. Every caller may send SQL, except where statements are
listed.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.allowed import digest_of
from tests.support.cluster import Cluster, Database
from tests.support.issuer import Issuer
from tests.support.program import Program, scratch_role

ISSUER = Issuer()
ISSUER.rotate("one", "EdDSA")
SCHEMA = """
CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL DEFAULT auth.user_id(), body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = (SELECT auth.user_id())) WITH CHECK (owner = (SELECT auth.user_id()));
INSERT INTO notes (owner, body)
    SELECT who, who || ' ' || n FROM unnest('{{ann,bob}}'::text[]) who, generate_series(1, 3) n;
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {role};
CREATE TABLE posts (owner text, body text);
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON posts USING (owner = current_setting('request.jwt.claims', true)::json->>'sub');
INSERT INTO posts VALUES ('ann', 'ann post'), ('bob', 'bob post');
GRANT SELECT ON posts TO {role}
"""
READ = "SELECT DISTINCT owner FROM notes"
FORGERY = """'{"sub":"bob"}'"""


class Site(NamedTuple):
    """A gateway with two users of one role."""

    start: Callable[..., Program]
    database: Database
    role: str
    jwks: Path

    def program(self, **settings: Any) -> Program:
        mine = {"jwks_file": str(self.jwks), "roles": [self.role], **settings.pop("issuer", {})}
        return self.start(issuers={"mine": mine}, logins={"app": {"role": self.role, "password": "secret"}}, **settings)


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    """The issuer's public keys as a file."""
    file = tmp_path / "jwks.json"
    file.write_bytes(ISSUER.jwks())
    return file


@pytest.fixture
def site(start_program: Callable[..., Program], database: Database, postgres: Cluster, jwks: Path) -> Iterator[Site]:
    with scratch_role(postgres) as role:
        assert cli.main(["auth", "install", "--set", f"database_url={database.url}"]) == 0
        database.psql(SCHEMA.format(role=role))
        yield Site(start_program, database, role, jwks)
        database.psql(f"DROP OWNED BY {role}")


class User:
    """One of the role's users, with a token of their own."""

    def __init__(self, site: Site, program: Program, name: str) -> None:
        self._program = program
        token = ISSUER.token("one", {"sub": name, "exp": int(time.time()) + 600})
        self._headers = {
            "Neon-Connection-String": f"postgres://{site.role}@db.example/{site.database.name}",
            "Authorization": f"Bearer {token}",
            "Neon-Array-Mode": "true",
        }

    def post(self, *texts: str) -> tuple[int, dict[str, Any]]:
        """One statement, or several as a batch."""
        body: object = {"query": texts[0]} if len(texts) == 1 else {"queries": [{"query": text} for text in texts]}
        response = self._program.post(body, self._headers)
        return response.status_code, response.json()

    def rows(self, text: str) -> list[list[Any]]:
        status, answer = self.post(text)
        assert status == 200, answer
        found: list[list[Any]] = answer["rows"]
        return found


def test_each_user_sees_and_writes_their_own_rows(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    ann, bob = User(site, program, "ann"), User(site, program, "bob")
    for _ in range(3):
        assert ann.rows(READ) == [["ann"]]
        assert bob.rows(READ) == [["bob"]]
    assert ann.rows("INSERT INTO notes (body) VALUES ('new') RETURNING owner") == [["ann"]]
    status, answer = ann.post("INSERT INTO notes (owner, body) VALUES ('bob', 'x')")
    assert (status, answer["code"]) == (400, "42501")
    assert ann.rows("SELECT count(*) FROM notes") == [["4"]]
    assert ann.rows("UPDATE notes SET body = 'x' WHERE owner = 'bob' RETURNING 1") == []


def test_results_and_errors_are_those_of_the_callers_own_statements(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    ann = User(site, program, "ann")
    status, answer = ann.post("SELECT 1 AS a", READ)
    assert [result["rows"] for result in answer["results"]] == [[[1]], [["ann"]]]
    status, answer = ann.post("SELECT nothing")
    assert (status, answer["code"], answer["position"]) == (400, "42703", "8")
    status, answer = ann.post("")
    assert (status, answer["command"], answer["rows"]) == (200, "", []) or answer["command"] is None
    assert ann.rows(READ) == [["ann"]]


@pytest.mark.parametrize(
    "before",
    [
        "RESET ALL",
        "DISCARD ALL",
        "RESET ROLE",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "RESET SESSION AUTHORIZATION",
        "SET ROLE NONE",
        "COMMIT",
        "ROLLBACK",
        "COMMIT AND CHAIN",
        f"SET sqlhttp.claims = {FORGERY}",
        f"SET LOCAL sqlhttp.claims = {FORGERY}",
        f"SELECT set_config('sqlhttp.claims', {FORGERY}, false)",
        f"SELECT set_config('sqlhttp.claims', repeat('0', 64) || {FORGERY}, true)",
        "SELECT set_config('sqlhttp.claims', replace(current_setting('sqlhttp.claims'), 'ann', 'bob'), true)",
        f"SET request.jwt.claims = {FORGERY}",
        f"SELECT sqlhttp.begin_claims({FORGERY})",
        "SET row_security = off",
        "SET search_path = pg_temp, public",
        "CREATE SCHEMA IF NOT EXISTS auth",
        "CREATE FUNCTION pg_temp.user_id() RETURNS text LANGUAGE sql AS $$SELECT 'bob'::text$$",
        "CREATE TEMP TABLE claims_secret AS SELECT ''::bytea AS inner_pad, ''::bytea AS outer_pad",
        "CREATE TEMP VIEW notes AS SELECT 'ann' AS owner",
        f"DO $$ BEGIN PERFORM set_config('sqlhttp.claims', {FORGERY}, false); END $$",
        "DO $$ BEGIN COMMIT; END $$",
        "SAVEPOINT a",
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
        "PREPARE p AS SELECT DISTINCT owner FROM notes",
    ],
)
def test_nothing_that_a_caller_sends_shows_another_users_rows(site: Site, before: str) -> None:
    program = site.program(pool={"max_size": 1})
    ann, bob = User(site, program, "ann"), User(site, program, "bob")
    for texts in ([before, READ], [before], [f"{before}; {READ}"]):
        _, answer = ann.post(*texts)
        if READ in texts:
            assert ["bob"] not in answer.get("results", [{}])[-1].get("rows", [])
        else:
            assert "bob 1" not in str(answer)
    # and nothing of it is left for whoever has the backend next
    assert bob.rows(READ) == [["bob"]]
    assert ann.rows(READ) == [["ann"]]


def test_setting_forged_in_the_same_statement_is_an_error_or_shows_nothing(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    ann = User(site, program, "ann")
    for text in (
        f"WITH x AS MATERIALIZED (SELECT set_config('sqlhttp.claims', {FORGERY}, true)) {READ}, x",
        f"SELECT owner FROM notes, (SELECT set_config('sqlhttp.claims', {FORGERY}, true)) x",
        f"SELECT owner FROM (SELECT set_config('sqlhttp.claims', {FORGERY}, false) OFFSET 0) x, notes",
        "WITH x AS MATERIALIZED (SELECT set_config('sqlhttp.claims', '', true)) SELECT owner FROM x, notes",
    ):
        status, answer = ann.post(text)
        assert "bob" not in str(answer.get("rows", []))
        assert status == 200 or answer["code"] == "42501", answer


def test_signed_setting_of_one_request_is_worthless_in_the_next(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    ann, bob = User(site, program, "ann"), User(site, program, "bob")
    [[signed]] = bob.rows("SELECT current_setting('sqlhttp.claims')")
    assert "bob" in signed  # it can be read, and need not be a secret
    status, answer = ann.post(f"SELECT set_config('sqlhttp.claims', $q${signed}$q$, true)", READ)
    assert (status, answer["code"]) == (400, "42501")


def test_claim_that_is_sql_is_a_text(site: Site) -> None:
    program = site.program()
    for name in ("ann' OR '1'='1", "ann'; DROP TABLE notes; --", '"}', "$1", "\\"):
        assert User(site, program, name).rows(READ) == []
        assert User(site, program, name).rows("SELECT auth.user_id()") == [[name]]


SWAP = """CREATE FUNCTION pg_temp.swap() RETURNS void LANGUAGE plpgsql AS $$
DECLARE known record;
BEGIN
    FOR known IN SELECT name, statement FROM pg_prepared_statements WHERE statement LIKE ANY (ARRAY[{which}])
        AND (SELECT count(*) FROM notes) > 3
    LOOP
        EXECUTE 'DEALLOCATE ' || known.name;
        EXECUTE 'PREPARE ' || known.name || CASE WHEN known.statement LIKE '%DISTINCT owner%'
            THEN ' AS SELECT ''swapped'' AS owner' ELSE ' AS SELECT ''''::text, false' END;
    END LOOP;
END $$"""
SWAPS = {
    "in front of a scrub that looks": ("'%DISTINCT owner%', '%s.from_sql)'", 0),
    "in front of one that need not, since all texts are known": ("'%DISTINCT owner%'", 2),
}


@pytest.mark.parametrize("when", SWAPS)
def test_statement_that_one_user_puts_in_anothers_place_is_not_run(site: Site, when: str) -> None:
    which, known = SWAPS[when]
    program = site.program(pool={"max_size": 1})
    ann, bob = User(site, program, "ann"), User(site, program, "bob")
    swap = (SWAP.replace("{which}", which), "SELECT pg_temp.swap()")
    for _ in range(2):
        assert bob.rows(READ) == [["bob"]]
    for _ in range(known):
        assert ann.post(*swap)[0] == 200
    ann.rows("INSERT INTO notes (body) VALUES ('now')")  # from now on it does what it is for
    assert ann.post(*swap)[0] == 200
    assert bob.rows(READ) == [["bob"]]


@pytest.mark.parametrize("comes_first", ["the user", "the password's holder"])
def test_statement_that_a_holder_of_the_roles_password_puts_in_a_users_place_is_not_run(
    site: Site, comes_first: str
) -> None:
    program = site.program(pool={"max_size": 1})
    site.database.psql(f"CREATE TABLE swaps (n int); GRANT INSERT, SELECT ON swaps TO {site.role}")
    site.database.psql(f"GRANT CREATE ON SCHEMA public TO {site.role}")
    holder, bob = program.to(site.database.as_role(site.role, "secret")), User(site, program, "bob")
    swap = SWAP.replace("{which}", "'%DISTINCT owner%'").replace("pg_temp.swap", "swap")
    holder.ask(swap.replace("FROM notes) > 3", "FROM swaps) > 0"))
    seen = (bob.rows(READ), bob.rows(READ)) if comes_first == "the user" else (holder.rows(READ), holder.rows(READ))
    assert seen[0] == seen[1]
    holder.ask("INSERT INTO swaps SELECT 1 FROM swaps")  # known from now on, and so is the next
    holder.ask("SELECT swap()")
    site.database.psql("INSERT INTO swaps VALUES (1)")  # from now on it does what it is for
    holder.ask("SELECT swap()")
    assert bob.rows(READ) == [["bob"]]


def test_password_of_the_role_itself_has_no_claims(site: Site) -> None:
    program = site.program()
    assert program.to(site.database.as_role(site.role, "secret")).rows(READ) == []


def test_options_in_the_connection_string_change_no_role_and_no_claim(site: Site) -> None:
    program = site.program()
    ann = User(site, program, "ann")
    ann._headers["Neon-Connection-String"] += "?options=-c%20role%3Dpostgres%20-c%20row_security%3Doff"
    assert ann.rows("SELECT current_user::text, session_user::text") == [[site.role, site.role]]
    assert ann.rows(READ) == [["ann"]]


def test_postgrests_setting_reaches_policies_only_from_callers_who_cannot_forge_it(site: Site) -> None:
    read = "SELECT body FROM posts"
    locked = site.program(issuer={"statements": [digest_of(read).hex()]}, pool={"max_size": 1})
    ann, bob = User(site, locked, "ann"), User(site, locked, "bob")
    assert (ann.rows(read), bob.rows(read)) == ([["ann post"]], [["bob post"]])
    status, answer = ann.post(f"SET request.jwt.claims = {FORGERY}", read)
    assert (status, answer["code"]) == (400, "42501")
    free = site.program()
    assert User(site, free, "ann").rows(read) == []


def test_functions_that_must_be_there_and_are_not_are_named(
    start_program: Callable[..., Program], database: Database, postgres: Cluster, jwks: Path
) -> None:
    with scratch_role(postgres) as role:
        bare = Site(start_program, database, role, jwks)
        status, answer = User(bare, bare.program(auth={"claims": "signed"}), "ann").post("SELECT 1")
        assert (status, answer["message"]) == (
            500,
            f"the functions for signed claims are not installed in database {database.name}",
        )


def test_new_secret_is_learnt_after_one_refusal(site: Site) -> None:
    program = site.program()
    ann = User(site, program, "ann")
    assert ann.rows(READ) == [["ann"]]
    assert cli.main(["auth", "install", "--new-secret", "--set", f"database_url={site.database.url}"]) == 0
    status, answer = ann.post(READ)
    assert (status, answer["message"]) == (
        500,
        "the claims could not be set: the claims are not signed by the gateway",
    )
    assert ann.rows(READ) == [["ann"]]


def test_two_users_interleaved_on_a_small_pool_never_see_each_others_rows(site: Site) -> None:
    program = site.program(pool={"max_size": 4})
    users = {name: User(site, program, name) for name in ("ann", "bob")}
    texts = itertools.cycle(
        [(READ,), (READ, "SELECT 1"), ("SELECT 1/0",), (f"SET sqlhttp.claims = {FORGERY}",), ("COMMIT", READ)]
    )
    work = [(name, next(texts)) for name in itertools.islice(itertools.cycle(users), 1500)]

    def run(job: tuple[str, tuple[str, ...]]) -> None:
        name, texts = job
        status, answer = users[name].post(*texts)
        other = "bob" if name == "ann" else "ann"
        assert f"'{other}'" not in str(answer), (texts, answer)
        if texts == (READ,):
            assert (status, answer["rows"]) == (200, [[name]])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, work))
