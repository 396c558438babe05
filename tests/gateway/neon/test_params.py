"""JSON values as Postgres's parameter texts."""

from typing import Any

import pytest

from sqlhttp_gateway.neon.params import Number, param_from_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, b"true"),
        (False, b"false"),
        (42, b"42"),
        (-7, b"-7"),
        (1.5, b"1.5"),
        (Number("1.10"), b"1.10"),
        (Number("-0"), b"-0"),
        ("", b""),
        ("a\"b\\c\nd'e", b"a\"b\\c\nd'e"),
        ("zoë", "zoë".encode()),
        ("a\0b", b"a\0b"),
        ({}, b"{}"),
        ({"b": 1, "a": [1, None, True, "x"]}, b'{"b":1,"a":[1,null,true,"x"]}'),
        ({"n": Number("1e400"), "o": {"p": [Number("1.0")]}}, b'{"n":1e400,"o":{"p":[1.0]}}'),
        ({"ü": "\n"}, '{"ü":"\\n"}'.encode()),
    ],
)
def test_scalars_and_objects(value: Any, text: bytes | None) -> None:
    assert param_from_json(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], b"{}"),
        ([[]], b"{{}}"),
        ([True, False, None, "NULL", 42, "foo", 'bar"-\\'], b'{true,false,NULL,"NULL",42,"foo","bar\\"-\\\\"}'),
        (
            [[True, False], [None, 42], ["foo", 'bar"-\\']],
            b'{{true,false},{NULL,42},{"foo","bar\\"-\\\\"}}',
        ),
        ([{"foo": 1}, {"bar": 2}], b'{"{\\"foo\\":1}","{\\"bar\\":2}"}'),
        ([Number("1.10"), 1.5, ""], b'{1.10,1.5,""}'),
        (["a,b", "{c}", " "], b'{"a,b","{c}"," "}'),
    ],
)
def test_arrays_become_literals(value: Any, text: bytes) -> None:
    assert param_from_json(value) == text


def test_control_characters_of_an_array_element_stay_as_they_are() -> None:
    """Postgres's array parser would read an escaped newline as the letter n."""
    assert param_from_json(["a\nb\tc\rd\x01"]) == b'{"a\nb\tc\rd\x01"}'


def test_an_object_inside_an_array_is_json_first_and_an_element_then() -> None:
    assert param_from_json([{"a": 'x"\\\n'}]) == rb'{"{\"a\":\"x\\\"\\\\\\n\"}"}'


def test_a_lone_surrogate_is_an_error_wherever_it_stands() -> None:
    for value in ("\ud800", ["\ud800"], {"\ud800": 1}, {"a": ["\ud800"]}):
        with pytest.raises(ValueError):  # noqa: PT011  the message is the library's
            param_from_json(value)


def test_an_object_that_nests_too_deeply_is_an_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="Recursion limit"):
        param_from_json(deep)
