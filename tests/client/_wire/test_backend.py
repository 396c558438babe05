"""Messages of a server: cut from pieces of any size, and read."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp import ProtocolError
from sqlhttp._wire.backend import (
    Message,
    Messages,
    Notification,
    decode_command_complete,
    decode_data_row,
    decode_error,
    decode_notification,
    decode_row_description,
)
from tests.support.backend_bytes import described, failed, notified, ready, row

STREAM = ready() + row("a", None) + described(("x", 23)) + ready("T")


def body(data: bytes) -> bytes:
    return data[5:]


@given(st.lists(st.integers(0, len(STREAM))))
def test_messages_are_the_same_from_any_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    messages = Messages()
    found = [message for start, end in pairwise(places) for message in messages.receive(STREAM[start:end])]
    assert found == [
        Message(b"Z", b"I"),
        Message(b"D", body(row("a", None))),
        Message(b"T", body(described(("x", 23)))),
        Message(b"Z", b"T"),
    ]


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK", b"Z\0\0\0\x03", b"Z\xff\xff\xff\xff"])
def test_a_length_that_cannot_be_is_told_at_once(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="Postgres"):
        Messages().receive(data)


def test_a_row_description_is_as_neons_json_has_it() -> None:
    data = b"\0\x01id\0" + b"\0\0\x40\x01" + b"\0\x02" + b"\0\0\0\x17" + b"\0\x04" + b"\xff\xff\xff\xff" + b"\0\0"
    assert decode_row_description(data) == [
        {
            "name": "id",
            "dataTypeID": 23,
            "tableID": 16385,
            "columnID": 2,
            "dataTypeSize": 4,
            "dataTypeModifier": -1,
            "format": "text",
        }
    ]


def test_a_row_is_texts_and_nulls() -> None:
    assert decode_data_row(body(row("é", None, ""))) == ["é", None, ""]


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_are_a_protocol_error(data: bytes) -> None:
    for decode in (decode_row_description, decode_data_row):
        with suppress(ProtocolError):
            assert len(decode(data)) == int.from_bytes(data[:2], "big")
    with suppress(ProtocolError):
        assert "\0" not in decode_notification(data).channel


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        (b"SELECT 3\0", ("SELECT", 3)),
        (b"INSERT 0 1214\0", ("INSERT", 1214)),
        (b"CREATE TABLE\0", ("CREATE", None)),
        (b"BEGIN\0", ("BEGIN", None)),
    ],
)
def test_a_command_tag_is_a_word_and_perhaps_a_count(tag: bytes, told: tuple[str, int | None]) -> None:
    assert decode_command_complete(tag) == told


def test_an_errors_fields_have_our_names() -> None:
    fields = decode_error(body(failed("42703", "no column", position="8")))
    assert fields == {"severity": "ERROR", "code": "42703", "message": "no column", "position": "8"}


def test_a_notification_has_channel_payload_and_sender() -> None:
    assert decode_notification(body(notified("jobs", "é", 9))) == Notification("jobs", "é", 9)
