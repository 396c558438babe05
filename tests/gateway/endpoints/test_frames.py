"""Frames of a WebSocket: cut rightly wherever they are split, read only where they are plain."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from sqlhttp_gateway.endpoints.frames import Frame, Frames, encode

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 70_000)


def sent(data: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame as websockets writes it."""
    return TheirFrame(opcode, data, fin).serialize(mask=mask)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sent_is_what_websockets_reads(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://x/"))
    client.state = client.state.OPEN
    data = random.randbytes(size)
    client.reader.feed_data(encode(data) + encode(b"next"))
    parser = TheirFrame.parse(client.reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as ended:
        next(parser)
    assert ended.value.value == TheirFrame(Opcode.BINARY, data)


@pytest.mark.parametrize("size", SIZES)
def test_whole_message_is_read(size: int) -> None:
    data = random.randbytes(size)
    raw = sent(data)
    assert Frames().receive(raw) == [Frame(raw, data)]


@pytest.mark.parametrize("size", SIZES)
def test_message_that_is_all_there_is_is_read_at_once(size: int) -> None:
    data = random.randbytes(size)
    assert Frames().whole(sent(data)) == (data if size < 1 << 16 else None)


@pytest.mark.parametrize("size", [1, 125, 126, 1000])
def test_part_of_a_message_or_more_than_one_is_not_read_at_once(size: int) -> None:
    raw = sent(bytes(size))
    for other in (raw[:-1], raw[:5], raw[:2], raw[:1], b"", raw + raw, raw + b"\x82"):
        frames = Frames()
        assert frames.whole(other) is None
        assert b"".join(frame.raw for frame in frames.receive(other) + frames.receive(raw)).startswith(raw[:1])
    frames = Frames()
    frames.receive(raw[:-1])
    assert frames.whole(raw) is None, "its beginning is there already"


@pytest.mark.parametrize(
    "raw",
    [
        sent(b"text", Opcode.TEXT),
        sent(b"are you there", Opcode.PING),
        sent(b"", Opcode.CLOSE),
        sent(b"not masked", mask=False),
        bytes([0xC2]) + sent(b"with a reserved bit")[1:],
        sent(b"begins", fin=False),
    ],
    ids=["text", "ping", "close", "not masked", "reserved bit", "begins"],  # a mask is another one each time
)
def test_what_is_not_plain_is_for_somebody_else(raw: bytes) -> None:
    assert Frames().whole(raw) is None
    assert Frames().receive(raw) == [Frame(raw, None)]


def test_message_that_is_too_long_is_for_somebody_else_to_refuse() -> None:
    frames = Frames(max_size=10)
    assert frames.receive(sent(b"x" * 10))[0].content == b"x" * 10
    assert frames.receive(sent(b"x" * 11))[0].content is None
    assert (frames.whole(sent(b"x" * 10)), frames.whole(sent(b"x" * 11))) == (b"x" * 10, None)


def test_inside_a_message_in_fragments_all_is_for_somebody_else() -> None:
    """A whole message there breaks the protocol, which is theirs to say."""
    frames = Frames()
    parts = [
        sent(b"a", fin=False),
        sent(b"", Opcode.PING),
        sent(b"no"),
        sent(b"b", Opcode.CONT, fin=False),
        sent(b"c", Opcode.CONT),
    ]
    for part in parts[:2]:
        assert [frame.content for frame in frames.receive(part)] == [None]
        assert frames.whole(parts[2]) is None
    assert [frame.content for part in parts[2:] for frame in frames.receive(part)] == [None, None, None]
    assert [frame.content for frame in frames.receive(sent(b"d"))] == [b"d"]


def test_long_frame_in_parts_is_passed_on_as_it_comes() -> None:
    frames = Frames()
    raw = sent(b"x" * 100_000)
    parts = [raw[:20_000], raw[20_000:70_000], raw[70_000:]]
    assert [frames.receive(part) for part in parts[:2]] == [[Frame(part, None)] for part in parts[:2]]
    following = sent(b"next")
    assert frames.receive(parts[2] + following) == [Frame(parts[2], None), Frame(following, b"next")]


KINDS = st.one_of(
    st.tuples(st.just(Opcode.BINARY), st.sampled_from([0, 1, 5, 125, 126, 300, 20_000])),
    st.tuples(st.sampled_from([Opcode.TEXT, Opcode.PING, Opcode.PONG]), st.sampled_from([0, 7, 125])),
)


@given(st.lists(KINDS, max_size=8), st.lists(st.integers(0, 60_000), max_size=12))
def test_however_it_is_split_every_byte_comes_out_once_and_nothing_plain_is_read_wrongly(
    kinds: list[tuple[Opcode, int]], cuts: list[int]
) -> None:
    wire, plain = b"", []
    for number, (opcode, size) in enumerate(kinds):
        content = bytes([65 + number]) * size
        wire += sent(content, opcode)
        if opcode is Opcode.BINARY:
            plain.append(content)
    edges = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    frames, judge = Frames(), ServerProtocol()
    judge.state = judge.state.OPEN
    out, read = b"", []
    for start, end in pairwise(edges):
        for frame in frames.receive(wire[start:end]):
            out += frame.raw
            if frame.content is not None:
                read.append(frame.content)
                continue
            read += judged(judge, frame.raw)
    assert out == wire
    assert read == plain


def judged(judge: ServerProtocol, raw: bytes) -> list[bytes]:
    """The binary messages that websockets makes of it."""
    parser = getattr(judge, "test_parser", None)
    judge.reader.feed_data(raw)
    found = []
    while True:
        if parser is None:
            if not judge.reader.buffer:
                break
            parser = TheirFrame.parse(judge.reader.read_exact, mask=True, max_size=None)
        try:
            next(parser)
        except StopIteration as ended:
            parser = None
            if ended.value.opcode is Opcode.BINARY:
                found.append(bytes(ended.value.data))
            continue
        break
    judge.test_parser = parser  # type: ignore[attr-defined]
    return found
