"""Whose password it is, is really checked: right, wrong, changed, expired, and when nothing may be read in Postgres."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, free_port
from tests.support.program import Program, scratch_role
from tests.support.watch import watching

ALWAYS_ASK = {"proof_lifetime": 0}


def status(program: Program, database: Database) -> int:
    return program.to(database).post({"query": "SELECT 1"}).status_code


@contextmanager
def without_rights(postgres: Cluster) -> Iterator[Database]:
    """The maintenance database as a role that may not read pg_authid."""
    with scratch_role(postgres) as role:
        yield postgres.maintenance.as_role(role, "secret")


@pytest.fixture(params=["verifier", "login"])
def start(
    request: pytest.FixtureRequest, start_program: Callable[..., Program], postgres: Cluster
) -> Iterator[Callable[..., Program]]:
    """A program before a gateway that reads pg_authid, and before one that may not and logs in instead."""
    if request.param == "verifier":
        yield start_program
        return
    with without_rights(postgres) as plain:

        def start(**settings: object) -> Program:
            return start_program(database_url=plain.url, **settings)

        yield start


def test_right_password_is_taken_and_any_other_refused(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start(auth={"failures": 0})
    with scratch_role(postgres) as role:
        for _ in range(2):
            assert status(program, database.as_role(role, "secret")) == 200
            for wrong in ("Secret", "secret ", "secre", "secrets", "postgres", "\x01", "x" * 4000):
                assert status(program, database.as_role(role, wrong)) == 400, wrong


async def test_wrong_password_never_gets_a_connection(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program(auth={"failures": 0})
    with scratch_role(postgres) as role:
        async with watching(database) as watch, watch.counting(f"usename = '{role}'") as seen:
            for number in range(20):
                assert status(program, database.as_role(role, f"wrong{number}")) == 400
        assert seen.most == 0


def test_changed_password_works_at_once_on_the_same_backend(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program(pool={"max_size": 1}, auth=ALWAYS_ASK)
    with scratch_role(postgres) as role:
        old, new = database.as_role(role, "secret"), database.as_role(role, "changed")
        backend = program.to(old).value("SELECT pg_backend_pid()")
        assert status(program, new) == 400
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
        assert program.to(new).value("SELECT pg_backend_pid()") == backend
        assert status(program, old) == 400


def test_changed_password_works_at_once_where_the_gateway_must_log_in(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start(auth=ALWAYS_ASK)
    with scratch_role(postgres) as role:
        old, new = database.as_role(role, "secret"), database.as_role(role, "changed")
        assert (status(program, old), status(program, new)) == (200, 400)
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
        assert (status(program, old), status(program, new)) == (400, 200)


def test_old_password_stops_working_within_the_lifetime_of_its_proof(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start(auth={"proof_lifetime": 0.5})
    with scratch_role(postgres) as role:
        old, new = database.as_role(role, "secret"), database.as_role(role, "changed")
        assert status(program, old) == 200
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
        assert status(program, new) == 200, "the new one needs no waiting"
        deadline = time.monotonic() + 5
        while status(program, old) == 200:
            assert time.monotonic() < deadline
        assert status(program, new) == 200


def test_unknown_role_looks_like_a_wrong_password_and_takes_as_long(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program()
    with scratch_role(postgres) as role:
        # Thirty times the usual work, so that leaving it out would be seen on any machine.
        postgres.maintenance.psql(f"SET scram_iterations = 120000; ALTER ROLE {role} PASSWORD 'secret'")

        def refusal(who: str, number: int) -> tuple[float, dict[str, object]]:
            began = time.perf_counter()
            response = program.to(database.as_role(who, f"wrong{number}")).post({"query": "SELECT 1"})
            assert response.status_code == 400
            body = response.json()
            assert body.pop("message") == f'password authentication failed for user "{who}"'
            return time.perf_counter() - began, body

        pairs = [(refusal(role, number), refusal("nobody_at_all", number)) for number in range(8)]
        assert all(wrong[1] == unknown[1] for wrong, unknown in pairs)
        fastest_wrong = min(wrong[0] for wrong, _ in pairs)
        fastest_unknown = min(unknown[0] for _, unknown in pairs)
        assert 0.5 < fastest_unknown / fastest_wrong < 2


def test_role_that_may_not_log_in_is_refused(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start()
    for make in ("NOLOGIN", "VALID UNTIL '2001-01-01'", "PASSWORD NULL"):
        with scratch_role(postgres) as role:
            postgres.maintenance.psql(f"ALTER ROLE {role} {make}")
            error = program.to(database.as_role(role, "secret")).error("SELECT 1")
            assert error["code"] in ("28P01", "28000"), make


def test_passwords_of_every_kind_are_percent_decoded(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start()
    for password in ("%+$^&*@!", "http+auth$$", "pass word", "päss☃", "a:b/c?d#e@f", "%41", "'\"\\"):
        with scratch_role(postgres) as role:
            quoted = password.replace("'", "''")
            postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD '{quoted}'")
            assert status(program, database.as_role(role, password)) == 200, password
            assert status(program, database.as_role(role, password + "x")) == 400, password


def test_names_of_every_kind_are_percent_decoded(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program()
    name = "http+auth$$ é/@:%41"
    postgres.maintenance.psql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'x'")
    try:
        url = f"postgres://{quote(name, safe='+$')}:x@{database.host}/{database.name}"
        response = program.post({"query": "SELECT current_user::text AS u"}, {"Neon-Connection-String": url})
        assert response.json()["rows"] == [{"u": name}]
    finally:
        postgres.maintenance.psql(f'DROP ROLE "{name}"')


def test_role_may_be_kept_out_of_a_database(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start()
    database.psql(f"REVOKE CONNECT ON DATABASE {database.name} FROM public")
    with scratch_role(postgres) as role:
        error = program.to(database.as_role(role, "secret")).error("SELECT 1")
        assert (error["code"], error["severity"]) == ("42501", "FATAL")
        assert status(program, database.as_role(role, "wrong")) == 400


def test_one_role_never_gets_the_connection_of_another(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program(pool={"max_size": 1})
    with scratch_role(postgres) as one, scratch_role(postgres) as two:
        for _ in range(3):
            for role in (one, two):
                there = program.to(database.as_role(role, "secret"))
                assert there.rows("SELECT current_user::text, session_user::text, current_database()::text") == [
                    [role, role, database.name]
                ]


def test_many_wrong_ones_from_an_address_and_none_is_looked_at_but_those_that_were_right(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    auth = {"failures": 3, "failures_refused": 1.0, "proof_lifetime": 0}
    program = start_program(auth=auth)
    with scratch_role(postgres) as role:
        right = database.as_role(role, "secret")
        assert status(program, right) == 200
        for _ in range(3):
            assert status(program, database.as_role(role, "wrong")) == 400
        response = program.to(database.as_role(role, "guess")).post({"query": "SELECT 1"})
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["code"] == "28000"
        assert f'3 passwords for role "{role}" from 127.0.0.1 were wrong within 150 s' in response.json()["message"]
        assert status(program, right) == 200, "another program behind the same address goes on"
    with scratch_role(postgres) as role:
        assert status(program, database.as_role(role, "secret")) == 200, "so does another role"
    unknown = database.as_role("nobody_at_all", "guess")
    assert [status(program, unknown) for _ in range(4)] == [400, 400, 400, 429], "told apart from nobody"


async def test_wrong_ones_that_come_all_at_once_are_no_more_than_those_one_after_the_other(
    start: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    """Each of them comes before any is known to be wrong; but few are looked at together."""
    program = start(auth={"failures": 3})
    with scratch_role(postgres) as role:
        async with httpx.AsyncClient(timeout=60) as many:

            async def guess(password: str) -> int:
                headers = {"Neon-Connection-String": database.as_role(role, password).url}
                return (await many.post(program.endpoint, json={"query": "SELECT 1"}, headers=headers)).status_code

            told = await asyncio.gather(*[guess(f"guess{number}") for number in range(40)])
    assert 3 <= told.count(400) <= 3 + 4, "some are looked at before the third is known to be wrong"
    assert told.count(400) + told.count(429) == 40


async def test_wrong_proofs_that_come_all_at_once_are_no_more_than_those_one_after_the_other(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port, "scram": True}, auth={"failures": 3})

    async def guess(password: str) -> str:
        try:
            program = await asyncpg.connect(
                host="127.0.0.1", port=port, user="postgres", database=database.name, password=password
            )
        except asyncpg.PostgresError as error:
            return type(error).__name__
        await program.close()
        return "in"

    told = await asyncio.gather(*[guess(f"guess{number}") for number in range(20)])
    assert told.count("InvalidPasswordError") == 3
    assert told.count("InvalidAuthorizationSpecificationError") == 17


async def test_tunnels_count_wrong_passwords_as_requests_do(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port}, auth={"failures": 2})
    address = {"host": "127.0.0.1", "port": port, "user": "postgres", "database": database.name}
    for _ in range(2):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**address, password="wrong")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="none is looked at for another 120 s"):
        await asyncpg.connect(**address, password="wrong")
