"""RowDescription as values and as Neon's JSON."""

import tracemalloc

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError, ResultUnreadable
from sqlhttp_gateway.model import Field
from sqlhttp_gateway.neon.fields import describe, fields_from_description
from tests.support.rows import description

# SELECT id, "größe" FROM things; two columns of a table with OID 4,000,000,000
BODY = (
    b"\x00\x02"
    b"id\x00"
    + b"\xee\x6b\x28\x00"
    + b"\x00\x01"
    + b"\x00\x00\x00\x17"
    + b"\x00\x04"
    + b"\xff\xff\xff\xff"
    + b"\x00\x00"
    b"gr\xc3\xb6\xc3\x9fe\x00"
    + b"\xee\x6b\x28\x00"
    + b"\xff\xfe"
    + b"\x00\x00\x06\xa4"
    + b"\xff\xff"
    + b"\x00\x0a\x00\x06"
    b"\x00\x00"
)


def test_every_number_has_its_sign_and_size() -> None:
    assert fields_from_description(BODY) == (
        Field("id", 4_000_000_000, 1, 23, 4, -1),
        Field("größe", 4_000_000_000, -2, 1700, -1, 655_366),
    )


def test_the_seven_keys_in_neons_order() -> None:
    assert describe(BODY).json.decode() == (
        '[{"name":"id","dataTypeID":23,"tableID":4000000000,"columnID":1,"dataTypeSize":4,"dataTypeModifier":-1,'
        '"format":"text"},'
        '{"name":"größe","dataTypeID":1700,"tableID":4000000000,"columnID":-2,"dataTypeSize":-1,'
        '"dataTypeModifier":655366,"format":"text"}]'
    )


def test_columns_that_are_remembered_take_no_more_memory_than_they_need() -> None:
    bodies = [description(f"c{number}") for number in range(100)]
    describe(description("c"))
    tracemalloc.start()
    try:
        kept = [describe(body) for body in bodies]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(kept) < 3000


def test_no_columns() -> None:
    assert fields_from_description(b"\0\0") == ()
    assert describe(b"\0\0").json == b"[]"


def test_names_that_need_care() -> None:
    body = description('quote " and \\', "", "?column?", "line\nbreak", "same", "same")
    assert [field.name for field in fields_from_description(body)] == [
        'quote " and \\', "", "?column?", "line\nbreak", "same", "same",
    ]  # fmt: skip


def test_as_many_columns_as_postgres_can_return() -> None:
    names = [f"column_{number}" for number in range(1664)]
    assert [field.name for field in fields_from_description(description(*names))] == names


def test_a_name_that_is_not_utf8_cannot_be_told() -> None:
    with pytest.raises(ResultUnreadable, match="could not parse postgres response"):
        fields_from_description(BODY.replace(b"\xc3\xb6", b"\xff\xff"))


@pytest.mark.parametrize("cut", range(1, len(BODY)))
def test_a_body_that_ends_early_is_refused(cut: int) -> None:
    with pytest.raises(RemoteProtocolError):
        fields_from_description(BODY[:cut])


def test_an_empty_body_or_one_with_more_at_its_end_is_refused() -> None:
    for body in (b"", BODY + b"\0"):
        with pytest.raises(RemoteProtocolError):
            fields_from_description(body)


def test_converters_are_settled_where_the_types_are_built_in() -> None:
    settled = describe(description(("a", 23), ("b", 25))).converters
    assert settled is not None
    assert settled[0] is int
    assert settled[1] is None
    assert describe(description(("a", 23), ("b", 99_999))).converters is None
