"""HTTP/1.1 as values: what is written, and replies that arrive in any pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp._http1 import MAX_HEAD_BYTES, Cut, NotHttp, Reply, ReplyReader, encode_head, encode_request

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;ext=1\r\nab\r\n\r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)
LENGTH = b"HTTP/1.1 400 Bad Request\r\nX-A: 1\r\nContent-Length:  5 \r\nx-a: 2\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH


def read(*pieces: bytes) -> Reply | None:
    reader = ReplyReader()
    reply = None
    for piece in pieces:
        reply = reader.receive(piece)
    return reply


def test_a_request_is_written_in_one_piece() -> None:
    head = encode_head("h:1", "/sql", (("A", "b"), ("C", "d")))
    assert encode_request(head, b"{}") == (
        b"POST /sql HTTP/1.1\r\nHost: h:1\r\nA: b\r\nC: d\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert encode_request(head, b"{}", expect=True).endswith(b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "b\r\nX: y"), ("A", "b\nX"), ("A", "\0"), ("A\r\nB", "c"), ("", "x"), ("A:", "x"), ("A B", "x"), ("A", "€")],
)
def test_a_header_cannot_smuggle_another(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"header|latin-1"):
        encode_head("h", "/sql", ((name, value),))


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (LENGTH, Reply(400, {"x-a": "1, 2", "content-length": "5"}, b"hello", True)),
        (CONTINUED, Reply(400, {"x-a": "1, 2", "content-length": "5"}, b"hello", True)),
        (CHUNKED, Reply(200, {"transfer-encoding": "chunked"}, b"ab\r\n0123456789", True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Reply(204, {}, b"", True)),
        (
            b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
            Reply(200, {"connection": "Close", "content-length": "0"}, b"", False),
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", Reply(200, {"content-length": "1"}, b"a", False)),
        (
            b"HTTP/1.1 200\r\nContent-Length: 2, 2\r\n\r\nab",
            Reply(200, {"content-length": "2, 2"}, b"ab", True),
        ),
    ],
)
def test_a_reply_is_read_whole_and_byte_by_byte(data: bytes, reply: Reply) -> None:
    assert read(data) == reply
    assert read(*[data[i : i + 1] for i in range(len(data))]) == reply


@given(st.sampled_from([LENGTH, CONTINUED, CHUNKED]), st.lists(st.integers(0, 140), max_size=6))
def test_a_reply_is_the_same_wherever_it_is_split(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if a < b]
    assert read(*pieces) == read(data)


@given(st.sampled_from([LENGTH, CONTINUED, CHUNKED]), st.integers(0, 140))
def test_a_reply_that_ends_early_is_cut(data: bytes, end: int) -> None:
    reader = ReplyReader()
    if end < len(data):
        assert reader.receive(data[:end]) is None
        with pytest.raises(Cut):
            reader.end()


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    reader = ReplyReader()
    assert reader.receive(b"HTTP/1.1 200 OK\r\n\r\nab") is None
    assert reader.receive(b"cd") is None
    assert reader.end() == Reply(200, {}, b"abcd", False)


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    reply = read(LENGTH + b"HTTP/1.1 ")
    assert reply is not None
    assert not reply.keep_alive


def test_an_interim_reply_is_told_before_the_final_one() -> None:
    reader = ReplyReader()
    assert reader.receive(b"HTTP/1.1 100 Continue\r\n\r\n") is None
    assert reader.interim
    assert not reader.begun
    assert reader.receive(b"H") is None
    assert reader.begun
    reply = reader.receive(LENGTH[1:])
    assert reply is not None
    assert not reader.interim


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"E\x00\x00\x00\x85SFATAL\x00",
        b"\x15\x03\x01\x00\x02\x02",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\n" + b"a" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttp):
        read(data)
