"""Chunks of any size become whole frames; impossible lengths end the connection."""

import pytest

from sqlhttp_gateway.errors import BadRequest, RemoteProtocolError
from sqlhttp_gateway.wire.buffer import MessageBuffer

QUERY = b"Q\0\0\0\x0dSELECT 1\0"
SYNC = b"S\0\0\0\x04"
STARTUP = b"\0\0\0\x09\0\x03\0\0\0"


def test_frame_comes_out_whole_however_it_was_cut() -> None:
    for cut in range(len(QUERY + SYNC)):
        buffer = MessageBuffer(max_size=100)
        frames = []
        for piece in ((QUERY + SYNC)[:cut], (QUERY + SYNC)[cut:]):
            buffer.receive(piece)
            while (frame := buffer.next_frame()) is not None:
                frames.append(frame)
        assert frames == [QUERY, SYNC]
        assert len(buffer) == 0


def test_frame_that_is_not_all_there_stays() -> None:
    buffer = MessageBuffer(max_size=100)
    for byte in QUERY[:-1]:
        buffer.receive(bytes([byte]))
        assert buffer.next_frame() is None
    assert len(buffer) == len(QUERY) - 1


def test_frame_of_exactly_the_bound_passes_and_one_byte_more_does_not() -> None:
    buffer = MessageBuffer(max_size=len(QUERY))
    buffer.receive(QUERY)
    assert buffer.next_frame() == QUERY
    buffer = MessageBuffer(max_size=len(QUERY) - 1)
    buffer.receive(QUERY[:5])  # refused as soon as the length is known
    with pytest.raises(BadRequest, match=r"a message of 14 bytes is too large \(max is 13 bytes\)"):
        buffer.next_frame()


def test_bound_can_be_tighter_for_one_frame() -> None:
    buffer = MessageBuffer(max_size=100)
    buffer.receive(QUERY)
    with pytest.raises(BadRequest, match="max is 10 bytes"):
        buffer.next_frame(max_size=10)


@pytest.mark.parametrize("length", [0, 3, 0xFFFFFFFF])
def test_impossible_length_is_the_fault_of_whoever_sent_it(length: int) -> None:
    for fault in (BadRequest, RemoteProtocolError):
        buffer = MessageBuffer(max_size=100, fault=fault)
        buffer.receive(b"Q" + length.to_bytes(4))
        with pytest.raises(fault):
            buffer.next_frame()


def test_start_up_packet_has_no_tag_and_its_own_bound() -> None:
    buffer = MessageBuffer(max_size=100)
    buffer.receive(STARTUP[:3])
    assert buffer.next_packet(max_size=9) is None
    buffer.receive(STARTUP[3:-1])
    assert buffer.next_packet(max_size=9) is None
    buffer.receive(STARTUP[-1:] + QUERY)
    assert buffer.next_packet(max_size=9) == STARTUP
    assert buffer.next_frame() == QUERY


@pytest.mark.parametrize("length", [0, 7, 10, 0x16030101])
def test_start_up_packet_of_impossible_length_is_refused(length: int) -> None:
    buffer = MessageBuffer(max_size=100)
    buffer.receive(length.to_bytes(4))
    with pytest.raises(BadRequest):
        buffer.next_packet(max_size=9)


def test_rest_can_be_taken_for_somebody_else_to_read() -> None:
    buffer = MessageBuffer(max_size=100)
    assert buffer.take_all() == b""
    buffer.receive(SYNC + QUERY[:3])
    assert buffer.next_frame() == SYNC
    assert buffer.take_all() == QUERY[:3]
    assert len(buffer) == 0
