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
        *("SELECT 'a', now()", "SELECT '', (now( ))", "SELECT 'what now'", "SELECT 'known'"),
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
        "UPDATE pg_settings SET setting = 'UTC' WHERE name = 'TimeZone'",
        "SELECT U&\"set\\005fconfig\"('TimeZone', 'UTC', true)",
    ],
)
def test_parameter_by_which_constants_are_read_changes_what_comes_behind(text: str) -> None:
    assert changes_meaning(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
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
