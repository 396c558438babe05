"""Frames split anywhere, cut short, lying about their lengths: the same messages, or a refusal, and nothing else."""

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.errors import BadRequest, RemoteProtocolError
from sqlhttp_gateway.wire import backend, messages
from sqlhttp_gateway.wire.buffer import MessageBuffer
from sqlhttp_gateway.wire.effects import effects_of
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources, describe_shape
from sqlhttp_gateway.wire.session import BackendSession
from tests.support.postgres_model import bind, close, describe, execute, frame, parse, query, ready

TAGS = st.integers(0, 255).map(lambda tag: bytes([tag]))
FRAMES = st.builds(frame, TAGS, st.binary(max_size=40))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALID = st.one_of(
    st.builds(query, TEXT),
    st.builds(parse, TEXT, TEXT),
    st.builds(bind, TEXT, TEXT, TEXT),
    st.builds(describe, st.sampled_from("SP"), TEXT),
    st.builds(close, st.sampled_from("SP"), TEXT),
    st.builds(execute, TEXT, st.integers(0, 2**31 - 1)),
)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces."""
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at)]


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(frames=st.lists(FRAMES, max_size=6), cuts=CUTS)
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    buffer, out = MessageBuffer(max_size=1000), []
    for piece in cut(b"".join(frames), cuts):
        buffer.receive(piece)
        while (whole := buffer.next_frame()) is not None:
            out.append(whole)
    assert out == frames
    assert len(buffer) == 0


@given(data=st.binary(max_size=200), cuts=CUTS)
def test_buffer_refuses_or_waits_whatever_comes(data: bytes, cuts: list[int]) -> None:
    buffer, out = MessageBuffer(max_size=50, fault=RemoteProtocolError), b""
    with suppress(RemoteProtocolError):
        for piece in cut(data, cuts):
            buffer.receive(piece)
            while (whole := buffer.next_frame()) is not None:
                assert 5 <= len(whole) <= 50
                out += whole
    assert data.startswith(out)


@given(whole=VALID)
def test_valid_message_is_read_and_one_byte_less_is_not(whole: bytes) -> None:
    assert messages.decode(whole).frame == whole
    with suppress(BadRequest):  # a name or a parameter's end can look like the end of the message
        messages.decode(frame(whole[:1], whole[5:-1]))


@given(whole=FRAMES)
def test_any_frame_is_read_or_refused(whole: bytes) -> None:
    for decode in (
        messages.decode,
        messages.decode_password,
        messages.decode_sasl_initial_response,
        messages.decode_sasl_response,
    ):
        with suppress(BadRequest):
            assert decode(whole).frame == whole


@given(body=st.binary(max_size=100))
def test_whatever_a_server_calls_an_error_is_read(body: bytes) -> None:
    fields = backend.decode_error(body)
    assert all(len(code) == 1 and "\0" not in text for code, text in fields.items())


@given(text=st.binary(max_size=200).map(lambda text: text.replace(b"\0", b"")))
def test_any_text_has_effects(text: bytes) -> None:
    effects = effects_of(text)
    assert effects_of(b"/* */ " + text) == effects
    assert effects_of(b"SELECT 1; " + text).sets == effects.sets


@given(
    pieces=st.lists(
        st.sampled_from(
            ["'", '"', "$$", "$a$", "--", "\n", "/*", "*/", ";", "E'", "\\", "set a = 1", "listen x", " ", "temp", "("]
        ),
        max_size=30,
    )
)
def test_quotes_and_comments_in_any_order_are_read_to_the_end(pieces: list[str]) -> None:
    effects_of("".join(pieces).encode())


@given(data=st.lists(st.one_of(VALID, FRAMES, st.binary(max_size=30)), max_size=10).map(b"".join), cuts=CUTS)
def test_tunnel_passes_or_refuses_whatever_a_program_sends(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for pieces in ([data], cut(data, cuts)):
        tunnel = Pipeline({}, Sources(), max_message=200)
        tunnel.attach(BackendSession({}, statement_cache_size=10))
        sent, refusal = b"", ""
        try:
            for piece in pieces:
                tunnel.receive_frontend(piece)
                sent += tunnel.to_backend()
        except BadRequest as error:
            sent, refusal = sent + tunnel.to_backend(), error.message
        outcomes.append((sent, refusal, tunnel.to_frontend(), tunnel.is_terminated))
    assert outcomes[0] == outcomes[1]


@given(
    data=st.lists(st.one_of(FRAMES, st.sampled_from([ready(), frame(b"1"), frame(b"2")])), max_size=10).map(b"".join),
    cuts=CUTS,
    asks=st.booleans(),
)
def test_tunnel_passes_or_refuses_whatever_a_server_sends(data: bytes, cuts: list[int], asks: bool) -> None:
    outcomes = []
    for pieces in ([data], cut(data, cuts)):
        tunnel = Pipeline({"a.b": "1"} if asks else {}, Sources())
        tunnel.attach(BackendSession({}, statement_cache_size=10))
        tunnel.receive_frontend(query("SELECT 1") + parse("s", "SELECT 1") + bind("", "s"))
        got, refusal = tunnel.to_frontend(), ""
        try:
            for piece in pieces:
                tunnel.receive_backend(piece)
                got += tunnel.to_frontend()
        except RemoteProtocolError as error:
            refusal = error.message
        outcomes.append((refusal, "" if refusal else got))
    assert outcomes[0] == outcomes[1]


@given(parameters=st.binary(max_size=30), columns=st.binary(max_size=60))
def test_any_description_has_a_shape(parameters: bytes, columns: bytes) -> None:
    with suppress(ValueError):
        assert len(describe_shape(parameters, columns)) == 16
