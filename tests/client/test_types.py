"""Which Python value a column's text becomes, by the type's OID."""

import math
from datetime import date
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID

import pytest

from sqlhttp._types import ELEMENT_OF, decoder

BOOL, BYTEA, INT8, TEXT, JSON, FLOAT8, NUMERIC, UUID_OID, JSONB = 16, 17, 20, 25, 114, 701, 1700, 2950, 3802
INET, CIDR, DATE, DATE_ARRAY, NUMERIC_ARRAY, BOX_ARRAY = 869, 650, 1082, 1182, 1231, 1020


def decoded(type_id: int, text: str) -> Any:
    decode = decoder(type_id)
    return text if decode is None else decode(text)


@pytest.mark.parametrize(
    ("type_id", "text", "value"),
    [
        (BOOL, "t", True),
        (BOOL, "f", False),
        (INT8, "-9223372036854775808", -(2**63)),
        (FLOAT8, "1e+300", 1e300),
        (FLOAT8, "-Infinity", -math.inf),
        (NUMERIC, "1.10", Decimal("1.10")),
        (NUMERIC, "-Infinity", Decimal("-Infinity")),
        (BYTEA, r"\xdead", b"\xde\xad"),
        (BYTEA, r"\x", b""),
        (BYTEA, r"a\\b\000\377", b"a\\b\x00\xff"),
        (JSON, '{"a": [1, null]}', {"a": [1, None]}),
        (JSONB, "null", None),
        (UUID_OID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        (INET, "10.0.0.1", ip_address("10.0.0.1")),
        (INET, "10.0.0.1/8", ip_interface("10.0.0.1/8")),
        (INET, "::1", ip_address("::1")),
        (CIDR, "10.0.0.0/8", ip_network("10.0.0.0/8")),
        (DATE_ARRAY, "{2020-02-29,NULL}", [date(2020, 2, 29), None]),
        (BOX_ARRAY, "{(1,1),(0,0);(3,3),(2,2)}", ["(1,1),(0,0)", "(3,3),(2,2)"]),
        (TEXT, "1", "1"),
        (999_999, "{1}", "{1}"),
    ],
)
def test_text_becomes_the_types_own_value(type_id: int, text: str, value: Any) -> None:
    found = decoded(type_id, text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_nan() -> None:
    assert math.isnan(decoded(FLOAT8, "NaN"))
    assert decoded(NUMERIC, "NaN").is_nan()


def test_negative_zero_keeps_its_sign() -> None:
    assert math.copysign(1, decoded(FLOAT8, "-0")) == -1


def test_every_digit_of_a_long_numeric_is_kept() -> None:
    text = "9" * 2000 + "." + "1" * 2000
    assert str(decoded(NUMERIC, text)) == text


def test_json_that_python_cannot_hold_stays_text() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert decoded(JSON, deep) == deep
    digits = "1" * 5000  # above the limit of sys.set_int_max_str_digits
    assert decoded(JSONB, digits) == digits


def test_a_function_of_the_callers_goes_first_also_in_arrays() -> None:
    types = {NUMERIC: float}
    assert decoder(NUMERIC, types) is float
    decode = decoder(NUMERIC_ARRAY, types)
    assert decode is not None
    assert decode("{1.5,NULL}") == [1.5, None]
    assert decoder(DATE, types) is decoder(DATE)


def test_a_function_for_boxes_gets_whole_boxes_of_an_array() -> None:
    decode = decoder(BOX_ARRAY, {603: len})
    assert decode is not None
    assert decode("{(2,2),(1,1);(3,3),(2,2)}") == [11, 11]


def test_an_arrays_own_function_goes_before_its_elements() -> None:
    assert decoder(NUMERIC_ARRAY, {NUMERIC_ARRAY: len, NUMERIC: float}) is len


def test_no_type_is_an_array_of_itself() -> None:
    assert not set(ELEMENT_OF) & set(ELEMENT_OF.values())
