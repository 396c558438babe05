"""The convention of PostgREST and Supabase before a whole gateway: an authenticator logs in and becomes the caller's
role for the transaction, and policies read `request.jwt.claims`. Its callers run listed statements alone.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.errors import ConfigurationError
from tests.support.cluster import Cluster, Database
from tests.support.issuer import Issuer
from tests.support.program import Program, scratch_role

ISSUER = Issuer()
ISSUER.rotate("one", "EdDSA")
ANN, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
SCHEMA = f"""
GRANT {{member}}, {{anon}} TO {{login}};
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb->>'sub')::uuid $$;
CREATE TABLE todos (id int GENERATED ALWAYS AS IDENTITY, owner uuid DEFAULT auth.uid(), body text);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos TO {{member}} USING ((SELECT auth.uid()) = owner) WITH CHECK ((SELECT auth.uid()) = owner);
CREATE POLICY shown ON todos FOR SELECT TO {{anon}} USING (body LIKE 'public%');
INSERT INTO todos (owner, body) VALUES ('{ANN}', 'ann'), ('{BOB}', 'bob'), (NULL, 'public one');
GRANT SELECT, INSERT ON todos TO {{member}};
GRANT SELECT ON todos TO {{anon}}
"""
READ = "SELECT body FROM todos ORDER BY id"
WHO = "SELECT current_user::text, session_user::text"
ADD = "INSERT INTO todos (body) VALUES ($1) RETURNING owner"
CLAIMS = "SELECT current_setting('request.jwt.claims', true)"
LIST = [digest_of(text).hex() for text in (READ, WHO, ADD, CLAIMS)]


class Site(NamedTuple):
    start: Callable[..., Program]
    database: Database
    login: str
    member: str
    anon: str
    jwks: Path

    def program(self, *, statements: list[str] | None = LIST, **settings: Any) -> Program:
        mine = {
            "jwks_file": str(self.jwks),
            "roles": [self.member],
            "role_claim": "role",
            "login": self.login,
            "statements": statements,
        }
        return self.start(
            issuers={"mine": mine}, logins={"web": {"role": self.login, "password": "secret"}}, **settings
        )

    def post(self, program: Program, user: str, *texts: str, params: tuple[object, ...] = ()) -> Any:
        """The answer to one statement, or to several as a batch, of a user of the member role."""
        token = ISSUER.token("one", {"sub": user, "role": self.member, "exp": int(time.time()) + 600})
        headers = {
            "Neon-Connection-String": f"postgres://{self.member}@db.example/{self.database.name}",
            "Authorization": f"Bearer {token}",
            "Neon-Array-Mode": "true",
        }
        queries = [{"query": text, "params": list(params)} for text in texts]
        return program.post(queries[0] if len(queries) == 1 else {"queries": queries}, headers).json()


@pytest.fixture
def site(
    start_program: Callable[..., Program], database: Database, postgres: Cluster, tmp_path: Path
) -> Iterator[Site]:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(ISSUER.jwks())
    # An authenticator has no rights but to become the others.
    with (
        scratch_role(postgres, "NOINHERIT") as login,
        scratch_role(postgres) as member,
        scratch_role(postgres) as anon,
    ):
        database.psql(SCHEMA.format(login=login, member=member, anon=anon))
        yield Site(start_program, database, login, member, anon, jwks)
        database.psql(f"DROP OWNED BY {login}, {member}, {anon}")


def test_each_user_is_the_tokens_role_and_has_their_own_rows(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    for user, rows in ((ANN, [["ann"]]), (BOB, [["bob"]]), (ANN, [["ann"]])):
        assert site.post(program, user, READ)["rows"] == rows
        assert site.post(program, user, WHO)["rows"] == [[site.member, site.login]]
    assert site.post(program, BOB, ADD, params=("more",))["rows"] == [[BOB]]
    answer = site.post(program, BOB, WHO, READ)
    assert [result["rows"] for result in answer["results"]] == [[[site.member, site.login]], [["bob"], ["more"]]]


def test_nothing_of_the_role_or_the_claims_is_left_on_the_connection(site: Site) -> None:
    program = site.program(pool={"max_size": 1})
    assert site.post(program, ANN, READ)["rows"] == [["ann"]]
    own = program.to(site.database.as_role(site.login, "secret"))
    assert own.rows(WHO) == [[site.login, site.login]]
    assert own.rows(f"{CLAIMS} IN ('', NULL)") in ([[True]], [[None]])


@pytest.mark.parametrize("attack", ["RESET ROLE", "SET ROLE NONE", "COMMIT", f"{READ}; RESET ROLE", "DISCARD ALL"])
def test_statement_that_would_leave_the_role_is_not_on_the_list(site: Site, attack: str) -> None:
    program = site.program(pool={"max_size": 1})
    answer = site.post(program, ANN, attack, READ)
    assert (answer["code"], "not on the list" in answer["message"]) == ("42501", True)


def test_commit_is_refused_even_where_it_is_listed(site: Site) -> None:
    program = site.program(statements=[*LIST, digest_of("COMMIT").hex()])
    answer = site.post(program, ANN, "COMMIT", READ)
    assert answer["message"] == (
        "a caller with a role for the transaction cannot end the transaction that its statements run in"
    )


def test_token_for_a_role_that_the_issuer_has_no_business_with_is_refused(site: Site) -> None:
    program = site.program()
    for role in (site.login, site.anon, "postgres", "none"):
        token = ISSUER.token("one", {"sub": ANN, "role": role, "exp": int(time.time()) + 600})
        headers = {
            "Neon-Connection-String": f"postgres://{site.member}@db.example/{site.database.name}",
            "Authorization": f"Bearer {token}",
        }
        response = program.post({"query": READ}, headers)
        assert (response.status_code, response.json()["message"]) == (400, "jwk not found")


def test_locked_key_in_a_browser_is_the_anonymous_role(site: Site) -> None:
    key = new_key()
    program = site.program(
        keys={
            key.id: {
                "hash": hash_of(key),
                "database": site.database.name,
                "role": site.anon,
                "login": site.login,
                "statements": LIST,
            }
        }
    )
    shown = {"Neon-Connection-String": None, "Authorization": f"Bearer {key.text}", "Neon-Array-Mode": "true"}
    assert program.post({"query": READ}, shown).json()["rows"] == [["public one"]]
    assert program.post({"query": CLAIMS}, shown).json()["rows"] == [[f'{{"role":"{site.anon}"}}']]


def test_role_that_the_login_may_not_become_is_an_error_before_the_statement(site: Site, postgres: Cluster) -> None:
    program = site.program()
    site.database.psql(f"REVOKE {site.member} FROM {site.login}")
    answer = site.post(program, ANN, ADD, params=("x",))
    assert "permission denied to set role" in answer["message"]
    assert site.database.psql("SELECT count(*) FROM todos") == "3\n"


def test_callers_with_sql_of_their_own_have_a_set_role_only_where_that_was_asked_for(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="needs statements beside it"):
        site.program(statements=None)
    open_to_all = site.program(statements=None, auth={"set_role": "any", "claims": "plain"})
    assert site.post(open_to_all, ANN, READ)["rows"] == [["ann"]]
    # This is the danger that the check names: nothing keeps them in.
    left = site.post(open_to_all, ANN, "RESET ROLE", WHO)
    assert left["results"][-1]["rows"] == [[site.login, site.login]]


def test_two_users_interleaved_on_a_small_pool_never_see_each_others_rows(site: Site) -> None:
    program = site.program(pool={"max_size": 4})
    shapes: itertools.cycle[tuple[str, ...]] = itertools.cycle(
        [(READ,), (WHO, READ), (READ, "SELECT 1/0"), ("COMMIT",)]
    )
    work = [(user, next(shapes)) for user in itertools.islice(itertools.cycle((ANN, BOB)), 400)]

    def run(job: tuple[str, tuple[str, ...]]) -> None:
        user, texts = job
        answer = site.post(program, user, *texts)
        own, other = ("ann", "bob") if user == ANN else ("bob", "ann")
        assert f"'{other}'" not in str(answer)
        if texts == (READ,):
            assert answer["rows"] == [[own]]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, work))
