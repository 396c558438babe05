"""API keys before a whole gateway: what they open, what they do not, and how soon a revoked one stops."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.auth.credentials import ApiKey
from tests.support.cluster import Database
from tests.support.program import Program

ONE = {"query": "SELECT 1 AS one"}


def settings(key: ApiKey, database: Database, **changes: object) -> dict[str, Any]:
    return {"keys": {key.id: {"hash": hash_of(key), "database": database.name, "role": "postgres", **changes}}}


@pytest.fixture
def key() -> ApiKey:
    return new_key()


@pytest.fixture
def post(
    start_program: Callable[..., Program], database: Database, key: ApiKey
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Posts with a key: `post(body, headers, **what the key may do)`; a status and a body."""
    programs: dict[str, Program] = {}

    def post(body: object, headers: dict[str, str] | None = None, **changes: object) -> tuple[int, dict[str, Any]]:
        program = programs.setdefault(repr(changes), start_program(**settings(key, database, **changes)))
        given = {"Neon-Connection-String": None, "Authorization": f"Bearer {key.text}", **(headers or {})}
        response = program.post(body, given)
        return response.status_code, response.json()

    return post


def test_key_alone_is_enough(post: Callable[..., Any], database: Database) -> None:
    status, answer = post({"query": "SELECT current_database()::text AS d, current_user::text AS u"})
    assert status == 200, answer
    assert answer["rows"] == [{"d": database.name, "u": "postgres"}]


def test_curls_user_is_enough(start_program: Callable[..., Program], database: Database, key: ApiKey) -> None:
    program = start_program(**settings(key, database))
    response = program._http.post(program.endpoint, json=ONE, auth=(key.text, ""))
    assert response.json()["rows"] == [{"one": 1}]


def test_key_stands_in_the_passwords_place(
    start_program: Callable[..., Program], database: Database, key: ApiKey
) -> None:
    program = start_program(**settings(key, database))
    assert program.to(database.as_role("postgres", key.text)).rows("SELECT 1") == [[1]]


@pytest.mark.parametrize("path", ["/other", "/postgres"])
def test_connection_string_beside_a_key_must_agree(post: Callable[..., Any], path: str) -> None:
    status, answer = post(ONE, {"Neon-Connection-String": f"postgres://postgres@db{path}"})
    assert (status, answer["code"]) == (400, "28000")


def test_wrong_key_is_refused_in_the_error_form_without_its_text(post: Callable[..., Any]) -> None:
    wrong = new_key()
    status, answer = post(ONE, {"Authorization": f"Bearer {wrong.text}"})
    assert (status, answer["message"]) == (400, "invalid API key")
    assert wrong.text not in str(answer)


def test_other_origin_is_refused_and_the_right_one_served(post: Callable[..., Any]) -> None:
    allowed = {"origins": ["https://app.example"]}
    assert post(ONE, {"Origin": "https://app.example"}, **allowed)[0] == 200
    for headers in ({"Origin": "https://evil.example"}, {}):
        status, answer = post(ONE, headers, **allowed)  # recalled or not
        assert status == 400
        assert "not allowed to connect" in answer["message"]


def test_other_address_is_refused(post: Callable[..., Any]) -> None:
    assert post(ONE, addresses=["127.0.0.0/8"])[0] == 200
    status, answer = post(ONE, {"X-Forwarded-For": "10.0.0.1"}, addresses=["10.0.0.0/8"])
    assert status == 400
    assert answer["message"] == "this IP address 127.0.0.1 is not allowed to connect"


def test_second_header_of_the_same_name_is_refused(
    start_program: Callable[..., Program], database: Database, key: ApiKey
) -> None:
    program = start_program(**settings(key, database))
    for name in ("Authorization", "Neon-Connection-String", "Origin"):
        headers = [("Authorization", f"Bearer {key.text}"), (name, "a"), (name, "b")]
        response = program._http.post(program.endpoint, json=ONE, headers=headers)
        assert response.status_code == 400
        assert response.json()["message"] == f"the header {name.lower()} came twice"


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO notes VALUES (1)"],
        ["SELECT 1", "INSERT INTO notes VALUES (1)"],
        ["SET TRANSACTION READ WRITE", "INSERT INTO notes VALUES (1)"],
        ["SET LOCAL transaction_read_only = off", "INSERT INTO notes VALUES (1)"],
        ["SELECT set_config('transaction_read_only', 'off', true)", "INSERT INTO notes VALUES (1)"],
        ["SET default_transaction_read_only = off", "INSERT INTO notes VALUES (1)"],
        ["COMMIT", "INSERT INTO notes VALUES (1)"],
        ["/* /* */ */ COMMIT", "INSERT INTO notes VALUES (1)"],
        ["ROLLBACK AND CHAIN", "INSERT INTO notes VALUES (1)"],
        ["DO $$ BEGIN COMMIT; INSERT INTO notes VALUES (1); END $$"],
        ["DO $$ BEGIN EXECUTE 'SET TRANSACTION READ WRITE'; INSERT INTO notes VALUES (1); END $$"],
        ["WITH x AS (INSERT INTO notes VALUES (1) RETURNING *) SELECT * FROM x"],
        ["SELECT 1; COMMIT; INSERT INTO notes VALUES (1)"],
        ["RESET ALL", "INSERT INTO notes VALUES (1)"],
        ["SAVEPOINT a", "SET TRANSACTION READ WRITE", "INSERT INTO notes VALUES (1)"],
        ["SELECT setval('counter', 99)"],
    ],
)
def test_read_only_key_writes_nothing_whatever_it_tries(
    post: Callable[..., Any], database: Database, statements: list[str]
) -> None:
    database.psql("CREATE TABLE notes (id int); CREATE SEQUENCE counter")
    bodies: list[object] = [{"queries": [{"query": text} for text in statements]}]
    if len(statements) == 1:
        bodies.append({"query": statements[0]})
    for body in bodies:
        status, answer = post(body, read_only=True)
        assert status == 400
        assert answer["code"] in {"25006", "25001", "42501", "2D000", "42601", "0A000"}, answer
        assert database.psql("SELECT count(*) FROM notes").strip() == "0"
        # and nothing of it is there for the next
        assert post(ONE, read_only=True) == (200, post(ONE, read_only=True)[1])


LEAVE = (
    "DO $$ DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_prepared_statements WHERE statement = 'COMMIT'"
    " LOOP EXECUTE 'EXECUTE ' || quote_ident(n); END LOOP; END $$"
)
"""Postgres lets SQL's EXECUTE run a COMMIT that was prepared over the protocol, even inside DO."""


def test_read_only_key_cannot_leave_its_transaction_by_a_commit_that_was_prepared_for_another(
    post: Callable[..., Any], database: Database
) -> None:
    database.psql("CREATE TABLE notes (id int)")
    for _ in range(2):
        assert post({"queries": [ONE, ONE]}, read_only=True)[0] == 200
    attack = {"queries": [{"query": LEAVE}, {"query": "INSERT INTO notes VALUES (1)"}]}
    assert post(attack, read_only=True)[1]["code"] == "25006"
    assert database.psql("SELECT count(*) FROM notes").strip() == "0"


def test_results_of_a_read_only_key_keep_their_places(post: Callable[..., Any]) -> None:
    status, answer = post({"queries": [{"query": "SELECT 1 AS a"}, {"query": "SELECT 2 AS a"}]}, read_only=True)
    assert status == 200
    assert [result["rows"] for result in answer["results"]] == [[{"a": 1}], [{"a": 2}]]
    status, answer = post({"query": "SELECT $1::int AS a", "params": [3]}, read_only=True)
    assert (answer["rows"], answer["command"], answer["rowCount"]) == ([{"a": 3}], "SELECT", 1)
    status, answer = post({"query": "SELECT 1/0"}, read_only=True)
    assert (status, answer["code"]) == (400, "22012")
    status, answer = post({"query": "SELEC 1"}, read_only=True)
    assert (answer["code"], answer["position"]) == ("42601", "1")


def test_locked_key_runs_what_is_on_its_list_and_nothing_else(post: Callable[..., Any]) -> None:
    locked = {"statements": [digest_of("SELECT $1::int AS a").hex()]}
    assert post({"query": "SELECT $1::int AS a", "params": [7]}, **locked)[1]["rows"] == [{"a": 7}]
    for body in (ONE, {"queries": [{"query": "SELECT $1::int AS a", "params": [1]}, ONE]}):
        status, answer = post(body, **locked)
        assert (status, answer["code"]) == (400, "42501")


def test_key_of_the_table_works_until_it_is_revoked(
    start_program: Callable[..., Program], database: Database, key: ApiKey
) -> None:
    database.psql(
        "CREATE SCHEMA sqlhttp; CREATE TABLE sqlhttp.api_keys (id text PRIMARY KEY, hash text NOT NULL,"
        " name text DEFAULT '', target text DEFAULT 'default', database text, role text, expires_at timestamptz,"
        " origins text[] DEFAULT '{}', addresses text[] DEFAULT '{}', read_only boolean DEFAULT false,"
        " statements text[], created_at timestamptz DEFAULT now(), revoked_at timestamptz);"
        f" INSERT INTO sqlhttp.api_keys (id, hash, database, role)"
        f" VALUES ('{key.id}', '{hash_of(key)}', '{database.name}', 'postgres')"
    )
    program = start_program(
        database_url=database.url, auth={"keys_table": True, "keys_refresh": 0.05, "proof_lifetime": 3600}
    )
    headers = {"Neon-Connection-String": None, "Authorization": f"Bearer {key.text}"}
    assert program.post(ONE, headers).status_code == 200
    database.psql("UPDATE sqlhttp.api_keys SET revoked_at = now()")
    deadline = time.monotonic() + 10
    while (response := program.post(ONE, headers)).status_code == 200:
        assert time.monotonic() < deadline, "the revoked key still works"
    assert response.json()["message"] == "invalid API key"


def test_password_works_beside_keys_as_before(
    start_program: Callable[..., Program], database: Database, key: ApiKey
) -> None:
    program = start_program(**settings(key, database))
    assert program.rows("SELECT 1") == [[1]]
    assert program.to(database.as_role("postgres", "wrong")).error("SELECT 1")["code"] == "28P01"
