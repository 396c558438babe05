"""Names and constants as SQL text."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sqlhttp import InterfaceError, Json
from sqlhttp._literals import literal, quoted_name


def test_a_name_is_quoted_whatever_it_has() -> None:
    assert quoted_name("public", 'we"ird; drop table x--') == '"public"."we""ird; drop table x--"'


@pytest.mark.parametrize("names", [(), ("",), ("a", ""), ("a\0b",), (1,)])
def test_what_cannot_be_a_name_is_refused(names: Any) -> None:
    with pytest.raises(InterfaceError, match="name"):
        quoted_name(*names)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (7, "7"),
        (-7, " -7"),
        (1.5, "'1.5'::float8"),
        (float("nan"), "'NaN'::float8"),
        (Decimal("1.10"), "'1.10'::numeric"),
        ("it's", "'it''s'"),
        ("a\\'b", " E'a\\\\''b'"),
        (b"\x00", r" E'\\x00'::bytea"),
        (date(2020, 1, 1), "'2020-01-01'::date"),
        (datetime(2020, 1, 1), "'2020-01-01T00:00:00'::timestamp"),
        (datetime(2020, 1, 1, tzinfo=UTC), "'2020-01-01T00:00:00+00:00'::timestamptz"),
        (time(1, tzinfo=UTC), "'01:00:00+00:00'::timetz"),
        (timedelta(days=1), "'1 days +0.000000 seconds'::interval"),
        ({"a": 1}, "'{\"a\":1}'::jsonb"),
        (Json([1]), "'[1]'::json"),
        ([1, 2], '\'{"1","2"}\''),
    ],
)
def test_a_value_is_a_constant_of_its_type(value: Any, text: str) -> None:
    assert literal(value) == text


def test_a_text_with_nul_is_refused() -> None:
    with pytest.raises(InterfaceError, match="NUL"):
        literal("a\0b")
