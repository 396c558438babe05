"""Which texts mean something else when they are parsed at another time, or behind another text."""

import pytest

from sqlhttp_gateway.wire.meaning import changes_meaning, is_of_its_moment


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'now'::timestamptz",
        "SELECT date 'Yesterday'",
        "SELECT E'today'::date",
        "SELECT ' tomorrow 12:00'::timestamp",
        "SELECT $$today$$::date",
        "SELECT $a$now$a$::time",
        "SELECT '[today,tomorrow)'::daterange",
        "SELECT '[2026-01-01,now)'::tsrange",
        "SELECT '{-infinity, NULL, today}'::date[]",
        "SELECT '05:00 PM today'::timestamp, 'mon now'::timestamp, 'today12:00'::timestamp",
        "SELECT '(now)'::timestamp",
        "SELECT 'now()'::timestamptz",
        "SELECT $$now( ) $$::timestamptz",
        "SELECT '[now(),)'::tstzrange, '[2026-01-01,now())'::tsrange",
        "SELECT 'f'::regproc",
        "SELECT has_function_privilege(CAST('f(int)' AS pg_catalog.RegProcedure), 'EXECUTE')",
        "SELECT pg_has_role('ann'::regrole, 'USAGE')",
    ],
)
def test_constant_that_stands_for_what_is_so_now_is_of_its_moment(text: str) -> None:
    assert is_of_its_moment(text)


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT now()", "SELECT 'nowhere'", "SELECT today FROM t", "SELECT 't'::regclass", "SELECT regtypes"),
        *("SELECT 'a', now()", "SELECT '', (now( ))", "SELECT 'a', now(), 'b'", "SELECT 'what now'", "SELECT 'known'"),
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not is_of_its_moment(text)


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL TimeZone = 'Asia/Tokyo'",
        "SET TIME ZONE 'Asia/Tokyo'",
        "set datestyle to dmy",
        "SET NAMES 'LATIN1'",
        "SET XML OPTION DOCUMENT",
        "SELECT set_config('transform_null_equals', 'on', true)",
        "SELECT 1, set_config('standard_conforming_strings', 'off', false)",
        "SELECT set_config($1, $2, true)",
        "DO $$ BEGIN SET LOCAL timezone = 'UTC'; END $$",
        "CALL anything()",
        "-- a carriage return ends it, too\rSET LOCAL TimeZone = 'UTC'",
        "UPDATE pg_settings SET setting = 'UTC' WHERE name = 'TimeZone'",
        "CREATE TEMP TABLE users AS SELECT 1",
        "/* hides another */ create view users as select 1",
        "ALTER TABLE made RENAME TO users",
        "SELECT 1 AS x INTO TEMP users",
        "WITH a AS (SELECT 1) SELECT *\n  INTO users FROM a",
        "SELECT U&\"set\\005fconfig\"('TimeZone', 'UTC', true)",
    ],
)
def test_what_decides_how_texts_are_read_changes_what_comes_behind(text: str) -> None:
    assert changes_meaning(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "INSERT  INTO readings (temp) VALUES ($1)",
        "MERGE INTO t USING s ON t.x = s.x WHEN MATCHED THEN DELETE",
        "UPDATE t SET timezone = 1",
        "SET LOCAL ROLE ann",
        "SET LOCAL search_path = a, b",
        "SET LOCAL statement_timeout = 100",
        "SELECT pg_catalog.set_config('request.jwt.claims', $1, true)",
        "SELECT set_config('app.tenant', $1, true), set_config('role', $2, true)",
    ],
)
def test_others_do_not_for_what_they_name_is_looked_up_again(text: str) -> None:
    assert not changes_meaning(text)
