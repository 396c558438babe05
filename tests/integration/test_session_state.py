"""Nothing of one request reaches the next, although both use the same backend."""

import time
from collections.abc import Callable

import pytest

from tests.support.cluster import Database, running_cluster
from tests.support.gateway import gateway_in_thread
from tests.support.program import Program, program_of

ALONE = {"max_size": 1}  # every request gets the same connection

SETTING = "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('role'), current_user"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"
SLOW = "SELECT pg_sleep(0.05)::text || current_setting"

# What a statement leaves behind, and a question whose answer tells.
LEFT_BEHIND = {
    "a setting": ("SET work_mem = '77MB'", SETTING),
    "a setting made by a function": ("SELECT set_config('work_mem', '77MB', false)", SETTING),
    "a setting made by a block": ("DO $$ BEGIN PERFORM set_config('work_mem', '77MB', false); END $$", SETTING),
    "a search path": ("SET search_path = pg_temp, nowhere", SETTING),
    "a role": ("SET ROLE pg_monitor", SETTING),
    "a role set by a function": ("SELECT set_config('role', 'pg_monitor', false)", SETTING),
    "a session authorization": ("SET SESSION AUTHORIZATION pg_monitor", SETTING),
    "a time zone": ("SET TIME ZONE 'Asia/Kathmandu'", "SHOW timezone"),
    "a date style": ("SET datestyle = 'German'", "SELECT date '2024-02-29'::text"),
    "how strings are read": ("SET standard_conforming_strings = off", r"SELECT 'a\b'"),
    "an encoding": ("SET client_encoding = 'LATIN1'", "SELECT 'é☃'"),
    "a statement timeout": ("SET statement_timeout = 1", SLOW + "('statement_timeout')"),
    "a lock timeout": ("SET lock_timeout = 1", "SHOW lock_timeout"),
    "a transaction timeout": ("SET transaction_timeout = 5", SLOW + "('transaction_timeout')"),
    "read only from now on": ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only"),
    "another isolation level": ("SET default_transaction_isolation = 'serializable'", "SHOW transaction_isolation"),
    "how triggers fire": ("SET session_replication_role = replica", "SHOW session_replication_role"),
    "a temporary table": ("CREATE TEMP TABLE secret AS SELECT 1", "SELECT to_regclass('pg_temp.secret')::text"),
    "a temporary table that hides another": ("CREATE TEMP TABLE pg_am (x int)", "SELECT count(*) > 0 FROM pg_am"),
    "a temporary view": ("CREATE TEMP VIEW secret AS SELECT 1", "SELECT to_regclass('pg_temp.secret')::text"),
    "a temporary function": (
        "CREATE FUNCTION pg_temp.secret() RETURNS int LANGUAGE sql RETURN 1",
        "SELECT to_regproc('pg_temp.secret')::text",
    ),
    "a session's advisory lock": ("SELECT pg_advisory_lock(42)", LOCKS),
    "a shared advisory lock": ("SELECT pg_advisory_lock_shared(42)", LOCKS),
    "a channel": ("LISTEN secret", "SELECT count(*) FROM pg_listening_channels()"),
    "a cursor": (
        "DECLARE secret CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'secret'",
    ),
    "a prepared statement": ("PREPARE secret AS SELECT 1", PREPARED),
    "a statement prepared by a block": ("DO $$ BEGIN EXECUTE 'PREPARE secret AS SELECT 1'; END $$", PREPARED),
    "a sequence's last value": ("SELECT nextval('numbers')", "SELECT last_value_known()"),
    "a transaction": ("BEGIN", "SELECT now() = statement_timestamp()"),
    "a transaction of another kind": (
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
        "SHOW transaction_isolation",
    ),
    "a transaction's prologue": ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SHOW transaction_isolation"),
    "a local setting": ("SET LOCAL work_mem = '77MB'", SETTING),
    "a plan mode": ("SET plan_cache_mode = force_generic_plan", "SHOW plan_cache_mode"),
}  # fmt: skip

SETUP = [
    "CREATE SEQUENCE numbers",
    "CREATE FUNCTION prepare_one() RETURNS void LANGUAGE plpgsql AS "
    "$$ BEGIN EXECUTE 'PREPARE secret_one AS SELECT 1'; END $$",
    "CREATE FUNCTION last_value_known() RETURNS bool LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM lastval(); RETURN true; EXCEPTION WHEN OTHERS THEN RETURN false; END $$",
]


@pytest.fixture
def program(start_program: Callable[..., Program]) -> Program:
    program = start_program(pool=ALONE)
    for text in SETUP:
        program.ask(text)
    return program


def test_nothing_that_a_statement_leaves_behind_is_there_for_the_next(program: Program) -> None:
    clean = {what: program.rows(question) for what, (_, question) in LEFT_BEHIND.items()}
    [[backend]] = program.rows("SELECT pg_backend_pid()")
    for what, (leaves, question) in LEFT_BEHIND.items():
        program.post({"query": leaves})
        assert program.rows(question) == clean[what], what
    assert program.value("SELECT pg_backend_pid()") == backend, "a scrub that closes the connection is none"


def test_nothing_that_a_batch_leaves_behind_is_there_for_the_next(program: Program) -> None:
    clean = {what: program.rows(question) for what, (_, question) in LEFT_BEHIND.items()}
    for what, (leaves, question) in LEFT_BEHIND.items():
        program.post({"queries": [{"query": "SELECT 1"}, {"query": leaves}]})
        assert program.rows(question) == clean[what], what
        program.post({"queries": [{"query": "COMMIT"}, {"query": leaves}, {"query": "SELECT 1"}]})
        assert program.rows(question) == clean[what], f"{what}, after COMMIT"


def test_nothing_that_a_failed_batch_leaves_behind_is_there_for_the_next(program: Program) -> None:
    """A rollback undoes SET, but neither PREPARE nor an advisory lock."""
    clean = {what: program.rows(question) for what, (_, question) in LEFT_BEHIND.items()}
    for what, (leaves, question) in LEFT_BEHIND.items():
        assert program.post({"queries": [{"query": leaves}, {"query": "SELECT 1/0"}]}).status_code == 400
        assert program.rows(question) == clean[what], what


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "not plain"])
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TimeZone", "Asia/Kathmandu", "SELECT '2024-02-29 12:00'::timestamptz AT TIME ZONE 'UTC'"),
        ("DateStyle", "ISO, DMY", "SELECT '01/02/2024'::date - date '2024-01-01'"),
        ("standard_conforming_strings", "off", r"SELECT length('a\\b')"),
        ("timezone_abbreviations", "Australia", "SELECT '2024-02-29 12:00 EST'::timestamptz"),
        ("transform_null_equals", "on", "SELECT 1 WHERE NULL = NULL"),
        ("client_encoding", "LATIN1", "SELECT length('é')"),
    ],
)
def test_constants_are_read_by_the_settings_of_their_own_transaction(
    program: Program, name: str, value: str, text: str, is_plain: bool
) -> None:
    """Postgres reads them as it parses, and a text that is asked again is not parsed again."""
    setting = f"SELECT set_config('{name}', '{value}', true)" if is_plain else f"SET LOCAL {name} = '{value}'"
    if name == "DateStyle" and not is_plain:
        setting = "SET LOCAL DateStyle = ISO, DMY"
    queries = {"queries": [{"query": setting}, {"query": text}]}

    def among_its_settings() -> list[list[str | None]]:
        answer = program.post(queries, {"Neon-Array-Mode": "true"}).json()
        rows: list[list[str | None]] = answer["results"][1]["rows"]
        return rows

    set_first = among_its_settings()
    alone = program.rows(text)
    assert set_first != alone
    for _ in range(3):
        assert among_its_settings() == set_first
        assert program.rows(text) == alone


async def test_constants_are_read_by_what_the_server_has_reloaded() -> None:
    alone, batch = "SELECT '01/02/2024'::date - date '2024-01-01'", "SELECT '03/02/2024'::date - date '2024-01-01'"
    with running_cluster() as cluster, gateway_in_thread(cluster.maintenance.url, {"pool": ALONE}) as gateway:
        database = await cluster.create_database()
        with program_of(gateway, database) as program:

            def read() -> list[object]:
                both = {"queries": [{"query": batch}, {"query": batch}]}
                answers = program.post(both, {"Neon-Array-Mode": "true"}).json()["results"]
                return [program.rows(alone), *(answer["rows"] for answer in answers)]

            for _ in range(3):
                assert read() == [[[1]], [[61]], [[61]]]
            database.psql("ALTER SYSTEM SET DateStyle = 'ISO, DMY'")
            database.psql("SELECT pg_reload_conf()")
            deadline = time.monotonic() + 20
            while read() != [[[31]], [[33]], [[33]]]:  # each server process takes it up in its own time
                assert time.monotonic() < deadline


def test_setting_that_is_taken_back_costs_no_connection(program: Program) -> None:
    [[pid]] = program.rows("SELECT pg_backend_pid()")
    for text in (
        "SET DateStyle = 'German'",
        "SET DateStyle = 'SQL'; SELECT 1",
        "SELECT set_config('TimeZone', 'UTC', false)",
    ):
        program.post({"query": text})
    program.post({"queries": [{"query": "SET TimeZone = 'Asia/Kathmandu'"}, {"query": "SELECT 1/0"}]})
    program.post({"queries": [{"query": "SET TimeZone = 'Asia/Kathmandu'"}, {"query": "PREPARE one AS SELECT 1"}]})
    assert program.rows("SELECT pg_backend_pid()") == [[pid]]


@pytest.mark.parametrize(
    "text", ["SELECT 'now'::timestamptz", "SELECT $$now$$::timestamptz", "SELECT '[now,)'::tstzrange"]
)
def test_now_is_another_moment_each_time(program: Program, text: str) -> None:
    assert len({str(program.rows(text)) for _ in range(4)}) == 4
    batch = {"queries": [{"query": text}, {"query": "SELECT 1"}]}
    assert len({str(program.post(batch).json()["results"][0]["rows"]) for _ in range(4)}) == 4


def test_name_of_a_function_that_was_made_anew_is_that_of_the_new_one(program: Program) -> None:
    text = "SELECT oid = 'made_anew'::regproc FROM pg_proc WHERE proname = 'made_anew'"
    for _ in range(2):
        program.ask("CREATE FUNCTION made_anew() RETURNS int LANGUAGE sql RETURN 1")
        assert program.value(text) is True
        program.ask("DROP FUNCTION made_anew()")


def test_begin_answers_and_leaves_no_transaction(program: Program, database: Database) -> None:
    program.ask("CREATE TABLE seen (i int)")
    assert program.ask("BEGIN")["command"] == "BEGIN"
    program.ask("INSERT INTO seen VALUES (1)")
    assert database.psql("SELECT count(*) FROM seen") == "1\n", "it was committed by itself"
    assert program.ask("COMMIT")["command"] == "COMMIT"
    assert program.ask("ROLLBACK")["command"] == "ROLLBACK"


def test_chained_commit_in_a_batch_leaves_no_transaction(program: Program, database: Database) -> None:
    program.ask("CREATE TABLE chained (i int)")
    body = {"queries": [{"query": "INSERT INTO chained VALUES (1)"}, {"query": "COMMIT AND CHAIN"}]}
    assert program.post(body).status_code == 200
    program.ask("INSERT INTO chained VALUES (2)")
    assert database.psql("SELECT count(*) FROM chained") == "2\n"


def test_advisory_lock_is_free_for_others_as_soon_as_the_answer_is_read(program: Program, database: Database) -> None:
    program.ask("SELECT pg_advisory_lock(7)")
    program.ask("SELECT 1")  # the scrub is done at the latest when the next request is
    assert database.psql("SELECT pg_try_advisory_lock(7)") == "t\n"


async def test_lock_of_an_open_transaction_is_released_without_another_request(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool=ALONE)
    program.ask("SELECT pg_advisory_lock(8)")
    program.ask("BEGIN")
    observer = await database.connect()
    try:
        # Waits for as long as the gateway holds on to it; the connection's own timeout ends a failure.
        await observer.execute("SELECT pg_advisory_lock(8)", timeout=10)
        [holder] = await observer.fetch("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 8")
        assert holder["pid"] == observer.get_server_pid()
    finally:
        await observer.close()


def test_back_to_back_requests_use_one_backend(start_program: Callable[..., Program]) -> None:
    program = start_program()
    backends = {program.value("SELECT pg_backend_pid()") for _ in range(30)}
    assert len(backends) == 1


def test_backend_is_kept_after_errors_and_after_transactions_left_open(start_program: Callable[..., Program]) -> None:
    program = start_program(pool=ALONE)
    backend = program.value("SELECT pg_backend_pid()")
    for text in ("SELECT 1/0", "selct", "SELECT $1", "TABLE nowhere", "BEGIN", "SAVEPOINT a", "DISCARD ALL", "COMMIT"):
        program.post({"query": text})
        assert program.value("SELECT pg_backend_pid()") == backend, text
        program.post({"queries": [{"query": "SELECT 1"}, {"query": text}]})
        assert program.value("SELECT pg_backend_pid()") == backend, text


def test_statement_prepared_by_a_function_is_gone(program: Program) -> None:
    program.ask("SELECT prepare_one()")
    assert program.value(PREPARED) == "0"


def test_named_statements_are_bounded(start_program: Callable[..., Program]) -> None:
    program = start_program(pool=ALONE | {"statement_cache_size": 5})
    question = "SELECT count(*) FROM pg_prepared_statements"
    before = [int(program.value(question)) for _ in range(2)][-1]
    for number in range(60):
        program.ask(f"SELECT {number}")
    assert int(program.value(question)) - before <= 5


def test_statement_seen_before_is_not_parsed_again(start_program: Callable[..., Program]) -> None:
    program = start_program(pool=ALONE)
    text = "SELECT name, generic_plans + custom_plans FROM pg_prepared_statements WHERE statement = $1"
    [[name, first]] = program.rows(text, text)
    [[again, second]] = program.rows(text, text)
    assert (again, int(second)) == (name, int(first) + 1)


def test_no_statement_is_named_when_the_cache_is_off(start_program: Callable[..., Program]) -> None:
    program = start_program(pool=ALONE | {"statement_cache_size": 0})
    text = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%prepared_statements%'"
    assert [program.value(text) for _ in range(3)] == ["0"] * 3
