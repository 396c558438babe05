"""The gateway before a Postgres that is itself behind a transaction pooler: `?pgbouncer=true` in DATABASE_URL."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.cluster import Database
from tests.support.fleet import wait_until
from tests.support.gateway import Gateway
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.support.program import Program, program_of

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def pooled(database: Database) -> Iterator[Database]:
    """The test's database through a PgBouncer with two server connections."""
    with pgbouncer(database, size=2) as before:
        yield before


@pytest.fixture
def program(pooled: Database, start_gateway: Callable[..., Gateway]) -> Iterator[Program]:
    gateway = start_gateway(database_url=f"{pooled.url}?pgbouncer=true&sslmode=disable", pool={"max_size": 8})
    with program_of(gateway, pooled) as program:
        yield program


def test_no_statement_is_named_so_that_any_server_connection_will_do(program: Program) -> None:
    with ThreadPoolExecutor(16) as threads:
        values = list(threads.map(lambda number: program.value("SELECT $1::int + 1", number), range(200)))
    assert values == [number + 1 for number in range(200)]


def test_statement_seen_before_works_again_on_every_server_connection(program: Program) -> None:
    for _ in range(20):
        assert program.value("SELECT count(*) FROM pg_prepared_statements") == "0"


@pytest.mark.parametrize(
    "setting",
    [
        "SELECT set_config('search_path', 'elsewhere', false)",
        "SELECT set_config('role', 'pg_monitor', false)",
        "SELECT pg_advisory_lock(7)",
    ],
)
def test_state_does_not_reach_the_next_request_through_the_pooler(program: Program, setting: str) -> None:
    program.ask(setting)
    program.post({"queries": [{"query": setting}, {"query": "SELECT 1"}]})
    with ThreadPoolExecutor(8) as threads:
        seen = list(
            threads.map(
                lambda _: tuple(
                    program.rows(
                        "SELECT current_user, current_setting('search_path'),"
                        " (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory')"
                    )[0]
                ),
                range(40),
            )
        )
    assert set(seen) == {("postgres", '"$user", public', 0)}


@pytest.mark.parametrize(
    "setting",
    [
        "SET search_path = elsewhere",
        "/* a word ahead */ SET ROLE pg_monitor",
        "CREATE TEMP TABLE left_here AS SELECT 1",
        "DO $$ BEGIN PERFORM set_config('search_path', 'elsewhere', false), pg_advisory_lock(7); END $$",
        "LISTEN left_here",
        "SELECT pg_advisory_lock_shared(7), 1 / (SELECT 0)",
    ],
)
def test_state_reaches_nobody_else_while_many_take_turns(program: Program, setting: str) -> None:
    """PgBouncer lends a server connection to the next one as soon as a transaction is over, if there is a next one."""
    looking = (
        "SELECT current_user, current_setting('search_path'), to_regclass('left_here'),"
        " (SELECT count(*)::int FROM pg_listening_channels()),"
        " (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    )

    def take_turns(number: int) -> tuple[object, ...]:
        program.post({"query": setting if number % 2 else "SELECT pg_sleep(0.002)"})
        return tuple(program.rows(looking)[0])

    with ThreadPoolExecutor(8) as threads:
        seen = set(threads.map(take_turns, range(200)))
    assert seen == {("postgres", '"$user", public', None, 0, 0)}


@pytest.mark.parametrize("statement", ["VACUUM", "BEGIN", "ROLLBACK", "CALL commits()", "SHOW search_path"])
def test_statement_that_minds_what_stands_beside_it_runs_through_the_pooler(
    program: Program, database: Database, statement: str
) -> None:
    program.ask("CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")
    for _ in range(3):
        assert program.post({"query": statement}).status_code == 200
        wait_until(database, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state LIKE 'idle in trans%')")


def test_batch_that_fails_leaves_nothing(program: Program) -> None:
    program.ask("CREATE TABLE kept (i int)")
    response = program.post({"queries": [{"query": "INSERT INTO kept VALUES (1)"}, {"query": "SELECT 1/0"}]})
    assert response.status_code == 400
    assert program.value("SELECT count(*)::int FROM kept") == 0


def test_batch_answers_each_statement(program: Program) -> None:
    response = program.post({"queries": [{"query": "SELECT 1 AS a"}, {"query": "SELECT 2 AS b"}]})
    assert [result["rows"] for result in response.json()["results"]] == [[{"a": 1}], [{"b": 2}]]


def test_wrong_password_is_refused(program: Program, pooled: Database) -> None:
    response = program.to(pooled.as_role("postgres", "wrong")).post({"query": "SELECT 1"})
    assert response.status_code == 400
    assert response.json()["code"] == "28P01"


def test_statement_timeout_is_kept_by_the_gateway(pooled: Database, start_gateway: Callable[..., Gateway]) -> None:
    """A transaction pooler takes no statement_timeout at start-up."""
    gateway = start_gateway(database_url=f"{pooled.url}?pgbouncer=true&sslmode=disable", statement={"timeout": 0.2})
    with program_of(gateway, pooled) as program:
        error = program.error("SELECT pg_sleep(30)")
    assert error["code"] == "57014"
    assert "0.2 s" in error["message"]
