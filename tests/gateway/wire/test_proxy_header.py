"""The PROXY protocol's header, as HAProxy's proxy-protocol.txt has it."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.proxy_header import Told, decode_proxy_header

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
IPV4 = SIGNATURE + b"\x21\x11\x00\x0c" + b"\xcb\x00\x71\x09" + b"\x7f\x00\x00\x01" + b"\xdc\x04\x01\xbb"
IPV6 = SIGNATURE + b"\x21\x21\x00\x24" + bytes(15) + b"\x01" + bytes(16) + b"\xdc\x04\x01\xbb"
HEADERS = [
    (b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n", "203.0.113.9"),
    (b"PROXY TCP6 2001:db8::9 ::1 56324 443\r\n", "2001:db8::9"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", ""),
    (IPV4, "203.0.113.9"),
    (IPV6, "::1"),
    (SIGNATURE + b"\x20\x00\x00\x00", ""),  # LOCAL: a health check
    (SIGNATURE + b"\x21\x00\x00\x00", ""),  # UNSPEC
    (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), ""),  # a Unix socket
    (SIGNATURE + b"\x21\x11\x00\x10" + IPV4[16:] + b"\x04\x00\x01\x00", "203.0.113.9"),  # with an extension
]


@pytest.mark.parametrize(("header", "peer"), HEADERS)
def test_the_peer_is_told_and_what_follows_is_left(header: bytes, peer: str) -> None:
    assert decode_proxy_header(header) == Told(peer, len(header))
    assert decode_proxy_header(header + b"POST /sql") == Told(peer, len(header))


@pytest.mark.parametrize(("header", "peer"), HEADERS)
def test_it_may_come_in_any_pieces(header: bytes, peer: str) -> None:
    assert all(decode_proxy_header(header[:end]) is None for end in range(1, len(header)))


@pytest.mark.parametrize(
    "data",
    [
        b"POST /sql HTTP/1.1\r\n",
        b"\x16\x03\x01",  # TLS
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # Postgres's SSLRequest
        b"PROXY TCP4 203.0.113.9 127.0.0.1 56324\r\n",
        b"PROXY TCP4 203.0.113.999 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY UDP4 203.0.113.9 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\n",
        b"PROXY " + b"x" * 120,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1 of the binary form
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # an unknown command
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),  # too short for its addresses
        SIGNATURE + b"\x21\x11\xff\xff",  # 64 KiB of extensions
    ],
)
def test_what_is_no_header_is_refused_as_soon_as_that_is_clear(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_proxy_header(data)
