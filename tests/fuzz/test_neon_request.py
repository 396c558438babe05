"""Any body at all is a request or a BadRequest, and whatever JSON can say arrives at Postgres as it was said."""

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.request import decode_request

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
queries = texts.map(lambda text: text.replace("\0", ""))
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@settings(max_examples=300, deadline=None)
@given(queries, st.lists(st.none() | texts, max_size=6), st.booleans() | st.none(), st.booleans())
def test_texts_and_nulls_arrive_whatever_way_they_are_escaped(
    query: str, params: list[str | None], array_mode: bool | None, ascii_only: bool
) -> None:
    body = json.dumps({"query": query, "params": params, "arrayMode": array_mode}, ensure_ascii=ascii_only).encode()
    meant = tuple(None if value is None else value.encode() for value in params)
    assert decode_request(body) == Statement(query, meant, array_mode)


@settings(max_examples=300, deadline=None)
@given(st.lists(numbers, max_size=4), st.sampled_from(["%", "[%]", '{"a":%}', '[[{"b":[%]}]]']))
def test_a_number_keeps_every_digit_wherever_it_stands(texts_of_numbers: list[str], place: str) -> None:
    params = ",".join(place.replace("%", text) for text in texts_of_numbers)
    statement: Any = decode_request(b'{"query":"q","params":[' + params.encode() + b"]}")
    found = [re.sub(r'[^0-9.eE+-]|"[ab]\\?"', "", param.decode()) for param in statement.params]
    assert found == texts_of_numbers


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(queries, st.lists(values, max_size=3)), max_size=4))
def test_a_batch_is_its_statements_in_order(given_: list[tuple[str, list[Any]]]) -> None:
    body = json.dumps({"queries": [{"query": query, "params": params} for query, params in given_]}).encode()
    alone = [decode_request(json.dumps({"query": query, "params": params}).encode()) for query, params in given_]
    assert decode_request(body) == Batch(tuple(alone))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(texts, values, max_size=4))
def test_an_object_arrives_as_the_same_json(value: dict[str, Any]) -> None:
    statement: Any = decode_request(json.dumps({"query": "q", "params": [value]}).encode())
    assert json.loads(statement.params[0]) == value
    assert list(json.loads(statement.params[0])) == list(value)


def accepted(body: bytes) -> bool:
    try:
        request = decode_request(body)
    except BadRequest:
        return False
    assert isinstance(request, Statement | Batch)
    return True


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_noise_is_a_bad_request(noise: bytes) -> None:
    assert not accepted(noise)


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["query", "queries", "params", "arrayMode", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_of_nearly_the_right_shape_is_answered(value: Any) -> None:
    accepted(json.dumps(value).encode())


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_body_is_answered(data: Any) -> None:
    body = bytearray(
        b'{"queries":[{"query":"SELECT $1","params":["a\\u00e9",1.50,null,[1,{"k":-0}]],"arrayMode":true}]}'
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        cut = data.draw(st.integers(0, 4))
        body[position : position + cut] = data.draw(st.sampled_from(list(SCRAPS)) | st.binary(max_size=3))
    accepted(bytes(body))


SCRAPS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"1e999",
    b'"query":"x",',
    b"\xff",
    b"null",
)
