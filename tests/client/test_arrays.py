"""Array literals as Postgres prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp._arrays import decode_array
from sqlhttp._params import encode_array


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", []),
        ("{1,2,3}", ["1", "2", "3"]),
        ("{NULL,a}", [None, "a"]),
        ('{"NULL",null}', ["NULL", "null"]),
        (r'{"aa\"\\\,a",cha,"bbbb"}', ['aa"\\,a', "cha", "bbbb"]),
        ('{{{{"foo",NULL,"bop",bup}}}}', [[[["foo", None, "bop", "bup"]]]]),
        ("[1:1][-2:-1][3:5]={{{1,2,3},{4,5,6}}}", [[["1", "2", "3"], ["4", "5", "6"]]]),
        ("[0:1]={7,8}", ["7", "8"]),
        ('{""}', [""]),
        ('{"a\nb","{c}"}', ["a\nb", "{c}"]),
        ('{"(1,\\"x y\\")"}', ['(1,"x y")']),
        ("{a b,c}", ["a b", "c"]),
        ('{"",\x1f,\xa0}', ["", "\x1f", "\xa0"]),  # spaces for Python, not for Postgres
    ],
)
def test_literals_become_lists(text: str, value: list[object]) -> None:
    assert decode_array(text, None) == value


def test_elements_are_converted_and_null_is_not() -> None:
    assert decode_array("{{1,NULL},{3,4}}", int) == [[1, None], [3, 4]]


def test_boxes_are_separated_by_semicolons() -> None:
    assert decode_array("{(2,2),(1,1);(4,4),(3,3)}", None, delimiter=";") == ["(2,2),(1,1)", "(4,4),(3,3)"]
    assert decode_array("{{(2,2),(1,1)};{(4,4),(3,3)}}", None, delimiter=";") == [["(2,2),(1,1)"], ["(4,4),(3,3)"]]


@pytest.mark.parametrize("text", ["", "1,2", "{1,2", "{{1}", "{1}}", '{"a}', "{1}x{2}", "{{1},2}}{", "[1:2]"])
def test_what_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an array|substring not found"):
        decode_array(text, None)


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(texts) | st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1))
def test_what_is_written_is_read_again(value: list[object]) -> None:
    assert decode_array(encode_array(value), None) == value
