"""`Sqlhttp-Ran` held against what is in the table afterwards: never no for a write that is there, nor yes for one not.

Each case writes a row under its own name and ends in an error. That it may be there is said only of classes of which
one case, here or in tests/faults, shows that it can be.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.cluster import Cluster, Database
from tests.support.program import Program, program_of, scratch_database, scratch_role

LARGE = 20_000
SETTINGS: dict[str, Any] = {
    "pool": {"max_size": 1, "max_waiting": 1, "wait_timeout": 0.2},
    "response": {"max_bytes": LARGE},
    "request": {"max_bytes": 5000},
    "statement": {"timeout": 0.5},
    "idempotency": {"wait": 0.1},
}


class Case(NamedTuple):
    """A request that writes `NAME` and fails."""

    body: object
    says: str
    stays: bool
    headers: Mapping[str, str | None] = MappingProxyType({})


WRITE = "INSERT INTO seen VALUES ('NAME')"
FILL = f"SELECT repeat('x', {LARGE})"
CASES: dict[str, Case] = {
    "a constraint": Case({"query": f"{WRITE}, ('taken')"}, "no", stays=False),
    "a constraint in a batch": Case({"queries": [{"query": WRITE}, {"query": "SELECT 1/0"}]}, "no", stays=False),
    "too few parameters": Case({"query": "INSERT INTO seen VALUES ('NAME' || $1)"}, "no", stays=False),
    "what is no JSON": Case(f'{{"query":"{WRITE}"'.encode(), "no", stays=False),
    "a header that means nothing": Case({"query": WRITE}, "no", stays=False, headers={"Sqlhttp-Timeout": "soon"}),
    "no connection string": Case({"query": WRITE}, "no", stays=False, headers={"Neon-Connection-String": None}),
    "a body that is too large": Case({"query": f"{WRITE} --{'x' * 5000}"}, "no", stays=False),
    "a wrong token": Case({"query": WRITE}, "no", stays=False, headers={"Authorization": "Bearer nonsense"}),
    "a deadline before a connection was free": Case(
        {"query": WRITE}, "no", stays=False, headers={"Sqlhttp-Timeout": "0.000001"}
    ),
    "only from the cache": Case({"query": "SELECT 1"}, "no", stays=False, headers={"Cache-Control": "only-if-cached"}),
    "an answer that is too large": Case({"query": f"{WRITE} RETURNING repeat('x', {LARGE})"}, "maybe", stays=True),
    "an answer of a batch that is too large": Case(
        {"queries": [{"query": WRITE}, {"query": FILL}, {"query": "SELECT pg_sleep(0.2)"}]}, "no", stays=False
    ),
    "the time of a statement": Case(
        {"query": f"WITH w AS ({WRITE}) SELECT pg_sleep(5)"},
        "no",
        stays=False,
    ),
    "a deadline while it ran": Case(
        {"query": f"WITH w AS ({WRITE}) SELECT pg_sleep(5)"},
        "maybe",
        stays=False,
        headers={"Sqlhttp-Timeout": "0.2"},
    ),
    "DO that commits and fails": Case(
        {"query": f"DO $$ BEGIN {WRITE}; COMMIT; PERFORM 1/0; END $$"}, "maybe", stays=True
    ),
    "the same behind a comment": Case(
        {"query": f"/* a */ -- b\n DO $$ BEGIN {WRITE}; COMMIT; PERFORM 1/0; END $$"}, "maybe", stays=True
    ),
    "a batch that commits and fails": Case(
        {"queries": [{"query": WRITE}, {"query": "COMMIT"}, {"query": "SELECT 1/0"}]}, "maybe", stays=True
    ),
    "DO behind a semicolon": Case(
        {"query": f"; DO $$ BEGIN {WRITE}; COMMIT; PERFORM 1/0; END $$"}, "maybe", stays=True
    ),
    "DO behind a comment in a comment": Case(
        {"query": f"/* /* */ */ DO $$ BEGIN {WRITE}; COMMIT; PERFORM 1/0; END $$"}, "maybe", stays=True
    ),
    "a batch that commits behind a semicolon": Case(
        {"queries": [{"query": WRITE}, {"query": ";COMMIT"}, {"query": "SELECT 1/0"}]}, "maybe", stays=True
    ),
    "a batch that commits behind a comment in a comment": Case(
        {"queries": [{"query": WRITE}, {"query": "/* /* */ */ COMMIT"}, {"query": "SELECT 1/0"}]}, "maybe", stays=True
    ),
    "a key and a COMMIT behind a semicolon": Case(
        {"queries": [{"query": WRITE}, {"query": ";COMMIT"}]}, "no", stays=False, headers={"Idempotency-Key": '"c"'}
    ),
    "COPY to a stream": Case({"query": f"COPY ({WRITE} RETURNING 1) TO STDOUT"}, "no", stays=False),
    "COPY to a stream, written in another way": Case(
        {"query": f"/* /* */ */ COPY ({WRITE} RETURNING 1) TO/**/STDOUT"}, "no", stays=False
    ),
    "a connection that ends": Case(
        {"query": f"WITH w AS ({WRITE} RETURNING 1) SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1) FROM w"},
        "maybe",
        stays=False,
    ),
}


@pytest.fixture(scope="module")
def database(postgres: Cluster) -> Iterator[Database]:
    with scratch_database(postgres) as database:
        database.psql("CREATE TABLE seen (v text UNIQUE); INSERT INTO seen VALUES ('taken')")
        yield database


@pytest.fixture
def program(database: Database, start_gateway: Callable[..., Any]) -> Iterator[Program]:
    with program_of(start_gateway(**SETTINGS), database) as program:
        yield program


def is_there(database: Database, name: str) -> bool:
    return database.psql(f"SELECT count(*) FROM seen WHERE v = '{name}'") == "1\n"


def named(body: object, name: str) -> object:
    """The body with `name` in place of NAME."""
    if isinstance(body, dict):
        return {key: named(value, name) for key, value in body.items()}
    if isinstance(body, list):
        return [named(each, name) for each in body]
    return body.replace(b"NAME", name.encode()) if isinstance(body, bytes) else str(body).replace("NAME", name)


@pytest.mark.parametrize("name", CASES)
def test_what_an_error_says_of_the_write_is_so(name: str, program: Program, database: Database) -> None:
    case = CASES[name]
    response = program.post(named(case.body, name), case.headers)
    assert response.status_code >= 400, response.text
    assert response.headers["sqlhttp-ran"] == case.says, response.text
    assert is_there(database, name) is case.stays
    assert not (case.says == "no" and case.stays)
    assert not (case.says == "yes" and not case.stays)


def test_index_that_is_made_concurrently_and_fails_is_said_to_be_there_perhaps(
    program: Program, database: Database
) -> None:
    database.psql("CREATE TABLE twice (v int); INSERT INTO twice VALUES (1), (1)")
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'twice'::regclass"
    for how, says, left in (("", "no", "0\n"), ("CONCURRENTLY", "maybe", "1\n")):
        response = program.post({"query": f"CREATE UNIQUE INDEX {how} once ON twice (v)"})
        assert (response.json()["code"], response.headers["sqlhttp-ran"]) == ("23505", says), response.text
        assert database.psql(indexes) == left


def test_refusals_of_a_busy_gateway_say_no_and_nothing_is_there(program: Program, database: Database) -> None:
    write = {"query": "INSERT INTO seen VALUES ('busy')"}
    told: list[httpx.Response] = []

    def ask() -> None:
        told.append(program.post(write))

    refused: list[httpx.Response] = []
    for _ in range(20):  # once, where nothing else keeps the machine busy
        threads = [threading.Thread(target=program.post, args=({"query": "SELECT pg_sleep(0.45)"},))]
        threads += [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if refused := [each for each in told if each.status_code == 503]:
            break
    assert refused
    assert {each.headers["sqlhttp-ran"] for each in refused} == {"no"}
    assert is_there(database, "busy") is any(each.status_code == 200 for each in told)


def test_keys_that_are_in_flight_or_used_again_say_no(program: Program, database: Database) -> None:
    key = {"Idempotency-Key": '"once"'}
    assert program.post({"query": "INSERT INTO seen VALUES ('once')"}, key).status_code == 200
    other = program.post({"query": "INSERT INTO seen VALUES ('other')"}, key)
    assert (other.status_code, other.headers["sqlhttp-ran"]) == (422, "no")
    assert not is_there(database, "other")


def test_an_answer_that_cannot_be_told_says_yes_and_the_row_is_there(program: Program, postgres: Cluster) -> None:
    postgres.maintenance.psql("CREATE DATABASE ran_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        other = program.to(replace(postgres.maintenance, name="ran_bytes"))
        other.ask("CREATE TABLE seen (v text)")
        writes = ("SET client_encoding TO SQL_ASCII", "INSERT INTO seen VALUES (chr(255)) RETURNING v")
        response = other.post({"queries": [{"query": each} for each in writes]})
        assert (response.status_code, response.headers["sqlhttp-ran"]) == (500, "yes"), response.text
        assert other.value("SELECT count(*)::int FROM seen") == 1
    finally:
        postgres.maintenance.psql("DROP DATABASE ran_bytes WITH (FORCE)")


def test_an_answer_whose_types_the_catalog_does_not_tell_says_yes_and_the_row_is_there(
    program: Program, postgres: Cluster
) -> None:
    with scratch_database(postgres) as database, scratch_role(postgres) as role:
        database.psql(
            "CREATE TYPE mood AS ENUM ('good'); CREATE TABLE seen (v mood[]); GRANT INSERT, SELECT ON seen TO PUBLIC"
        )
        database.psql("REVOKE SELECT ON pg_catalog.pg_type FROM PUBLIC")
        response = program.to(database.as_role(role, "secret")).post(
            {"query": "INSERT INTO seen VALUES ('{good}') RETURNING v"}
        )
        assert (response.json()["code"], response.headers["sqlhttp-ran"]) == ("42501", "yes"), response.text
        assert database.psql("SELECT count(*) FROM seen") == "1\n"


def test_a_success_says_nothing_of_it(program: Program) -> None:
    assert "sqlhttp-ran" not in program.post({"query": "SELECT 1"}).headers


def test_a_wrong_password_says_no(program: Program, postgres: Cluster, database: Database) -> None:
    with scratch_role(postgres) as role:
        response = program.to(database.as_role(role, "wrong")).post({"query": "SELECT 1"})
    assert (response.json()["code"], response.headers["sqlhttp-ran"]) == ("28P01", "no")
