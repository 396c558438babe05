"""What the gateway says to Postgres, byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.wire import frontend, messages
from sqlhttp_gateway.wire.frontend import (
    encode_bind,
    encode_close_statement,
    encode_copy_fail,
    encode_parse,
    encode_query,
)

NAMES = st.binary(max_size=20).filter(lambda name: b"\0" not in name)
TEXTS = st.binary(max_size=60).filter(lambda text: b"\0" not in text)


def test_messages_without_content() -> None:
    assert frontend.SYNC == b"S\0\0\0\x04"
    assert frontend.FLUSH == b"H\0\0\0\x04"
    assert frontend.TERMINATE == b"X\0\0\0\x04"


def test_unnamed_portal_is_described_and_executed_without_a_limit() -> None:
    assert frontend.DESCRIBE_PORTAL == b"D\0\0\0\x06P\0"
    assert frontend.EXECUTE == b"E\0\0\0\x09\0\0\0\0\0"


def test_parse_leaves_all_types_to_the_server() -> None:
    assert encode_parse(b"", b"SELECT 1") == b"P\0\0\0\x10\0SELECT 1\0\0\0"
    assert encode_parse(b"s1", "SELECT 'é'".encode()) == b"P\0\0\0\x15s1\0SELECT '\xc3\xa9'\0\0\0"


def test_bind_has_text_parameters_and_text_results() -> None:
    assert encode_bind(b"s1", [b"42", None, b""]) == (
        b"B\0\0\0\x1c\0s1\0"  # unnamed portal, statement
        b"\0\0"  # no format codes: all parameters are text
        b"\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\0"
        b"\0\0"  # and so are all results
    )


def test_bind_without_parameters() -> None:
    assert encode_bind(b"", ()) == b"B\0\0\0\x0c\0\0\0\0\0\0\0\0"
    assert encode_bind(b"s1", []) == b"B\0\0\0\x0e\0s1\0\0\0\0\0\0\0"


def test_bind_takes_as_many_parameters_as_the_protocol_can_count() -> None:
    frame = encode_bind(b"", [None] * 65_535)
    assert frame[7:11] == b"\0\0\xff\xff"
    assert len(frame) == 13 + 4 * 65_535


def test_close_query_and_copy_fail() -> None:
    assert encode_close_statement(b"s1") == b"C\0\0\0\x08Ss1\0"
    assert encode_query(b"ROLLBACK") == b"Q\0\0\0\x0dROLLBACK\0"
    assert encode_copy_fail(b"no") == b"f\0\0\0\x07no\0"


@given(NAMES, TEXTS, st.lists(st.none() | st.binary(max_size=30), max_size=8))
def test_what_is_encoded_here_is_understood_by_the_other_side(
    name: bytes, text: bytes, params: list[bytes | None]
) -> None:
    parse = messages.decode(encode_parse(name, text))
    assert isinstance(parse, messages.Parse)
    assert (parse.name, parse.text, parse.types) == (name, text, ())
    bind = messages.decode(encode_bind(name, params))
    assert isinstance(bind, messages.Bind)
    assert messages.decode(encode_query(text)) == messages.Query(text, frame=encode_query(text))
    assert messages.decode(encode_close_statement(name)).frame == encode_close_statement(name)


@given(NAMES, st.lists(st.none() | TEXTS, max_size=4), TEXTS)
def test_bind_by_its_head_is_the_same_with_more_behind(name: bytes, params: list[bytes | None], behind: bytes) -> None:
    head = frontend.bind_head(name)
    assert frontend.encode_bind_by(head, params) == encode_bind(name, params)
    assert frontend.encode_bind_by(head, params, behind) == encode_bind(name, params) + behind
