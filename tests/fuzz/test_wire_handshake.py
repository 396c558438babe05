"""Ways in, cut anywhere and damaged anywhere: the same log-in, or a refusal that says why."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from sqlhttp_gateway.wire import scram
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.handshake import Event, Handshake, Password, Proven, Refused, StartTls
from sqlhttp_gateway.wire.startup import Startup, split_options

VERIFIER = scram.make_verifier(b"pencil", salt=b"s" * 16, iterations=1)
PARTS = (
    b"\0\0\0\x08\x04\xd2\x16\x2f",  # SSLRequest
    b"\0\0\0\x08\x04\xd2\x16\x30",  # GSSENCRequest
    b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd",  # CancelRequest
    b"\0\0\0\x20\0\x03\0\0user\0ann\0database\0main\0\0",
    b"p\0\0\0\x0bpencil\0",
    b"p\0\0\0\x29SCRAM-SHA-256\0\0\0\0\x0fn,,n=,r=nonce-c",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"X\0\0\0\x04",
)
CHUNKS = st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=20)), max_size=8).map(b"".join)


def run(pieces: list[bytes], *, offers_tls: bool, by_password: bool) -> tuple[list[Event], bytes]:
    handshake, events, sent = Handshake(offers_tls=offers_tls), [], b""
    for piece in pieces:
        handshake.receive(piece)
        while (event := handshake.next_event()) is not None:
            events.append(event)
            match event:
                case Startup() if by_password:
                    handshake.ask_password()
                case Startup():
                    handshake.ask_scram(VERIFIER, "nonce-s")
                case StartTls():
                    handshake.tls_started()
                case Password() | Proven():
                    handshake.accept()
            sent += handshake.to_send()
        sent += handshake.to_send()
    if events and isinstance(events[-1], Refused):
        fields = decode_error(sent[sent.rindex(b"E\0\0") + 5 :])
        assert fields["S"] == "FATAL"
        assert len(fields["C"]) == 5
    return events, sent


@given(data=CHUNKS, cuts=st.lists(st.integers(0, 1000), max_size=6), by_password=st.booleans())
@example(data=PARTS[3] + PARTS[5], cuts=[40], by_password=False)
def test_conversation_is_the_same_however_it_is_cut(data: bytes, cuts: list[int], by_password: bool) -> None:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(at)]
    whole = run([data], offers_tls=False, by_password=by_password)
    in_pieces = run(pieces, offers_tls=False, by_password=by_password)
    assert [repr(event) for event in whole[0]] == [repr(event) for event in in_pieces[0]]
    assert whole[1] == in_pieces[1]


@given(pieces=st.lists(CHUNKS, max_size=4), by_password=st.booleans())
def test_tls_in_between_changes_nothing_about_that(pieces: list[bytes], by_password: bool) -> None:
    run(pieces, offers_tls=True, by_password=by_password)


@given(password=st.binary(max_size=30))
def test_any_password_fits_its_own_verifier_and_no_other(password: bytes) -> None:
    verifier = scram.make_verifier(password, salt=b"salt", iterations=1)
    assert scram.verify_password(verifier, password, "ann")
    assert not scram.verify_password(verifier, password + b"x", "ann")


@given(text=st.text(max_size=60))
def test_any_text_is_a_verifier_or_none(text: str) -> None:
    scram.parse_verifier(text)
    scram.parse_verifier(f"SCRAM-SHA-256${text}")


@given(options=st.text(max_size=40))
def test_options_split_into_words_that_can_be_put_together_again(options: str) -> None:
    words = list(split_options(options))
    escaped = ["".join(f"\\{character}" for character in word) for word in words if word]
    assert list(split_options(" ".join(escaped))) == [word for word in words if word]
