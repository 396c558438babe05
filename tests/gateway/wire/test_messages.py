"""What a program sends after log-in, byte by byte."""

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire import messages
from sqlhttp_gateway.wire.messages import (
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FrontendMessage,
    FunctionCall,
    Parse,
    Query,
    Sync,
    Terminate,
)


def frame(tag: bytes, body: bytes = b"") -> bytes:
    return tag + (len(body) + 4).to_bytes(4) + body


SAMPLES = [
    (
        b"Bportal\0name\0\0\x02\0\0\0\x01\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\0\0\x01\0\x01",
        Bind(b"portal", b"name", (0, 1), (b"42", None, b""), (1,), frame=b""),
    ),
    (b"B\0\0\0\0\0\0\0\0", Bind(b"", b"", (), (), (), frame=b"")),
    (b"CSname\0", Close(b"S", b"name", frame=b"")),
    (b"CP\0", Close(b"P", b"", frame=b"")),
    (b"DSname\0", Describe(b"S", b"name", frame=b"")),
    (b"DP\0", Describe(b"P", b"", frame=b"")),
    (b"Eportal\0\0\0\0\x64", Execute(b"portal", 100, frame=b"")),
    (b"F\0\0\x10\x92\0\0\0\0\0\0", FunctionCall(4242, frame=b"")),
    (b"H", Flush(frame=b"")),
    (b"Pname\0SELECT $1\0\0\x02\0\0\0\x17\xff\xff\xff\xff", Parse(b"name", b"SELECT $1", (23, 2**32 - 1), frame=b"")),
    (b"P\0\0\0\0", Parse(b"", b"", (), frame=b"")),
    (b"QSELECT '\xe4'\0", Query(b"SELECT '\xe4'", frame=b"")),
    (b"S", Sync(frame=b"")),
    (b"X", Terminate(frame=b"")),
    (b"c", CopyDone(frame=b"")),
    (b"d1\t2\n", CopyData(frame=b"")),
    (b"fno more\0", CopyFail(b"no more", frame=b"")),
]


@pytest.mark.parametrize(("sample", "message"), SAMPLES)
def test_message_is_read_and_keeps_its_frame(sample: bytes, message: FrontendMessage) -> None:
    whole = frame(sample[:1], sample[1:])
    decoded = messages.decode(whole)
    assert decoded == message
    assert decoded.frame is whole
    assert decoded.tag == sample[:1]


@pytest.mark.parametrize(
    ("sample", "message"), [pair for pair in SAMPLES if not isinstance(pair[1], CopyData | FunctionCall | Terminate)]
)
def test_message_with_a_byte_too_many_or_too_few_is_refused(sample: bytes, message: FrontendMessage) -> None:
    with pytest.raises(BadRequest, match="invalid message format"):
        messages.decode(frame(sample[:1], sample[1:] + b"\0"))
    if len(sample) > 1:
        with pytest.raises(BadRequest, match="invalid message format"):
            messages.decode(frame(sample[:1], sample[1:-1]))


@pytest.mark.parametrize(
    "sample",
    [
        b"B\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",  # a value of -2 bytes
        b"B\0\0\0\0\0\x01\0\0\0\x7f1\0\0",  # a value longer than the message
        b"CXname\0",
        b"D\0",
        b"D",
        b"F\0\0",
    ],
)
def test_message_that_lies_about_itself_is_refused(sample: bytes) -> None:
    with pytest.raises(BadRequest, match="invalid message format"):
        messages.decode(frame(sample[:1], sample[1:]))


@pytest.mark.parametrize("tag", [b"p", b"Z", b"\0", b"\xff"])
def test_unknown_type_is_refused_in_the_words_of_postgres(tag: bytes) -> None:
    with pytest.raises(BadRequest, match=f"invalid frontend message type {tag[0]}"):
        messages.decode(frame(tag))


def test_p_is_read_as_what_was_asked_for() -> None:
    password = messages.decode_password(frame(b"p", b"p\xe4ssword\0"))
    assert password.password == b"p\xe4ssword"
    initial = messages.decode_sasl_initial_response(frame(b"p", b"SCRAM-SHA-256\0\0\0\0\x05n,,n="))
    assert (initial.mechanism, initial.data) == ("SCRAM-SHA-256", b"n,,n=")
    assert messages.decode_sasl_initial_response(frame(b"p", b"X\0\xff\xff\xff\xff")).data is None
    assert messages.decode_sasl_response(frame(b"p", b"c=biws")).data == b"c=biws"


def test_secrets_are_not_in_the_repr() -> None:
    assert "hunter2" not in repr(messages.decode_password(frame(b"p", b"hunter2\0")))
    assert "hunter2" not in repr(messages.decode_sasl_response(frame(b"p", b"hunter2")))


@pytest.mark.parametrize("body", [b"", b"no end", b"ends\0twice\0"])
def test_malformed_password_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="invalid message format"):
        messages.decode_password(frame(b"p", body))


@pytest.mark.parametrize("body", [b"", b"X\0", b"X\0\0\0\0\x05n", b"X\0\0\0\0\x01nn", b"X\0\xff\xff\xff\xfen"])
def test_malformed_sasl_initial_response_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="invalid message format"):
        messages.decode_sasl_initial_response(frame(b"p", body))


def test_something_else_than_the_password_is_refused() -> None:
    for decode in (messages.decode_password, messages.decode_sasl_initial_response, messages.decode_sasl_response):
        with pytest.raises(BadRequest, match="expected password response, got message type 81"):
            decode(frame(b"Q", b"SELECT 1\0"))
