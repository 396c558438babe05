"""Messages of a client, byte by byte."""

import pytest

from sqlhttp import InterfaceError
from sqlhttp._request import Statement
from sqlhttp._wire.frontend import encode_copy_fail, encode_password, encode_startup, encode_statements


def test_startup_has_a_length_the_version_and_pairs() -> None:
    assert encode_startup({"user": "me", "database": "db"}) == (
        b"\0\0\0\x1d" + b"\0\x03\0\0" + b"user\0me\0database\0db\0" + b"\0"
    )


def test_password_may_be_any_bytes_but_nul() -> None:
    assert encode_password(b"\xff") == b"p\0\0\0\x06\xff\0"
    with pytest.raises(InterfaceError):
        encode_password(b"a\0b")


def test_a_statement_is_one_extended_query_with_text_both_ways() -> None:
    assert encode_statements([Statement("select $1", ("é", None))]) == (
        b"P\0\0\0\x11\0select $1\0\0\0"
        b"B\0\0\0\x16\0\0\0\0\0\x02\0\0\0\x02\xc3\xa9\xff\xff\xff\xff\0\0"
        b"D\0\0\0\x06P\0"
        b"E\0\0\0\x09\0\0\0\0\0"
        b"S\0\0\0\x04"
    )


def test_several_statements_share_one_sync() -> None:
    data = encode_statements([Statement("a"), Statement("b")])
    assert data.count(b"S\0\0\0\x04") == 1
    assert data.endswith(b"S\0\0\0\x04")
    assert data.index(b"a\0") < data.index(b"b\0")


@pytest.mark.parametrize(
    "statement",
    [Statement("a\0b"), Statement("\ud800"), Statement("a", ("\ud800",)), Statement("a", ("x",) * 65_536)],
)
def test_what_cannot_be_said_is_refused(statement: Statement) -> None:
    with pytest.raises(InterfaceError):
        encode_statements([statement])


def test_a_nul_in_a_parameter_is_postgress_to_refuse() -> None:
    assert b"x\0y" in encode_statements([Statement("a", ("x\0y",))])


def test_copy_that_fails_brings_a_sync() -> None:
    assert encode_copy_fail("no") == b"f\0\0\0\x07no\0S\0\0\0\x04"
