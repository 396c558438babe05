"""What is read by a known beginning means what the long way says, and nothing is known by a doubtful one."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import Statement
from sqlhttp_gateway.neon.bodies import MOST, MOST_BYTES, Bodies
from sqlhttp_gateway.neon.request import decode_request

TEXT = "SELECT * FROM t WHERE id = $1"


def bodies(*known: bytes) -> Bodies:
    made = Bodies(lambda text: True)
    for body in known:
        request = decode_request(body)
        assert isinstance(request, Statement)
        made.remember(body, request.text)
    return made


def compact(payload: object) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


@pytest.mark.parametrize("written", [compact, lambda payload: json.dumps(payload).encode()])
def test_same_beginning_is_read_with_other_parameters(written: Any) -> None:
    known = bodies(written({"query": TEXT, "params": ["1"]}))
    for params in (["2"], [], ["a", "b"], ["\0"], ['","params":["'], ["é"], ["x" * 100_000]):
        body = written({"query": TEXT, "params": params})
        assert known.read(body) == decode_request(body) == Statement(TEXT, tuple(each.encode() for each in params))


def test_another_text_is_not_known() -> None:
    assert bodies(compact({"query": TEXT, "params": []})).read(compact({"query": "SELECT 2", "params": []})) is None


BEGINNING = b'{"query":"SELECT 1","params":'


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"[",
        b"[]",
        b"[1]}",
        b"[null]}",
        b'[["1"]]}',
        b'["1"],"arrayMode":true}',
        b'["1"],"query":"SELECT 2"}',
        b'["1"],"params":["2"]}',
        b'["1"]}}',
        b'["1"]} ',
        b'"1"}',
        b"{}}",
        b'["\\ud800"]}',
        b"[1e999]}",
        b'["1",2]}',
    ],
)
def test_rest_that_is_no_list_of_texts_is_left_to_the_long_way(rest: bytes) -> None:
    assert bodies(BEGINNING + b'["1"]}').read(BEGINNING + rest) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"params":["1"],"query":"SELECT 1"}',
        b'{"query":"SELECT 1"}',
        b'{"query":"SELECT 1","arrayMode":true,"params":[]}',
        b'{"query":"SELECT 1","more":1,"params":[]}',
        b'{"query":"SELECT 1","\\u0071uery":"SELECT 1","params":[]}',
        b'{"query":"SELECT 1","params" :[]}',
        compact({"query": "x" * MOST_BYTES, "params": []}),
    ],
)
def test_beginning_that_leaves_a_doubt_is_not_remembered(body: bytes) -> None:
    made = Bodies(lambda text: True)
    made.remember(body, "SELECT 1")
    assert len(made) == 0


def test_member_that_stands_twice_is_refused_whatever_was_remembered() -> None:
    known = bodies(BEGINNING + b"[]}")
    for body in (b'{"query":"SELECT 2","query":"SELECT 1","params":[]}', BEGINNING + b'[],"params":[]}'):
        assert known.read(body) is None
        with pytest.raises(BadRequest):
            decode_request(body)


def test_texts_that_are_not_accepted_are_not_remembered() -> None:
    made = Bodies(lambda text: text != TEXT)
    body = compact({"query": TEXT, "params": []})
    made.remember(body, TEXT)
    assert made.read(body) is None


def test_number_of_beginnings_is_bounded() -> None:
    made = bodies(*(compact({"query": f"SELECT {number}", "params": []}) for number in range(3 * MOST)))
    assert 0 < len(made) <= MOST


_OF_BODIES = (
    *('{"query":', '"SELECT 1"', '"a\\"b"', '"\\u0041"', ',"params":', "[]", '["1"]', '["é","2"]', "}", ",", " "),
    *('"params":', '"query":', '"cache":{}', "1", "null", '","params":['),
)
_pieces = st.sampled_from(_OF_BODIES)


@given(st.lists(_pieces, max_size=8), st.lists(_pieces, max_size=8))
@example(['{"query":', '"SELECT 1"', ',"params":', "[]", "}"], ['{"query":', '"SELECT 1"', ',"params":', '["1"]', "}"])
def test_known_bodies_mean_what_the_long_way_says(first: list[str], second: list[str]) -> None:
    made = Bodies(lambda text: True)
    for body in ("".join(first).encode(), "".join(second).encode()):
        try:
            request: object = decode_request(body)
        except BadRequest:
            request = None
        found = made.read(body)
        assert found is None or found == request
        if isinstance(request, Statement):
            made.remember(body, request.text)
