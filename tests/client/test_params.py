"""What a Python value is as the text of a parameter."""

import enum
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from sqlhttp import InterfaceError, Json
from sqlhttp._params import encode_param


class Colour(enum.StrEnum):
    RED = "red"


class Mixed(str, enum.Enum):  # noqa: UP042  the older spelling, whose str() is the member's name
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", ""),
        ("a'b\\", "a'b\\"),
        (True, "true"),
        (False, "false"),
        (2**63 - 1, "9223372036854775807"),
        (-(10**30), "-1000000000000000000000000000000"),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+5"), "1E+5"),
        (Decimal("-NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (b"\x00\xff", r"\x00ff"),
        (bytearray(b"a"), r"\x61"),
        (memoryview(b"abc")[1:], r"\x6263"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(1, 1, 1), "0001-01-01"),
        (time(1, 2, 3, 4), "01:02:03.000004"),
        (datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00+00:00"),
        (timedelta(0), "0 days +0.000000 seconds"),
        (timedelta(microseconds=-1), "-1 days +86399.999999 seconds"),
        (timedelta.max, "999999999 days +86399.999999 seconds"),
        (ip_address("::1"), "::1"),
        (ip_interface("10.0.0.1/8"), "10.0.0.1/8"),
        (ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        ({"a": [1, "ä"], "b": None}, '{"a":[1,"ä"],"b":null}'),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (Json([1, 2]), "[1,2]"),
        (Json("x"), '"x"'),
        (Json(None), "null"),
        ([], "{}"),
        ([1, None, "NULL", 'a"b\\c'], '{"1",NULL,"NULL","a\\"b\\\\c"}'),
        ([[True], [False]], '{{"true"},{"false"}}'),
        ((1, 2), '{"1","2"}'),
        (Point(1, 2), '{"1","2"}'),
        ([b"\x01"], r'{"\\x01"}'),
        ([{"a": 1}], r'{"{\"a\":1}"}'),
        ([Json([1])], '{"[1]"}'),
        (Colour.RED, "red"),
        (Mixed.RED, "red"),
        (Size.BIG, "3"),
        ([Mixed.RED], '{"red"}'),
    ],
)
def test_values_become_text(value: Any, text: str | None) -> None:
    assert encode_param(value) == text
    assert encode_param(value) == text  # a second time, with what was remembered for the type


def test_numbers_of_other_packages_are_numbers() -> None:
    class Int64:
        def __index__(self) -> int:
            return 7

    class Float16:
        def __float__(self) -> float:
            return 0.5

    assert encode_param(Int64()) == "7"
    assert encode_param(Float16()) == "0.5"


class Plain(enum.Enum):
    RED = 1


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, range(3), Plain.RED])
def test_a_value_without_a_rule_is_refused_and_named(value: Any) -> None:
    with pytest.raises(InterfaceError, match=type(value).__name__) as caught:
        encode_param(value)
    assert not caught.value.may_have_run


def test_a_time_whose_zone_has_no_offset_without_a_date_is_refused() -> None:
    """Without one Postgres would read it in the zone of its own session."""
    with pytest.raises(InterfaceError, match="Europe/Amsterdam has no offset"):
        encode_param(time(12, tzinfo=ZoneInfo("Europe/Amsterdam")))
    assert encode_param(time(12, tzinfo=ZoneInfo("UTC"))) == "12:00:00+00:00"


def test_json_that_is_none_is_refused() -> None:
    with pytest.raises(InterfaceError, match="JSON"):
        encode_param({"a": object()})


def test_json_values_compare_and_show_themselves() -> None:
    assert Json([1]) == Json([1])
    assert Json([1]) != [1]
    assert len({Json([1]), Json([1])}) == 1
    assert repr(Json([1])) == "Json([1])"


def test_an_integer_of_any_length_loses_no_digit() -> None:
    for number in (10**5000 + 7, -(10**5000) - 7):
        text = encode_param(number)
        assert text is not None
        assert Decimal(text) == number
        assert text.lstrip("-").isdecimal()


@pytest.mark.parametrize("method", ["__index__", "__float__"])
def test_what_looks_like_a_number_and_is_none_is_refused(method: str) -> None:
    """As an array of several numbers does."""

    def refuses(self: object) -> float:
        raise TypeError("only arrays of one element can be converted")

    with pytest.raises(InterfaceError, match="convert it to text first"):
        encode_param(type("Array", (), {method: refuses})())
