"""Bodies: the two shapes, exact numbers, and everything that is refused."""

import json
from typing import Any

import pytest

from sqlhttp_gateway.errors import BadRequest, RequestTooLarge, StatementTooComplex
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon import request
from sqlhttp_gateway.neon.request import MAX_NESTED, MAX_PARAMS, MAX_STATEMENTS, decode_request

PREFIX = "could not parse the HTTP request body: "


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as refused:
        decode_request(body)
    assert type(refused.value) is BadRequest
    return refused.value.message


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "statement"),
    [
        (b'{"query":"SELECT 1"}', Statement("SELECT 1")),
        (b'{"query":"","params":[]}', Statement("")),
        (b'{"params":["42",null,"x"],"query":"SELECT $1"}', Statement("SELECT $1", (b"42", None, b"x"))),
        (b'{"query":"q","arrayMode":true}', Statement("q", (), True)),
        (b'{"query":"q","arrayMode":false}', Statement("q", (), False)),
        (b'{"query":"q","arrayMode":null}', Statement("q", (), None)),
        (b'{"query":"q","fetchOptions":{"query":1},"x":[]}', Statement("q")),
        (b' {"query" : "q"} ', Statement("q")),
        (b'{"query":"q","queries":[{"query":"r"}]}', Statement("q")),
        (b'{"query":"q","queries":5}', Statement("q")),
        (b'{"query":"select \\"query\\", \\"params\\""}', Statement('select "query", "params"')),
        (
            b'{"query":"query","params":["query","params","arrayMode"]}',
            Statement("query", (b"query", b"params", b"arrayMode")),
        ),
        ('{"query":"zoë \\u00e9","params":["ü","\\u0001"]}'.encode(), Statement("zoë é", ("ü".encode(), b"\x01"))),
        (b'{"qu\\u0065ry":"q"}', Statement("q")),
    ],
)
def test_one_statement(body: bytes, statement: Statement) -> None:
    assert decode_request(body) == statement


@pytest.mark.parametrize(
    "body",
    [
        b'{"query":"SELECT $1","params":["1"]}',
        b'{"query":"SELECT 1","params":[]}',
        b'{"params":["a","b","c"],"query":"SELECT $1, $2, $3"}',
        '{"query":"SELECT $1","params":["zoë ☃"]}'.encode(),
        '{"query":"SELECT \'ë\'","params":["1"]}'.encode(),
        b'{"query":"SELECT $1","params":["\\u0000"]}',
        b'{"query":"\\u0000","params":[]}',
        b'{"query":"SELECT $1","params":["\\ud800"]}',
        b'{"query":"SELECT $1","params":[1]}',
        b'{"query":"SELECT $1","params":[-0]}',
        b'{"query":"SELECT $1, $2","params":["1",null]}',
        b'{"query":"a","query":"b","params":[]}',
        b'{"query":"a","params":["1"],"params":[]}',
        b'{"query":"a","qu\\u0065ry":"b","params":[]}',
        b'{"query":"a","params":["\\"query\\""]}',
        b'{"query":"a","params":"b"}',
        b'{"query":5,"params":[]}',
        b'{"query":"a","queries":[]}',
        b'{"query":"a","params":[' + b'"",' * MAX_PARAMS + b'""]}',
    ],
    ids=lambda body: body[:50],
)
def test_short_way_of_the_usual_body_finds_what_the_long_one_does(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome() -> object:
        try:
            return decode_request(body)
        except BadRequest as error:
            return error.message

    short = outcome()
    monkeypatch.setattr(request, "_usual", lambda *_: None)
    assert outcome() == short


@pytest.mark.parametrize(
    ("body", "batch"),
    [
        (b'{"queries":[]}', Batch(())),
        (b'{"queries":[{"query":"a","params":[1]}]}', Batch((Statement("a", (b"1",)),))),
        (
            b'{"queries":[{"query":"a"},{"query":"b","params":[{"query":1}],"arrayMode":true}],"x":1}',
            Batch((Statement("a"), Statement("b", (b'{"query":1}',), True))),
        ),
    ],
)
def test_batches(body: bytes, batch: Batch) -> None:
    assert decode_request(body) == batch


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b"[]", "it is not an object"),
        (b"null", "it is not an object"),
        (b'"query"', "it is not an object"),
        (b"{}", '"query" is missing'),
        (b'{"query":1}', '"query" must be a string'),
        (b'{"query":null}', '"query" must be a string'),
        (b'{"query":"q","params":null}', '"params" must be an array'),
        (b'{"query":"q","params":{}}', '"params" must be an array'),
        (b'{"query":"q","params":"x"}', '"params" must be an array'),
        (b'{"query":"q","arrayMode":1}', '"arrayMode" must be a boolean'),
        (b'{"query":"q","arrayMode":"true"}', '"arrayMode" must be a boolean'),
        (b'{"queries":null}', '"queries" must be an array'),
        (b'{"queries":{}}', '"queries" must be an array'),
        (b'{"queries":["a"]}', 'each of "queries" must be an object'),
        (b'{"queries":[{"query":"a"},{}]}', '"query" is missing'),
        (b'{"queries":[{"query":"a","params":null}]}', '"params" must be an array'),
        (b'{"query":"a","query":"b"}', 'duplicate field "query"'),
        (b'{"query":"a","qu\\u0065ry":"b"}', 'duplicate field "query"'),
        (b'{"query":"a","params":[],"params":["x"]}', 'duplicate field "params"'),
        (b'{"query":"a","arrayMode":true,"arrayMode":true}', 'duplicate field "arrayMode"'),
        (b'{"query":"a","arrayMode":true,"array\\u004dode":true}', 'duplicate field "arrayMode"'),
        (b'{"queries":[],"queries":[]}', 'duplicate field "queries"'),
        (b'{"queries":[{"query":"a"},{"query":"b","query":"c"}]}', 'duplicate field "query"'),
        # Two statements, one with parameters twice and one without: the counts alone would agree.
        (b'{"queries":[{"query":"a","params":[],"params":[]},{"query":"b"}]}', 'duplicate field "params"'),
    ],
)
def test_a_wrong_shape_is_named(body: bytes, reason: str) -> None:
    assert refusal(body) == PREFIX + reason


@pytest.mark.parametrize(
    "body",
    [
        b"   ",
        b"{",
        b'{"query":"q"}x',
        b'{"query":"q",}',
        b"{'query':'q'}",
        b'{"query":"\xff"}',
        b'{"query":"q","params":[NaN]}',
        b'{"query":"q","params":[1e999,NaN]}',
        b'{"query":"q","params":[1e999,Infinity]}',
        b'{"query":"q","params":[1e999,"\xff"]}',
        b'{"query":"q","params":[01]}',
        b'{"query":"q","params":[+1]}',
        b'{"query":"q","params":[.5]}',
        b'{"query":"\\ud800"}',
        b'{"params":[1e999],"query":"\\ud800"}',
        b'{"query":"q","params":["\\udfff"]}',
        b'{"query":"q","params":[1e999,"\\udfff"]}',
        b'{"query":"q","params":[1e999,["\\udfff"]]}',
        b'{"query":"q","params":[1e999,{"a":"\\udfff"}]}',
        b'{"query":"a\nb"}',
        b"\xef\xbb\xbf{}",
        '{"query":"q"}'.encode("utf-16"),
        b'{"query":"q","params":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"query":"q","params":[1e999,' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"query":"q","params":[' + b"[" * 1000 + b"1.5" + b"]" * 1000 + b"]}",
        b'{"query":"q","params":[' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"]}",
        b'{"query":"q","query":"r","params":[],"x":' + b"[" * 1010 + b"]" * 1010 + b"}",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(body).startswith(PREFIX)


def test_duplicates_inside_a_parameter_are_the_programs_own_affair() -> None:
    body = b'{"query":"q","params":[{"query":1,"query":2}]}'
    assert decode_request(body) == Statement("q", (b'{"query":2}',))


def test_an_error_quotes_nothing_of_the_body() -> None:
    for body in (b'{"query":"zqx', b'{"query":"q","params":[zqx]}', b'{"zqx":1}', b'{"query":"\xff zqx"}'):
        assert "zqx" not in refusal(body)


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "number",
    [
        "0", "-0", "1", "-1", "42", "9007199254740993", "9223372036854775807", "-9223372036854775808",
        "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1" * 400, "-" + "9" * 5000,
        "1.0", "1.10", "0.1000000000000000055511151231257827", "1e2", "1E+2", "1e-7", "-0.0", "0e0", "1e999",
        "-1.5e-400", "123456789012345678", "-123456789012345678", "12345678901234567890.00",
    ],
)  # fmt: skip
def test_a_number_goes_to_postgres_digit_for_digit(number: str) -> None:
    text = number.encode()
    assert decode_request(b'{"query":"q","params":[%s,"x"]}' % text) == Statement("q", (text, b"x"))
    nested = b'{"query":"q","params":[[%s,[%s]],{"a":%s,"b":[{"c":%s}]}]}' % (text, text, text, text)
    assert decode_request(nested) == Statement(
        "q", (b"{%s,{%s}}" % (text, text), b'{"a":%s,"b":[{"c":%s}]}' % (text, text))
    )
    suspected_of_duplicates = b'{"query":"query","params":[%s]}' % text
    assert decode_request(suspected_of_duplicates) == Statement("query", (text,))
    batch = decode_request(b'{"queries":[{"query":"q"},{"query":"r","params":[%s]}]}' % text)
    assert batch == Batch((Statement("q"), Statement("r", (text,))))


# ── Postgres's own limits ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_nul_in_the_query_is_refused_and_one_in_a_parameter_is_left_to_postgres() -> None:
    assert refusal(b'{"query":"a\\u0000b"}') == "the query contains a NUL character, which Postgres cannot read"
    assert decode_request(b'{"query":"q","params":["a\\u0000b"]}') == Statement("q", (b"a\0b",))


def test_as_many_parameters_as_bind_can_count_and_no_more() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"query": "q", "params": ["x"] * count}).encode()

    statement: Any = decode_request(body(MAX_PARAMS))
    assert len(statement.params) == 65535
    assert refusal(body(MAX_PARAMS + 1)) == "a statement takes at most 65535 parameters, not 65536"


def test_a_batch_has_a_most_of_statements() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"queries": [{"query": ""}] * count}).encode()

    batch = decode_request(body(MAX_STATEMENTS))
    assert isinstance(batch, Batch)
    assert len(batch.statements) == 10_000
    with pytest.raises(RequestTooLarge, match="a batch has at most 10000 statements, not 10001"):
        decode_request(body(MAX_STATEMENTS + 1))


@pytest.mark.parametrize("spelled", ["/*", "\\/*", "/\\u002a"], ids=["plain", "escaped", "by number"])
@pytest.mark.parametrize("body", ['{"query":"%s"}', '{"query":"%s","params":["a"]}', '{"queries":[{"query":"%s"}]}'])
def test_comments_within_comments_have_a_greatest_depth(body: str, spelled: str) -> None:
    """Postgres reads them in a time that grows with the square of their depth, and cannot be interrupted."""
    decode_request((body % (spelled * MAX_NESTED + "*/" * MAX_NESTED)).encode())
    with pytest.raises(StatementTooComplex, match="more than 1000 deep"):
        decode_request((body % (spelled * (MAX_NESTED + 1) + "*/" * (MAX_NESTED + 1))).encode())


def test_comments_one_after_the_other_may_be_as_many_as_they_like() -> None:
    text = "/* a */ select 1 /*/ b */" * 10_000
    assert decode_request(json.dumps({"query": text, "params": ["a"]}).encode()) == Statement(text, (b"a",))
