"""Neon's rules for values: JSON into parameters, and Postgres's text into JSON when raw output is off.

Where Neon's own server stumbles and the gateway does not, the test says so.
"""

import json
from typing import Any

import pytest

from tests.support.program import RAW, Program


def body_of(program: Program, body: str, headers: dict[str, str | None] | None = None) -> str:
    """The literal answer to a literal body."""
    response = program.post(body.encode(), headers)
    assert response.status_code == 200, response.text
    return response.text


def raw_value(program: Program, param: str, cast: str = "text") -> str | None:
    """What Postgres got for one parameter, which is given as JSON text."""
    answer = json.loads(body_of(program, f'{{"query":"SELECT $1::{cast}","params":[{param}]}}', {**RAW}))
    value: str | None = answer["rows"][0][0]
    return value


# ── JSON becomes a parameter ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("null", None),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-7", "-7"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.5", "1.5"),
        ("1.0", "1.0"),
        ("0.1", "0.1"),
        ('""', ""),
        ('"text"', "text"),
        ('"NULL"', "NULL"),
        ('"1"', "1"),
        (r'"quo\"te \\ back \n \t \u0001 \u00e9 \ud83d\udc18"', 'quo"te \\ back \n \t \x01 é 🐘'),
        ("{}", "{}"),
        ('{"a": 1, "b": [true, null, "x"]}', '{"a":1,"b":[true,null,"x"]}'),
        ("[]", "{}"),
        ('[true,false,null,"NULL",42,"foo","bar\\"-\\\\"]', r'{true,false,NULL,"NULL",42,"foo","bar\"-\\"}'),
        (
            '[[true,false],[null,42],["foo","bar\\"-\\\\"]]',
            r'{{true,false},{NULL,42},{"foo","bar\"-\\"}}',
        ),
        ('[{"foo":1},{"bar":2}]', r'{"{\"foo\":1}","{\"bar\":2}"}'),
        ('["", " ", "a,b", "{}", "null"]', '{""," ","a,b","{}","null"}'),
        ("[1.5, -2]", "{1.5,-2}"),
    ],
)  # fmt: skip
def test_json_becomes_the_text_of_a_parameter(program: Program, given: str, text: str | None) -> None:
    assert raw_value(program, given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("[123456789012345678901234567890]", "{123456789012345678901234567890}"),
        ('{"z": 1, "a": 2}', '{"z":1,"a":2}'),
        ('{"n": 123456789012345678901234567890}', '{"n":123456789012345678901234567890}'),
    ],
)
def test_nothing_of_a_number_or_an_order_is_lost(program: Program, given: str, text: str) -> None:
    """Neon makes a 64-bit float of what fits no integer, and sorts the members of an object."""
    assert raw_value(program, given) == text


@pytest.mark.parametrize("control", ["\n", "\t", "\b", "\f", "\r", "\x01", "\x1f"])
def test_control_characters_survive_in_an_array(program: Program, control: str) -> None:
    """Neon escapes them as JSON does, and Postgres then reads a letter."""
    assert program.value("SELECT ($1::text[])[2]", ["a", f"x{control}y"]) == f"x{control}y"


@pytest.mark.parametrize(
    ("cast", "given", "value"),
    [
        ("int", 42, 42),
        ("int", "42", 42),
        ("bool", True, True),
        ("bool", "yes", True),
        ("numeric", 1.10, "1.1"),
        ("jsonb", {"b": [1, None], "a": "é"}, {"a": "é", "b": [1, None]}),
        ("jsonb", "[1,2]", [1, 2]),
        ("jsonb", "null", None),
        ("int[]", [1, None, 3], [1, None, 3]),
        ("int[]", [[1, 2], [3, None]], [[1, 2], [3, None]]),
        ("text[]", ["a,b", None, "NULL", "", '"', "\\", " x "], ["a,b", None, "NULL", "", '"', "\\", " x "]),
        ("jsonb[]", [{"a": 1}, None], [{"a": 1}, None]),
        ("bytea", "\\xdead", "\\xdead"),
        ("date", "2024-02-29", "2024-02-29"),
        ("uuid", "D9428888-122B-11E1-B85C-61CD3CBB3210", "d9428888-122b-11e1-b85c-61cd3cbb3210"),
    ],
)
def test_postgres_reads_a_parameter_by_the_sql_around_it(
    program: Program, cast: str, given: object, value: object
) -> None:
    assert program.value(f"SELECT $1::{cast}", given) == value


def test_parameter_without_a_type_is_text(program: Program) -> None:
    answer = program.ask("SELECT $1 AS a, $2 * 2 AS b", 42, 21)
    assert answer["rows"] == [{"a": "42", "b": 42}]
    assert [field["dataTypeID"] for field in answer["fields"]] == [25, 23]


@pytest.mark.parametrize(
    ("cast", "given", "code"),
    [
        ("int", 1.0, "22P02"),
        ("int", "x", "22P02"),
        ("int", 2147483648, "22003"),
        ("json", [1, 2], "22P02"),
        ("jsonb", [{"a": 1}], "22P02"),
        ("date", "2023-02-29", "22008"),
        ("int[]", [[1], [2, 3]], "22P02"),
        ("bool", 2, "22P02"),
    ],
)
def test_parameter_that_does_not_fit_is_postgres_own_error(
    program: Program, cast: str, given: object, code: str
) -> None:
    assert program.error(f"SELECT $1::{cast}", given)["code"] == code


def test_sixty_five_thousand_parameters(program: Program) -> None:
    count = 65_535
    marks = ",".join(f"(${i}::int)" for i in range(1, count + 1))
    assert program.value(f"SELECT sum(v) FROM (VALUES {marks}) AS t(v)", *range(count)) == str(sum(range(count)))


def test_one_parameter_more_is_refused(program: Program) -> None:
    assert "65535" in program.error("SELECT 1", *[None] * 65_536)["message"]


def test_deep_arrays_are_refused_in_words(program: Program) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert program.error("SELECT $1::int[]", deep)["code"] == "54000"
    response = program.post(b'{"query":"SELECT $1::int[]","params":[' + b"[" * 900 + b"]" * 900 + b"]}")
    assert response.status_code == 400
    response = program.post(b'{"query":"SELECT $1::int[]","params":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}")
    assert response.status_code == 400


# ── Postgres's text becomes JSON ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("true", "true"),
        ("false", "false"),
        ("NULL::bool", "null"),
        ("32767::int2", "32767"),
        ("'-2147483648'::int4", "-2147483648"),
        ("9223372036854775807::int8", '"9223372036854775807"'),
        ("1::int8", '"1"'),
        ("4294967295::oid", '"4294967295"'),
        ("'7'::xid", '"7"'),
        ("1.10::numeric", '"1.10"'),
        ("'NaN'::numeric", '"NaN"'),
        ("'12.34'::money", '"$12.34"'),
        ("1.5::float4", "1.5"),
        ("0.1::float8 + 0.2::float8", "0.30000000000000004"),
        ("'NaN'::float8", '"NaN"'),
        ("'Infinity'::float4", '"Infinity"'),
        ("'-Infinity'::float8", '"-Infinity"'),
        ("NULL::float8", "null"),
        ("""'{"b" : 1, "a":[1,  null]}'::json""", '{"b" : 1, "a":[1,  null]}'),
        ("""'{"b" : 1, "a":[1,  null]}'::jsonb""", '{"a": [1, null], "b": 1}'),
        ("'null'::json", "null"),
        ("'\"x\"'::jsonb", '"x"'),
        ("'1e400'::json", "1e400"),
        ("'123456789012345678901234567890.5'::jsonb", "123456789012345678901234567890.5"),
        ("'text'", '"text"'),
        ("''", '""'),
        ("'ab'::char(4)", '"ab  "'),
        ("'x'::\"char\"", '"x"'),
        ("'\\xdead'::bytea", '"\\\\xdead"'),
        ("E'a\\nb\\t\"c\" \\\\ /'", '"a\\nb\\t\\"c\\" \\\\ /"'),
        ("'é☃🐘'", '"é☃🐘"'),
        ("'d9428888-122b-11e1-b85c-61cd3cbb3210'::uuid", '"d9428888-122b-11e1-b85c-61cd3cbb3210"'),
        ("'2024-02-29'::date", '"2024-02-29"'),
        ("'infinity'::timestamp", '"infinity"'),
        ("'1 day'::interval", '"1 day"'),
        ("'192.168.0.1'::inet", '"192.168.0.1"'),
        ("'(1,2)'::point", '"(1,2)"'),
        ("'[1,4)'::int4range", '"[1,4)"'),
        ("'{[1,4)}'::int4multirange", '"{[1,4)}"'),
        ("ROW(1, 'a')", '"(1,a)"'),
        ("'int4'::regtype", '"integer"'),
        ("B'101'", '"101"'),
        ("pg_sleep(0)", '""'),
    ],
)
def test_value_is_written_as(program: Program, expression: str, written: str) -> None:
    body = json.dumps({"query": f"SELECT {expression} AS v", "arrayMode": True})
    assert f'"rows":[[{written}]],' in body_of(program, body)


def test_whole_float_is_a_number(program: Program) -> None:
    """Neon writes 1.0, Postgres 1; a program cannot tell them apart."""
    assert program.rows("SELECT 1::float8, '-0'::float8, 1e15::float8, 1e300::float8") == [[1, 0, 1e15, 1e300]]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'{1,2,3}'::int[]", [1, 2, 3]),
        ("'{1,2,3}'::int8[]", ["1", "2", "3"]),
        ("'{t,NULL,f}'::bool[]", [True, None, False]),
        ("'{{t,NULL},{NULL,f}}'::bool[]", [[True, None], [None, False]]),
        ("'{NaN,Infinity,-Infinity,1.5}'::float4[]", ["NaN", "Infinity", "-Infinity", 1.5]),
        ("'{1.10,NULL}'::numeric[]", ["1.10", None]),
        (r"""'{"aa\"\\\,a",cha,"bbbb"}'::text[]""", ['aa"\\,a', "cha", "bbbb"]),
        ("""'{{{{"foo",NULL,"bop",bup}}}}'::text[]""", [[[["foo", None, "bop", "bup"]]]]),
        ("ARRAY['NULL', NULL, 'null', '', ' ']", ["NULL", None, "null", "", " "]),
        ("'[1:1][-2:-1][3:5]={{{1,2,3},{4,5,6}}}'::int[]", [[[1, 2, 3], [4, 5, 6]]]),
        ("ARRAY[E'new\\nline', 'é☃🐘', '{', '}', ',']", ["new\nline", "é☃🐘", "{", "}", ","]),
        ("""ARRAY['{"foo": 1}', '{"bar": 2}', '[1, "x,}"]']::jsonb[]""", [{"foo": 1}, {"bar": 2}, [1, "x,}"]]),
        ("""ARRAY['null', NULL]::json[]""", [None, None]),
        ("'{2024-02-29,infinity}'::date[]", ["2024-02-29", "infinity"]),
        ("ARRAY['\\xdead'::bytea]", ["\\xdead"]),
        ("ARRAY[ROW(1, 'a,b')]", ['(1,"a,b")']),
        ("ARRAY['[1,2)'::int4range, 'empty']", ["[1,2)", "empty"]),
        ("ARRAY['{[1,2)}'::int4multirange]", ["{[1,2)}"]),
        ("ARRAY['(1,2)'::point]", ["(1,2)"]),
        ("'{pg_class}'::regclass[]", ["pg_class"]),
        # Neon makes [""] and an error 500 of these, splits a box at its commas, and fails at an int2vector.
        ("'{}'::text[]", []),
        ("'{}'::int[]", []),
        ("'{}'::bool[]", []),
        ("'{((1,1),(0,0));((3,3),(2,2))}'::box[]", ["(1,1),(0,0)", "(3,3),(2,2)"]),
        ("'1 2 3'::int2vector", "1 2 3"),
        ("'1 2'::oidvector", "1 2"),
    ],
)
def test_array_becomes_a_json_array(program: Program, expression: str, value: object) -> None:
    assert program.value(f"SELECT {expression}") == value


def test_types_of_ones_own_are_known_from_the_catalog(program: Program) -> None:
    program.ask("CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy')")
    program.ask("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    program.ask("CREATE DOMAIN ladder AS int[]")
    program.ask("CREATE TYPE pair AS (a int, b text)")
    program.ask("CREATE TYPE span AS RANGE (subtype = float8)")
    for _ in range(2):  # looked up at first, known afterwards
        assert program.rows(
            "SELECT 'sad'::mood, '{sad,NULL,\"so so\"}'::mood[], '{{sad},{happy}}'::mood[], 7::positive, "
            "'{7,8}'::positive[], '{1,2}'::ladder, ROW(1, 'x')::pair, ARRAY[ROW(1, 'x y')::pair, NULL], "
            "'[1.5,2)'::span, '{\"[1.5,2)\"}'::span[], '{}'::mood[]"
        ) == [
            ["sad", ["sad", None, "so so"], [["sad"], ["happy"]], 7, [7, 8], [1, 2], "(1,x)", ['(1,"x y")', None],
             "[1.5,2)", ["[1.5,2)"], []],
        ]  # fmt: skip


def test_types_are_looked_up_for_a_batch_too(program: Program) -> None:
    program.ask("CREATE TYPE size AS ENUM ('s', 'm')")
    body = {"queries": [{"query": "SELECT '{s,m}'::size[] AS a"}, {"query": "SELECT 1 AS b"}]}
    answer = program.post(body).json()
    assert [result["rows"] for result in answer["results"]] == [[{"a": ["s", "m"]}], [{"b": 1}]]


def test_type_made_in_the_same_batch_is_known(program: Program) -> None:
    body = {"queries": [{"query": "CREATE TYPE hue AS ENUM ('red')"}, {"query": "SELECT '{red}'::hue[] AS a"}]}
    assert program.post(body).json()["results"][1]["rows"] == [{"a": ["red"]}]


def test_type_that_is_gone_again_does_not_fail_the_answer(program: Program) -> None:
    body = {
        "queries": [
            {"query": "CREATE TYPE brief AS ENUM ('x')"},
            {"query": "SELECT '{x}'::brief[] AS a"},
            {"query": "DROP TYPE brief"},
        ]
    }
    response = program.post(body)
    assert response.status_code == 200, response.text
    assert response.json()["results"][1]["rows"][0]["a"] in (["x"], "{x}")


def test_statement_that_only_a_committed_request_may_look_up(program: Program) -> None:
    """The look-up in the catalog must not run in, or end, anything of the caller's."""
    program.ask("CREATE TYPE kind AS ENUM ('k')")
    program.ask("CREATE TABLE kinds (k kind[])")
    rows = program.ask("INSERT INTO kinds VALUES ('{k}') RETURNING k")["rows"]
    assert rows == [{"k": ["k"]}]
    assert program.value("SELECT count(*) FROM kinds") == "1"


def test_nan_and_infinity_never_stand_bare_in_json(program: Program) -> None:
    text = body_of(program, "{\"query\":\"SELECT 'NaN'::float8, 'Infinity'::float4, '{NaN}'::float8[]\"}")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)


def test_json_is_not_touched_even_where_python_would(program: Program) -> None:
    text = '{"dup":1,"dup":2,"big":123456789012345678901234567890,"e":1E+2,"u":"\\u00e9","s":"\\/"}'
    answer = body_of(program, json.dumps({"query": "SELECT $1::json AS v", "params": [text], "arrayMode": True}))
    assert f'"rows":[[{text}]]' in answer


def test_rows_keep_typed_values_apart_by_column(program: Program) -> None:
    rows = program.rows("SELECT i, i::int8, i % 2 = 0, NULLIF(i, 2), ARRAY[i] FROM generate_series(1, 300) i")
    assert rows == [[i, str(i), i % 2 == 0, None if i == 2 else i, [i]] for i in range(1, 301)]
