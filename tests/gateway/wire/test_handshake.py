"""Ways in: TLS or not, password or SCRAM, everything at once or byte by byte; and every way of being shown the door."""

from collections.abc import Callable

import pytest

from sqlhttp_gateway.errors import GatewayError, PasswordFailed, WaitTimeout
from sqlhttp_gateway.wire import scram
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.handshake import (
    CancelRequest,
    Event,
    Handshake,
    Password,
    Proven,
    Refused,
    StartTls,
    Terminated,
)
from sqlhttp_gateway.wire.startup import Startup

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
GSSENC_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x30"
CANCEL_REQUEST = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd"
STARTUP = b"\0\0\0\x20\0\x03\0\0user\0ann\0database\0main\0\0"
PASSWORD = b"p\0\0\0\x0bpencil\0"
QUERY = b"Q\0\0\0\x0dSELECT 1\0"
TERMINATE = b"X\0\0\0\x04"
ASK_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"
OK = b"R\0\0\0\x08\0\0\0\0"

ANN = Startup("ann", "main", {})
VERIFIER = scram.make_verifier(b"pencil", salt=b"s" * 16, iterations=1)


def step(handshake: Handshake, data: bytes = b"") -> tuple[Event | None, bytes]:
    handshake.receive(data)
    return handshake.next_event(), handshake.to_send()


def error_of(data: bytes) -> dict[str, str]:
    assert data[:1] == b"E"
    return decode_error(data[5:])


def test_start_up_password_and_query_in_one_chunk() -> None:
    handshake = Handshake()
    assert step(handshake, STARTUP + PASSWORD + QUERY) == (ANN, b"")
    handshake.ask_password()
    assert step(handshake) == (Password(b"pencil"), ASK_PASSWORD)
    handshake.accept()
    assert step(handshake) == (None, OK)
    assert handshake.take_rest() == QUERY
    assert handshake.take_rest() == b""


def test_byte_by_byte_comes_to_the_same() -> None:
    handshake, events, sent = Handshake(), [], b""
    for byte in SSL_REQUEST + GSSENC_REQUEST + STARTUP + PASSWORD:
        event, out = step(handshake, bytes([byte]))
        sent += out
        if event is not None:
            events.append(event)
        if event == ANN:
            handshake.ask_password()
    handshake.accept()
    assert events == [ANN, Password(b"pencil")]
    assert sent + handshake.to_send() == b"NN" + ASK_PASSWORD + OK


def test_tls_is_begun_where_it_is_offered() -> None:
    handshake = Handshake(offers_tls=True)
    assert step(handshake, GSSENC_REQUEST) == (None, b"N")
    assert step(handshake, SSL_REQUEST) == (StartTls(), b"S")
    assert not handshake.is_secure
    handshake.tls_started()
    assert handshake.is_secure
    assert step(handshake, STARTUP) == (ANN, b"")


def test_bytes_glued_to_a_request_for_tls_are_not_believed() -> None:
    handshake = Handshake(offers_tls=True)
    event, out = step(handshake, SSL_REQUEST + STARTUP)
    assert isinstance(event, Refused)
    assert error_of(out)["M"] == "received unencrypted data after SSL request"


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST])
def test_second_request_for_encryption_is_refused(request_: bytes) -> None:
    handshake = Handshake()
    assert step(handshake, request_) == (None, b"N")
    event, _ = step(handshake, request_)
    assert isinstance(event, Refused)


def test_cancel_request_hands_out_its_key_and_says_nothing() -> None:
    handshake = Handshake()
    assert step(handshake, CANCEL_REQUEST) == (CancelRequest(7, b"abcd"), b"")
    assert handshake.is_over
    assert step(handshake, STARTUP) == (None, b"")


def test_cancel_request_after_refused_tls_works_too() -> None:
    assert step(Handshake(), SSL_REQUEST + CANCEL_REQUEST) == (CancelRequest(7, b"abcd"), b"N")


def test_short_cancel_request_is_refused() -> None:
    event, _ = step(Handshake(), b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x07")
    assert isinstance(event, Refused)


def test_newer_protocol_is_negotiated_down_before_the_password_is_asked_for() -> None:
    handshake = Handshake()
    event, out = step(handshake, b"\0\0\0\x1a\0\x03\0\x02user\0ann\0_pq_.x\0\0\0")
    assert isinstance(event, Startup)
    assert out == b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"
    handshake.ask_password()
    assert handshake.to_send() == ASK_PASSWORD


def test_goodbye_during_log_in() -> None:
    handshake = Handshake()
    handshake.receive(STARTUP + TERMINATE)
    handshake.next_event()
    handshake.ask_password()
    assert step(handshake) == (Terminated(), ASK_PASSWORD)
    assert handshake.is_over


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
        (b"\x16\x03\x01\x02\0\x01", "08P01"),
        (b"\0\0\0\x04", "08P01"),
        (b"\0\0\x27\x11\0\x03\0\0", "08P01"),  # 10,001 bytes
        (b"\0\0\0\x09\0\x02\0\0\0", "0A000"),
        (b"\0\0\0\x09\0\x03\0\0\0", "28000"),
        (b"\0\0\0\x09\0\x03\0\0x", "08P01"),
    ],
)
def test_start_up_that_cannot_be_is_told_why(data: bytes, sqlstate: str) -> None:
    handshake = Handshake()
    event, out = step(handshake, data)
    assert isinstance(event, Refused)
    assert handshake.is_over
    assert (error_of(out)["S"], error_of(out)["C"]) == ("FATAL", sqlstate)


def asked(ask: Callable[[Handshake], None]) -> Handshake:
    handshake = Handshake()
    handshake.receive(STARTUP)
    handshake.next_event()
    ask(handshake)
    handshake.to_send()
    return handshake


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"p\0\0\0\x05\0", 'password authentication failed for user "ann"'),
        (b"p\0\0\0\x04", "invalid message format"),
        (QUERY, "expected password response, got message type 81"),
        (b"p\0\0\x10\0", "a message of 4097 bytes is too large (max is 1029 bytes)"),
        (b"p\0\0\0\0", "invalid message length 0"),
    ],
)
def test_password_that_cannot_be_is_told_why(data: bytes, message: str) -> None:
    event, out = step(asked(Handshake.ask_password), data)
    assert isinstance(event, Refused)
    assert error_of(out)["M"] == message


def test_password_may_be_longer_where_the_holder_says_so() -> None:
    handshake = Handshake(max_password=5000)
    handshake.receive(STARTUP)
    handshake.next_event()
    handshake.ask_password()
    handshake.receive(b"p" + (5004).to_bytes(4) + b"t" * 4999 + b"\0")
    assert handshake.next_event() == Password(b"t" * 4999)


@pytest.mark.parametrize("error", [PasswordFailed("no"), WaitTimeout("no connection within 5 s")])
def test_holder_can_refuse_for_any_reason(error: GatewayError) -> None:
    handshake = asked(Handshake.ask_password)
    handshake.receive(PASSWORD + QUERY)
    handshake.next_event()
    handshake.refuse(error)
    assert (error_of(handshake.to_send())["C"], handshake.is_over) == (error.sqlstate, True)
    assert handshake.next_event() is None


def sasl_initial(mechanism: bytes, data: bytes | None) -> bytes:
    body = mechanism + b"\0" + (b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4) + data)
    return b"p" + (len(body) + 4).to_bytes(4) + body


def response(data: bytes) -> bytes:
    return b"p" + (len(data) + 4).to_bytes(4) + data


def challenge_in(out: bytes, *, code: int) -> bytes:
    assert out[:1] == b"R"
    assert out[5:9] == code.to_bytes(4)
    return out[9:]


@pytest.mark.parametrize("late", [False, True])
def test_scram_proof_lets_in_and_hands_out_the_keys(late: bool) -> None:
    handshake = asked(lambda handshake: handshake.ask_scram(VERIFIER, "server nonce"))
    client = scram.Client(b"pencil", "client nonce")
    if late:
        event, out = step(handshake, sasl_initial(b"SCRAM-SHA-256", None))
        assert (event, challenge_in(out, code=11)) == (None, b"")
        event, out = step(handshake, response(client.first()))
    else:
        event, out = step(handshake, sasl_initial(b"SCRAM-SHA-256", client.first()))
    assert event is None
    final = client.receive(challenge_in(out, code=11))
    assert final is not None
    event, out = step(handshake, response(final))
    assert event == Proven(scram.derive_keys(b"pencil", salt=b"s" * 16, iterations=1))
    client.receive(challenge_in(out, code=12))
    handshake.accept()
    assert handshake.to_send() == OK
    assert client.done


def test_scram_proof_of_another_password_is_refused() -> None:
    handshake = asked(lambda handshake: handshake.ask_scram(VERIFIER, "server nonce"))
    client = scram.Client(b"pencils", "client nonce")
    _, out = step(handshake, sasl_initial(b"SCRAM-SHA-256", client.first()))
    final = client.receive(challenge_in(out, code=11))
    assert final is not None
    event, out = step(handshake, response(final))
    assert isinstance(event, Refused)
    assert (error_of(out)["C"], error_of(out)["S"]) == ("28P01", "FATAL")


def test_mechanisms_are_offered_with_channel_binding_first_where_it_is_possible() -> None:
    for binding, mechanisms in (
        (None, b"SCRAM-SHA-256\0\0"),
        (b"certificate", b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
    ):
        handshake = Handshake()
        handshake.receive(STARTUP)
        handshake.next_event()
        handshake.ask_scram(VERIFIER, "nonce", channel_binding=binding)
        assert challenge_in(handshake.to_send(), code=10) == mechanisms


@pytest.mark.parametrize("mechanism", [b"SCRAM-SHA-1", b"SCRAM-SHA-256-PLUS", b"pencil"])
def test_mechanism_that_was_not_offered_is_refused_in_the_words_of_postgres(mechanism: bytes) -> None:
    handshake = asked(lambda handshake: handshake.ask_scram(VERIFIER, "nonce"))
    event, out = step(handshake, sasl_initial(mechanism, b"n,,n=,r=x"))
    assert isinstance(event, Refused)
    assert error_of(out)["M"] == "client selected an invalid SASL authentication mechanism"


def test_nothing_can_be_decided_out_of_turn() -> None:
    for act in (Handshake.ask_password, Handshake.accept, Handshake.take_rest, Handshake.tls_started):
        with pytest.raises(RuntimeError, match="handshake is at STARTUP"):
            act(Handshake())


def test_secrets_are_not_in_the_repr_of_events() -> None:
    assert "pencil" not in repr(Password(b"pencil"))
    assert "abcd" not in repr(CancelRequest(7, b"abcd"))
