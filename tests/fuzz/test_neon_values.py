"""Array literals, out and back; and any text at all is a list or a ValueError."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.neon.fields import fields_from_description
from sqlhttp_gateway.neon.params import param_from_json
from sqlhttp_gateway.neon.values import array_from_text
from tests.support.rows import description

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
arrays = st.lists(st.recursive(st.none() | texts, lambda inner: st.lists(inner, max_size=4), max_leaves=10), max_size=4)


@settings(max_examples=300, deadline=None)
@given(arrays)
def test_an_array_sent_as_a_parameter_reads_back_the_same(value: list[Any]) -> None:
    literal = param_from_json(value)
    assert literal is not None
    assert array_from_text(literal.decode()) == value


@settings(max_examples=200, deadline=None)
@given(arrays, st.sampled_from([" ", "\n", "\t ", "\v\f\r"]))
def test_it_reads_back_the_same_in_utf8_taken_for_latin_1(value: list[Any], white: str) -> None:
    """As rows are read: no byte of a letter may be taken for white space or a delimiter."""

    def guised(item: Any) -> Any:
        if isinstance(item, list):
            return [guised(each) for each in item]
        return item if item is None else item.encode().decode("latin-1")

    literal = (param_from_json(value) or b"").decode("latin-1")
    assert array_from_text(f"[1:3]={white}{literal}{white}") == guised(value)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.none(), max_size=6))
def test_plain_elements_go_through_their_converter(numbers: list[int | None]) -> None:
    literal = "{" + ",".join("NULL" if number is None else str(number) for number in numbers) + "}"
    assert array_from_text(literal, int) == numbers
    assert array_from_text("{" + literal + "}", int) == [numbers]


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from('{}[]=,;"\\ \nNULax1:'), max_size=14))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    for delimiter in ",;":
        try:
            assert isinstance(array_from_text(text, None, delimiter), list)
        except ValueError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(texts, st.integers(0, 2**32 - 1)), max_size=6), st.data())
def test_a_description_reads_back_and_a_damaged_one_is_refused(columns: list[tuple[str, int]], data: Any) -> None:
    body = description(*columns)
    assert [(field.name, field.type_id) for field in fields_from_description(body)] == columns
    with pytest.raises(GatewayError):
        fields_from_description(body[: data.draw(st.integers(0, len(body) - 1))])
    with suppress(GatewayError):
        fields_from_description(data.draw(st.binary(max_size=60)))
