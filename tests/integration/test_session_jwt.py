"""Claims by Neon's extension pg_session_jwt before a whole gateway, with tests/support/session_jwt.py in its place."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from tests.integration.test_row_security import FORGERY, ISSUER, READ, SCHEMA, Site, User
from tests.support.cluster import Cluster, Database
from tests.support.program import Program, scratch_role
from tests.support.session_jwt import install_stand_in, tokens


@pytest.fixture
def site(
    start_program: Callable[..., Program], database: Database, postgres: Cluster, tmp_path: Path
) -> Iterator[Site]:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(ISSUER.jwks())
    with scratch_role(postgres) as role:
        install_stand_in(database)
        database.psql(SCHEMA.format(role=role))
        yield Site(start_program, database, role, jwks)
        database.psql(f"DROP OWNED BY {role}")


def test_two_users_interleaved_see_their_own_rows_and_every_token_was_the_connections(site: Site) -> None:
    program = site.program(pool={"max_size": 2})
    users = {name: User(site, program, name) for name in ("ann", "bob")}
    texts = itertools.cycle([(READ,), (READ, "SELECT 1"), ("SELECT 1/0",), ("COMMIT", READ), ("RESET ALL", READ)])
    work = [(name, next(texts)) for name in itertools.islice(itertools.cycle(users), 200)]

    def run(job: tuple[str, tuple[str, ...]]) -> None:
        name, texts = job
        status, answer = users[name].post(*texts)
        assert f"'{'bob' if name == 'ann' else 'ann'}'" not in str(answer), (texts, answer)
        if texts == (READ,):
            assert (status, answer["rows"]) == (200, [[name]])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, work))
    taken = tokens(site.database)  # each is verified with its connection's key
    assert len(taken) >= 100
    assert {claims["sub"] for claims in taken} == {"ann", "bob"}


def test_claims_are_whole_and_only_the_tokens_number_is_another(site: Site) -> None:
    ann = User(site, site.program(), "ann")
    [[session]] = ann.rows("SELECT auth.session()")
    assert (session["sub"], session["jti"]) == ("ann", 1)
    assert ann.rows("INSERT INTO notes (body) VALUES ('new') RETURNING owner") == [["ann"]]


@pytest.mark.parametrize(
    "attack",
    [
        f"SET request.jwt.claims = {FORGERY}",
        "SET pg_session_jwt.jwk = '{}'",
        "SELECT auth.init()",
        "SELECT set_config('pg_session_jwt.jwt', '{token}', false)",
        "SELECT auth.jwt_session_init('{token}')",
        "RESET ALL",
        "DISCARD ALL",
    ],
)
def test_token_of_another_request_is_good_for_nothing(site: Site, attack: str) -> None:
    """A forged one, with a bad signature, is for the extension itself to refuse; SQL cannot verify it."""
    program = site.program(pool={"max_size": 1})
    ann, bob = User(site, program, "ann"), User(site, program, "bob")
    [[token]] = bob.rows("SELECT current_setting('pg_session_jwt.jwt')")
    text = attack.replace("{token}", token)
    for texts in ([text, READ], [text]):
        _, answer = ann.post(*texts)
        assert ["bob"] not in answer.get("results", [{}])[-1].get("rows", [])
    assert ann.rows(READ) == [["ann"]]


def test_who_comes_without_a_token_has_no_claims_and_can_make_none(site: Site) -> None:
    key = new_key()
    program = site.program(
        pool={"max_size": 1},
        keys={key.id: {"hash": hash_of(key), "database": site.database.name, "role": site.role}},
    )
    assert User(site, program, "ann").rows(READ) == [["ann"]]
    shown: dict[str, str | None] = {"Neon-Connection-String": None, "Authorization": f"Bearer {key.text}"}
    for texts in ([READ], [f"SET request.jwt.claims = {FORGERY}", READ], ["SELECT auth.init()", READ]):
        answer = program.post({"queries": [{"query": text} for text in texts]}, shown).json()
        assert answer["results"][-1]["rows"] == []


def test_database_without_the_extension_is_served_by_the_same_gateway(site: Site, postgres: Cluster) -> None:
    program = site.program()
    assert program.to(postgres.maintenance).rows("SELECT 1") == [[1]]
