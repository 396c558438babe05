"""Typed values: Neon's rules for scalars, array literals of any depth, and the literals Neon itself stumbles over."""

from typing import Any

import orjson
import pytest

from sqlhttp_gateway.model import ArrayType, Field
from sqlhttp_gateway.neon.values import BUILTIN_ARRAYS, array_from_text, converter, unknown_types
from tests.support.cluster import Database

BOOL, INT2, INT4, INT8, OID, FLOAT4, FLOAT8, NUMERIC, TEXT = 16, 21, 23, 20, 26, 700, 701, 1700, 25
JSON, JSONB = 114, 3802


def encoded(text: str, type_id: int, array_types: dict[int, ArrayType] | None = None) -> str:
    convert = converter(type_id, array_types or {})
    return orjson.dumps(text if convert is None else convert(text)).decode()


@pytest.mark.parametrize(
    ("type_id", "text", "json"),
    [
        (BOOL, "t", "true"),
        (BOOL, "f", "false"),
        (INT2, "-32768", "-32768"),
        (INT4, "2147483647", "2147483647"),
        (INT8, "9223372036854775807", '"9223372036854775807"'),
        (OID, "1", '"1"'),
        (28, "1", '"1"'),  # xid
        (NUMERIC, "1.10", '"1.10"'),
        (790, "$1.00", '"$1.00"'),  # money
        (FLOAT4, "1.5", "1.5"),
        (FLOAT8, "1", "1.0"),
        (FLOAT8, "-0", "-0.0"),
        (FLOAT8, "5e-324", "5e-324"),
        (FLOAT8, "NaN", '"NaN"'),
        (FLOAT8, "Infinity", '"Infinity"'),
        (FLOAT4, "-Infinity", '"-Infinity"'),
        (JSON, ' { "a" : 1.10, "a": 1e400 } ', ' { "a" : 1.10, "a": 1e400 } '),
        (JSONB, '{"a": "zoë"}', '{"a": "zoë"}'),
        (JSONB, "null", "null"),
        (TEXT, 'a"b', '"a\\"b"'),
        (17, "\\xdead", '"\\\\xdead"'),  # bytea
        (1184, "2020-01-01 00:00:00+00", '"2020-01-01 00:00:00+00"'),
        (2278, "", '""'),  # void
        (2249, "(1,a)", '"(1,a)"'),  # record
        (3904, "[1,4)", '"[1,4)"'),
        (22, "1 2", '"1 2"'),  # int2vector, which Neon takes for an array
        (30, "26 25", '"26 25"'),  # oidvector
        (600, "(1,2)", '"(1,2)"'),  # point, whose typelem makes it an array to the careless
        (99999, "{1,2}", '"{1,2}"'),  # who knows
    ],
)
def test_scalars(type_id: int, text: str, json: str) -> None:
    assert encoded(text, type_id) == json


@pytest.mark.parametrize("text", ["1e+300", "1e-07", "3.4028235e+38", "1.7976931348623157e+308"])
def test_a_float_with_an_exponent_is_the_same_number_in_json(text: str) -> None:
    assert float(encoded(text, FLOAT8)) == float(text)


@pytest.mark.parametrize(
    ("array_id", "text", "json"),
    [
        (1009, '{"aa\\"\\\\\\,a",cha,"bbbb"}', '["aa\\"\\\\,a","cha","bbbb"]'),
        (1009, '{{{{"foo",NULL,"bop",bup}}}}', '[[[["foo",null,"bop","bup"]]]]'),
        (1000, "{{t,NULL},{NULL,f}}", "[[true,null],[null,false]]"),
        (1016, "{1,2,3}", '["1","2","3"]'),
        (1007, "{1,NULL,-3}", "[1,null,-3]"),
        (1021, "{NaN,Infinity,-Infinity}", '["NaN","Infinity","-Infinity"]'),
        (1007, "[1:1][-2:-1][3:5]={{{1,2,3},{4,5,6}}}", "[[[1,2,3],[4,5,6]]]"),
        (1007, "[0:1]={1,2}", "[1,2]"),
        (3807, '{"{\\"foo\\": 1}", "{\\"bar\\": 2}"}', '[{"foo": 1},{"bar": 2}]'),
        (1009, "{}", "[]"),
        (1000, "{}", "[]"),
        (1007, "{}", "[]"),
        (1009, '{""}', '[""]'),
        (1009, '{"NULL",NULL,null}', '["NULL",null,"null"]'),
        (1009, ' { "a" ,\n b } ', '["a","b"]'),
        (1009, '{"a\nb","c\\\\d"," ","{}",","}', '["a\\nb","c\\\\d"," ","{}",","]'),
        (1009, "{zoë,ÿ,\xa0}", '["zoë","ÿ","\xa0"]'),
        (1020, "{(2,2),(1,1);(4,4),(3,3)}", '["(2,2),(1,1)","(4,4),(3,3)"]'),
        (1020, '{"(2,2),(1,1)";NULL}', '["(2,2),(1,1)",null]'),
        (1006, '{"1 2",3}', '["1 2","3"]'),  # int2vector[]
        (2287, '{"(1,\\"a b\\")","(2,)"}', '["(1,\\"a b\\")","(2,)"]'),
    ],
)
def test_arrays(array_id: int, text: str, json: str) -> None:
    assert encoded(text, array_id) == json


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "}", "1", "1,2", "{1,2", "1,2}", "{1,2}}", "{{1,2}", "{1,2}3", "{1,2},", "{1,,2}", "{,1}", "{1,}",
        "{,}", "{1 2}", '{"a"b}', '{a"b"}', '{"a}', '{"a\\', "{a\\b}", "{{1}{2}}", "{{1},}", "{}{}", "{{}", "{1}{",
        "[1:2]", "[1:2]={", '{"a""b"}', "{1,{2}", "{{1},2", "NULL", '"a"', " ", "{{,}}", "{ {1} 2 }", "x={1}",
    ],
)  # fmt: skip
def test_what_is_no_array_literal_is_an_error(text: str) -> None:
    for element in (None, str):
        with pytest.raises(ValueError):  # noqa: PT011  any; the caller has its own words
            array_from_text(text, element)


def test_an_element_that_is_not_of_its_type_is_an_error() -> None:
    for text in ("{1,x}", '{"x"}', "{{x}}"):
        with pytest.raises(ValueError):  # noqa: PT011
            encoded(text, 1007)


def test_the_deepest_array_of_postgres_and_far_beyond() -> None:
    depth = 5000
    value: Any = array_from_text("{" * depth + "x" + "}" * depth)
    for _ in range(depth):
        (value,) = value
    assert value == "x"


# ── types that only a catalog knows ──────────────────────────────────────────────────────────────────────────────────


def test_arrays_of_enums_and_domains_come_from_the_catalog() -> None:
    enums, domains, arrays_of_arrays = 20001, 20002, 20003
    array_types = {enums: ArrayType(20000), domains: ArrayType(INT4), arrays_of_arrays: ArrayType(1007, ";")}
    assert encoded('{ok,"not ok",NULL}', enums, array_types) == '["ok","not ok",null]'
    assert encoded("{1,2}", domains, array_types) == "[1,2]"
    assert encoded('{"{1,2}";"{}"}', arrays_of_arrays, array_types) == "[[1,2],[]]"


def test_only_types_outside_the_built_in_range_are_unknown() -> None:
    fields = [Field("c", 0, 0, type_id, -1, -1) for type_id in (TEXT, 1007, 9_999, 10_000, 16_384, 20_001, 20_001)]
    assert unknown_types(fields, ()) == {10_000, 16_384, 20_001}
    assert unknown_types(fields, {20_001: None}) == {10_000, 16_384}
    assert unknown_types([], ()) == set()


async def test_the_built_in_arrays_are_those_of_postgres(database: Database) -> None:
    connection = await database.connect()
    try:
        rows = await connection.fetch(
            "SELECT typarray::int, oid::int, typdelim::text FROM pg_type WHERE typarray BETWEEN 1 AND 9999"
        )
    finally:
        await connection.close()
    assert {array: ArrayType(element, delimiter) for array, element, delimiter in rows} == BUILTIN_ARRAYS
