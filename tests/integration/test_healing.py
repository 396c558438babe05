"""What goes wrong between two requests is mended without the program: stale plans, lost statements, killed backends."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cluster import Database, running_cluster
from tests.support.gateway import Gateway
from tests.support.program import RAW, Program, program_of
from tests.support.sockets import post
from tests.support.watch import watching

ALONE = {"max_size": 1}


@pytest.fixture
def program(start_program: Callable[..., Program]) -> Program:
    program = start_program(pool=ALONE)
    program.ask("CREATE TABLE changing (a int, b text)")
    program.ask("INSERT INTO changing VALUES (1, 'x')")
    return program


def read_until_prepared(program: Program, text: str) -> None:
    for _ in range(3):
        program.ask(text)


def rows_of_batch(program: Program, *texts: str) -> list[Any]:
    answer = program.post({"queries": [{"query": text, "params": []} for text in texts]})
    assert answer.status_code == 200, answer.text
    return [each["rows"] for each in answer.json()["results"]]


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("ALTER TABLE changing ADD COLUMN c int DEFAULT 7", {"a": 1, "b": "x", "c": 7}),
        ("ALTER TABLE changing DROP COLUMN b", {"a": 1}),
        ("ALTER TABLE changing ALTER COLUMN a TYPE int8", {"a": "1", "b": "x"}),
        ("ALTER TABLE changing RENAME COLUMN a TO z", {"z": 1, "b": "x"}),
    ],
)
@pytest.mark.parametrize("where", ["in a request", "beside the gateway"])
def test_table_changed_between_two_requests(
    program: Program, database: Database, change: str, row: dict[str, object], where: str
) -> None:
    read_until_prepared(program, "SELECT * FROM changing")
    if where == "in a request":
        program.ask(change)
    else:
        database.psql(change)
    for _ in range(3):
        answer = program.ask("SELECT * FROM changing")
        assert answer["rows"] == [row]
        assert [field["name"] for field in answer["fields"]] == list(row)


def test_temporary_table_hides_another_from_what_was_prepared_before(program: Program) -> None:
    rows_of_batch(program, "CREATE TEMP TABLE first (a int)", "SELECT 1")  # from now on there is a schema for them
    read, change = "SELECT a FROM changing", "UPDATE changing SET a = a + 1 WHERE b = 'y'"
    for text in (read, change):
        read_until_prepared(program, text)
    assert rows_of_batch(program, "CREATE TEMP TABLE changing AS SELECT 2 AS a, 'y' AS b", change, read)[2] == [
        {"a": 3}
    ]
    assert program.ask(read)["rows"] == [{"a": 1}]


def test_text_search_configuration_made_anew_under_its_old_name(program: Program) -> None:
    text = "SELECT to_tsvector('words', b)::text AS found FROM changing"
    program.ask("CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)")
    read_until_prepared(program, text)
    for _ in range(2):
        program.ask("DROP TEXT SEARCH CONFIGURATION words")
        program.ask("CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)")
        assert rows_of_batch(program, text, text) == [[{"found": "'x':1"}]] * 2
        program.ask("DROP TEXT SEARCH CONFIGURATION words")
        program.ask("CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)")
        assert program.ask(text)["rows"] == [{"found": "'x':1"}]


def test_type_made_anew_under_its_old_name(program: Program) -> None:
    program.ask("CREATE TYPE mood AS ENUM ('sad')")
    program.ask("CREATE TABLE felt (m mood)")
    program.ask("INSERT INTO felt VALUES ('sad')")
    texts = [
        "SELECT m FROM felt WHERE m = $1",
        "SELECT m FROM felt WHERE m = ANY (ARRAY[$1]::mood[])",
        "SELECT $1::mood AS m",
    ]
    alone = "SELECT 'sad'::mood AS m"
    for _ in range(3):
        for text in texts:
            assert program.rows(text, "sad") == [["sad"]]
        assert program.rows(alone) == [["sad"]]
    # As tools for migrations change an enum.
    for step in (
        "CREATE TYPE mood_new AS ENUM ('sad', 'happy')",
        "ALTER TABLE felt ALTER COLUMN m TYPE mood_new USING (m::text::mood_new)",
        "ALTER TYPE mood RENAME TO mood_old",
        "ALTER TYPE mood_new RENAME TO mood",
        "DROP TYPE mood_old",
    ):
        program.ask(step)
    batch = {"queries": [{"query": text, "params": ["sad"]} for text in texts] + [{"query": alone}]}
    assert [each["rows"] for each in program.post(batch).json()["results"]] == [[{"m": "sad"}]] * 4
    for _ in range(3):
        for text in texts:
            assert program.rows(text, "sad") == [["sad"]]
        assert program.rows(alone) == [["sad"]]


def test_table_dropped_and_made_anew(program: Program) -> None:
    read_until_prepared(program, "SELECT * FROM changing")
    program.ask("DROP TABLE changing")
    assert program.error("SELECT * FROM changing")["code"] == "42P01"
    program.ask("CREATE TABLE changing (now text)")
    assert program.ask("SELECT * FROM changing") == {
        **program.ask("SELECT * FROM changing"),
        "rows": [],
        "command": "SELECT",
    }
    assert [field["name"] for field in program.ask("SELECT * FROM changing")["fields"]] == ["now"]


def test_stale_statement_in_a_batch_is_healed_and_nothing_runs_twice(program: Program, database: Database) -> None:
    program.ask("CREATE TABLE counted (i int)")
    body = {"queries": [{"query": "INSERT INTO counted VALUES (1)"}, {"query": "SELECT * FROM changing"}]}
    for _ in range(3):
        assert program.post(body).status_code == 200
    database.psql("ALTER TABLE changing ADD COLUMN c int")
    response = program.post(body)
    assert response.status_code == 200, response.text
    assert response.json()["results"][1]["rows"] == [{"a": 1, "b": "x", "c": None}]
    assert program.value("SELECT count(*) FROM counted") == "4"


def test_table_changed_in_the_same_batch(program: Program) -> None:
    read_until_prepared(program, "SELECT * FROM changing")
    body = {
        "queries": [
            {"query": "SELECT * FROM changing"},
            {"query": "ALTER TABLE changing ADD COLUMN c int DEFAULT 5"},
            {"query": "SELECT * FROM changing"},
        ]
    }
    response = program.post(body)
    assert response.status_code == 200, response.text
    rows = [result["rows"] for result in response.json()["results"]]
    assert rows == [[{"a": 1, "b": "x"}], [], [{"a": 1, "b": "x", "c": 5}]]


def test_stale_statement_behind_a_commit_of_the_callers_is_not_tried_again(
    program: Program, database: Database
) -> None:
    """What was committed must not be done twice, so the error is told, or the statement alone was mended."""
    program.ask("CREATE TABLE counted (i int)")
    read_until_prepared(program, "SELECT * FROM changing")
    database.psql("ALTER TABLE changing ADD COLUMN c int")
    body = {
        "queries": [
            {"query": "INSERT INTO counted VALUES (1)"},
            {"query": "COMMIT"},
            {"query": "SELECT * FROM changing"},
        ]
    }
    assert program.post(body).status_code in (200, 400)
    assert program.value("SELECT count(*) FROM counted") == "1"
    assert program.ask("SELECT * FROM changing")["rows"] == [{"a": 1, "b": "x", "c": None}]


@pytest.mark.parametrize(
    "forget",
    [
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "DISCARD PLANS",
        "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
        "SELECT forget_all()",
    ],
)
def test_statements_that_are_gone_are_prepared_anew(program: Program, forget: str) -> None:
    program.ask(
        "CREATE FUNCTION forget_all() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
    )
    backend = program.value("SELECT pg_backend_pid()")
    read_until_prepared(program, "SELECT a FROM changing")
    for _ in range(3):
        program.ask(forget)
        assert program.ask("SELECT a FROM changing")["rows"] == [{"a": 1}]
    body = {"queries": [{"query": "SELECT a FROM changing"}, {"query": forget}, {"query": "SELECT a FROM changing"}]}
    # DISCARD ALL may not stand in a transaction; a block could have ended it, as far as its tag tells.
    if forget != "DISCARD ALL" and not forget.startswith("DO"):
        response = program.post(body)
        assert response.status_code == 200, response.text
        assert response.json()["results"][2]["rows"] == [{"a": 1}]
    assert program.value("SELECT pg_backend_pid()") == backend


async def test_backend_killed_between_two_requests_is_not_noticed(program: Program, database: Database) -> None:
    program.ask("SELECT a FROM changing")
    async with watching(database) as watch:
        for _ in range(5):
            await watch.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            answer = await post(program, {"query": "SELECT a FROM changing"})
            assert (answer.status, answer.json()["rows"]) == (200, [[1]])


async def test_backend_killed_while_it_works_is_told_and_the_next_request_works(
    program: Program, database: Database
) -> None:
    async with watching(database) as watch:
        for text in ("SELECT pg_sleep(60)", "INSERT INTO changing SELECT 2 FROM pg_sleep(60)"):
            task = asyncio.create_task(post(program, {"query": text}))
            await watch.until(1, "wait_event = 'PgSleep'")
            await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            answer = await task
            assert (answer.status, answer.json()["code"]) == (400, "57P01")
            assert (await post(program, {"query": "SELECT count(*) FROM changing"})).json()["rows"] == [["1"]]


def test_statement_that_ends_its_own_backend(program: Program) -> None:
    assert program.error("SELECT pg_terminate_backend(pg_backend_pid())")["code"] == "57P01"
    assert program.error("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)")["code"] == "57014"
    assert program.value("SELECT 1") == 1


def test_postgres_restarted_between_two_requests(start_gateway: Callable[..., Gateway]) -> None:
    with running_cluster() as cluster:
        gateway = start_gateway(database_url=cluster.maintenance.url)
        with program_of(gateway, cluster.maintenance) as program:
            for _ in range(2):
                assert program.value("SELECT 1") == 1
                cluster.restart()
            assert program.value("SELECT 1") == 1
            cluster.stop()
            error = program.error("SELECT 1", status=500)
            assert (error["code"], error["severity"]) == ("08001", "FATAL")
            cluster.start()
            assert program.value("SELECT 1") == 1


def test_temporary_table_made_anew_with_other_columns(program: Program) -> None:
    for columns, value, row in (
        ("a int", "1", {"a": 1}),
        ("b text, c int", "'x', 2", {"b": "x", "c": 2}),
        ("a int", "3", {"a": 3}),
    ):
        texts = (f"CREATE TEMP TABLE scrap ({columns})", f"INSERT INTO scrap VALUES ({value})", "SELECT * FROM scrap")
        for _ in range(2):
            response = program.post({"queries": [{"query": text} for text in texts]})
            assert response.status_code == 200, response.text
            assert response.json()["results"][2]["rows"] == [row]


def test_search_path_of_one_request(program: Program) -> None:
    program.ask("CREATE SCHEMA other")
    program.ask("CREATE TABLE other.changing AS SELECT 'other' AS z")
    read_until_prepared(program, "SELECT * FROM changing")
    body = {"queries": [{"query": "SET LOCAL search_path = other"}, {"query": "SELECT * FROM changing"}]}
    for _ in range(2):
        assert program.post(body).json()["results"][1]["rows"] == [{"z": "other"}]
        assert program.ask("SELECT * FROM changing")["rows"] == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize("where", ["in a request", "beside the gateway"])
@pytest.mark.parametrize(("type_", "value"), [("text", "abc"), ("int8", 3_000_000_000)])
def test_parameter_follows_the_column_that_changed_its_type(
    program: Program, database: Database, type_: str, value: object, where: str
) -> None:
    """A prepared statement keeps the types of its parameters, and Postgres does not tell that they are old."""
    for _ in range(3):
        program.ask("INSERT INTO changing (a) VALUES ($1)", 1)
    change = f"ALTER TABLE changing ALTER COLUMN a TYPE {type_}"
    if where == "in a request":
        program.ask(change)
    else:
        database.psql(change)
    program.ask("INSERT INTO changing (a) VALUES ($1)", value)
    program.ask("INSERT INTO changing (a) VALUES ($1)", value)
    assert program.value("SELECT count(*) FROM changing") == "6"


@pytest.mark.parametrize("headers", [{}, RAW])
def test_table_changed_by_a_function_between_two_like_statements_of_a_batch(
    program: Program, headers: dict[str, str]
) -> None:
    """Both ways to Postgres parse a text once in a write, and what was parsed for the first does for the second."""
    program.ask(
        "CREATE FUNCTION widen() RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN ALTER TABLE changing ADD COLUMN c int DEFAULT 5; END $$"
    )

    def batch(*texts: str) -> object:
        return {"queries": [{"query": text, "params": []} for text in texts]}

    texts = ("TABLE changing", "SELECT widen()", "TABLE changing")
    program.post(batch(*("SELECT 1".ljust(len(text)) for text in texts)), headers)  # with the very same head
    response = program.post(batch(*texts), headers)
    assert response.status_code == 200, response.text
    before, _, after = response.json()["results"]
    assert [field["name"] for field in before["fields"]] == ["a", "b"]
    assert [field["name"] for field in after["fields"]] == ["a", "b", "c"]
