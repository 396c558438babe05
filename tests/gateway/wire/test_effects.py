"""Which texts leave something behind in a session, and which only look like it."""

from collections.abc import Iterator

import pytest

from sqlhttp_gateway.wire import effects
from sqlhttp_gateway.wire.effects import ALL, NO_EFFECTS, Ask, Effects, Pin, effects_of
from sqlhttp_gateway.wire.lexer import Token, statements_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "SELECT 1",
        "UPDATE t SET a = 1",
        "INSERT INTO t VALUES ('; SET x = 1')",
        "SELECT $$; SET x = 1; CREATE TEMP TABLE t()$$",
        "SELECT $a$ $$; LISTEN x $$ $a$",
        "-- \nSELECT 1 -- SET x = 1",
        "/* /* SET */ SET x = 1 */ SELECT 1",
        'SELECT "set" FROM "t;SET x = 1"',
        "SELECT E'\\'; SET x = 1'",
        "BEGIN; SET LOCAL a.x = 1; SET LOCAL work_mem = '1MB'; COMMIT",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET CONSTRAINTS ALL DEFERRED",
        "PREPARE TRANSACTION 'x'",
        "SELECT temperature, threshold FROM t",
        "SELECT temp, t.temporary AS temp FROM t WHERE temp > 4",
        "INSERT INTO weather (temp, at) VALUES (4, 'today')",
        "CREATE TABLE weather (temp int)",
        "SELECT set_config('app.user', $1, true)",
        "SELECT set_config('app.user', coalesce($1, 'x'), TRUE), 1",
        "SELECT pg_advisory_xact_lock(1)",
        "DECLARE c CURSOR WITHOUT HO FOR SELECT 1",
        "CREATE FUNCTION f() RETURNS void SET search_path = a AS $$ BEGIN SET x = 1; END $$ LANGUAGE plpgsql",
        "ALTER ROLE a SET work_mem = '1MB'",
        "INSERT INTO t VALUES (1); SELECT lastval()",
        "SELECT 'unterminated; SET x = 1",
        "SELECT $$unterminated; SET x = 1",
        "/* unterminated; SET x = 1",
    ],
)
def test_text_that_leaves_nothing_behind(text: str) -> None:
    assert effects_of(text.encode()) is NO_EFFECTS


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SET work_mem = '1MB'", ["work_mem"]),
        ("set SESSION Work_Mem to 1", ["work_mem"]),
        ("-- a carriage return ends it, too\rSET work_mem = 1", ["work_mem"]),
        ("SET app.user = 'x'", ["app.user"]),
        ('SET "App"."User" TO 1', ["app.user"]),
        ("SET TIME ZONE 'UTC'", ["timezone"]),
        ("SET SESSION TIME ZONE INTERVAL '2' HOUR TO MINUTE", ["timezone"]),
        ("SET search_path = local", ["search_path"]),
        ('SET application_name = "default"', ["application_name"]),
        ("SET NAMES 'latin1'", ["client_encoding"]),
        ("SET SCHEMA 's'", ["search_path"]),
        ("SET XML OPTION DOCUMENT", ["xmloption"]),
        ("SET ROLE ann", ["role"]),
        ("SET SESSION ROLE ann", ["role"]),
        ("SET SESSION AUTHORIZATION ann", ["session_authorization"]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"],
        ),
        ("-- why\nSET a = 1", ["a"]),
        ("/* why */SET a = 1", ["a"]),
        ("SELECT 1;SET a = 1;;SET b = 2", ["a", "b"]),
        ("SELECT set_config('App.User', 'x', false)", ["app.user"]),
        ("SELECT pg_catalog.set_config('search_path', '', false)", ["search_path"]),
        ("SELECT set_config('a'::text, f(1, true), $1)", ["a"]),
        ("SELECT 1 FROM (SELECT set_config('a', 'x', false), set_config('b', 'x', true)) s", ["a"]),
        ("RESET a; SET a = 1", ["a"]),
        ("DO $$ BEGIN SET work_mem = '1MB'; SET LOCAL geqo = off; END $$", ["work_mem"]),
        ("DO 'BEGIN PERFORM set_config(''app.x'', ''1'', false); END'", ["app.x"]),
    ],
)
def test_parameters_that_a_text_may_change_for_the_session(text: str, names: list[str]) -> None:
    effects = effects_of(text.encode())
    assert list(effects.sets) == names
    assert effects.pins == ()


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("SELECT set_config($1, $2, false)", (Pin.PARAMETER,)),
        ("SELECT set_config(name, value, false) FROM t", (Pin.PARAMETER,)),
        ("SELECT set_config('a' || $1, 'x', false)", (Pin.PARAMETER,)),
        ("SET SEED TO 0.5", (Pin.PARAMETER,)),
        ("SELECT setseed(0.5)", (Pin.PARAMETER,)),
        ("SET = 1", (Pin.PARAMETER,)),
        ("LOAD 'auto_explain'", (Pin.LOAD,)),
        ("SELECT dblink_connect('c', '')", (Pin.CONNECTION,)),
    ],
)
def test_text_whose_effect_cannot_be_recorded_pins(text: str, pins: tuple[Pin, ...]) -> None:
    assert effects_of(text.encode()).pins == pins


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("RESET work_mem", ["work_mem"]),
        ("SET work_mem = 1; RESET work_mem", ["work_mem"]),
        ("RESET TIME ZONE", ["timezone"]),
        ("SET work_mem TO DEFAULT", ["work_mem"]),
        ("SET SESSION work_mem = DEFAULT", ["work_mem"]),
        ("SET SESSION TIME ZONE LOCAL", ["timezone"]),
        ("RESET SESSION AUTHORIZATION", ["session_authorization"]),
        ("RESET ROLE", ["role"]),
        ("SET a = 1; RESET ALL", ["all"]),
        ("SELECT pg_catalog.now(); CLOSE ALL; RESET ALL;", ["all"]),
    ],
)
def test_parameters_taken_back(text: str, names: list[str]) -> None:
    effects = effects_of(text.encode())
    assert (effects.sets, list(effects.resets)) == ((), names)


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("CREATE TEMP TABLE t (a int)", Ask.TEMPORARY),
        ("create local temporary view v as select 1", Ask.TEMPORARY),
        ("SELECT 1 AS a INTO TEMP t", Ask.TEMPORARY),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", Ask.TEMPORARY),
        ("CREATE OR REPLACE /* its own */ GLOBAL\nTEMPORARY VIEW v AS SELECT 1", Ask.TEMPORARY),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", Ask.TEMPORARY),
        ("CREATE FUNCTION pg_temp.f() RETURNS int RETURN 1", Ask.TEMPORARY),
        ('CREATE TABLE "pg_temp".t (a int)', Ask.TEMPORARY),
        ("SELECT pg_advisory_lock(1)", Ask.ADVISORY_LOCK),
        ("SELECT pg_try_advisory_lock_shared(1, 2)", Ask.ADVISORY_LOCK),
        ("SELECT pg_advisory_unlock_all()", Ask.RELEASE),
        ("DROP TABLE t", Ask.RELEASE),
        ("CLOSE c", Ask.RELEASE),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Ask.CURSOR),
        ("PREPARE p AS SELECT 1", Ask.PREPARED),
        ("DEALLOCATE p", Ask.RELEASE),
        ("DISCARD SEQUENCES", Ask.RELEASE),
        ("CALL p()", Ask.EVERYTHING),
        ("DO $$ BEGIN END $$", Ask.EVERYTHING),
    ],
)
def test_text_after_which_the_server_is_asked(text: str, ask: Ask) -> None:
    assert effects_of(text.encode()).ask == ask


def test_channels_are_names_folded_or_quoted() -> None:
    effects = effects_of(b'LISTEN Jobs; listen "Jobs ""x"""; UNLISTEN old; UNLISTEN *')
    assert effects == Effects(listens=(b"jobs", b'Jobs "x"'), unlistens=(b"old", ALL))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("DEALLOCATE Plan", (b"plan",)),
        ('DEALLOCATE PREPARE "_pg3_0"', (b"_pg3_0",)),
        ("DEALLOCATE ALL", (ALL,)),
        ("DEALLOCATE PREPARE ALL", (ALL,)),
        ("DEALLOCATE prepare", (b"prepare",)),
    ],
)
def test_prepared_statements_that_are_dropped_by_name(text: str, names: tuple[bytes, ...]) -> None:
    assert effects_of(text.encode()).deallocates == names


def test_execute_names_the_statement_it_runs() -> None:
    assert effects_of(b'EXECUTE "Plan"(1, 2)').executes == (b"Plan",)


@pytest.mark.parametrize("text", ["EXPLAIN (ANALYZE, COSTS off) EXECUTE p(1)", "CREATE TEMP TABLE t AS EXECUTE p (1)"])
def test_execute_within_another_statement_names_it_too(text: str) -> None:
    assert effects_of(text.encode()).executes == (b"p",)


def test_execute_of_a_function_names_no_statement() -> None:
    assert effects_of(b"CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()") is NO_EFFECTS


def test_discard_all_takes_everything_back() -> None:
    assert effects_of(b"DISCARD ALL") == Effects(
        resets=("all", "role", "session_authorization"), unlistens=(ALL,), deallocates=(ALL,), ask=Ask.RELEASE
    )


@pytest.mark.parametrize("text", ["SELECT lastval()", "SELECT currval('s')"])
def test_statement_that_speaks_of_an_earlier_one_is_marked(text: str) -> None:
    assert effects_of(text.encode()).reads_sequence


def test_long_texts_are_read_as_short_ones_are() -> None:
    padding = b"-" * 5000 + b"\n"
    assert effects_of(padding + b"SET a = 1").sets == ("a",)
    assert effects_of(padding + b"SELECT 1") is NO_EFFECTS


@pytest.mark.parametrize(
    ("text", "name"), [("SET LOCAL DateStyle = German", "datestyle"), ("SELECT set_config($1, $2, 'on')", "")]
)
def test_text_that_changes_the_meaning_of_others_within_its_transaction_is_marked(text: str, name: str) -> None:
    assert effects_of(text.encode()) == Effects(local=(name,))


@pytest.mark.parametrize("text", ["CALL p()", "DO $$ BEGIN SET LOCAL timezone = 'UTC'; END $$"])
def test_code_may_change_any_parameter_for_the_transaction(text: str) -> None:
    assert effects_of(text.encode()).local == ("",)


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO temperatures VALUES (1)",
        b"INSERT INTO rooms (temp, threshold) VALUES (1, 2)",
        b"UPDATE t SET temp = 1 WHERE s = 'executed by the household'",
    ],
)
def test_words_that_only_look_like_it_cost_no_look_at_every_token(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: bytes) -> None:
        raise AssertionError("a megabyte of rows takes a second, in which nobody else is served")

    monkeypatch.setattr(effects, "statements_of", read)
    assert effects_of(text + b"," * 5000) is NO_EFFECTS


def test_of_a_dump_no_more_is_read_than_the_statements_that_may_mean_something(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = b"SET a.b = 1;" + b"INSERT INTO t VALUES (1, 'x');" * 1000 + b"SELECT lastval(); SET c.d = 2"
    read: list[bytes] = []

    def keep(text: bytes) -> Iterator[list[Token]]:
        read.append(text)
        return statements_of(text)

    monkeypatch.setattr(effects, "statements_of", keep)
    found = effects_of(dump)
    assert found.sets == ("a.b", "c.d")
    assert not found.reads_sequence, "it is not alone"
    assert len(read) <= 3
