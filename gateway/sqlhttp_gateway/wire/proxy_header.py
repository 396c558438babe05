"""The PROXY protocol, versions 1 and 2: for whom a proxy has made a connection, told before anything else on it.

The source is HAProxy's doc/proxy-protocol.txt. Only the address of who connected is read; of the extensions of version
2 none is. Whose word is taken is not decided here.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from sqlhttp_gateway.errors import RemoteProtocolError

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD_BYTES = 16
_LONGEST_LINE = 107
"""Bytes of version 1's line, its end included."""
_MOST_BYTES = 4096
"""Bytes of version 2 with its extensions; the protocol allows 65,551, nobody sends more than some hundreds."""
_LINE = re.compile(rb"PROXY (?:UNKNOWN[^\r\n]*|TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n")
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 and its command: of the proxy's own account, such as a health check; or for somebody."""
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
"""Bytes of an address by family and transport: TCP over IPv4, TCP over IPv6."""


class Told(NamedTuple):
    """What the header says."""

    peer: str
    """The address of who connected; empty when the connection is the proxy's own, or it does not know."""
    length: int
    """Bytes of the header; what follows is the program's."""


def decode_proxy_header(data: bytes) -> Told | None:
    """The header at the beginning of `data`; None when there is more to come.

    Raises:
        RemoteProtocolError: there is none, or it is not as it must be.
    """
    if data.startswith(b"PROXY "[: len(data)]) and data[:1] == b"P":
        return _decode_line(data)
    if data.startswith(_SIGNATURE[: len(data)]):
        return _decode_binary(data)
    raise RemoteProtocolError("a connection from a trusted proxy did not begin with the PROXY protocol")


def _decode_line(data: bytes) -> Told | None:
    end = data.find(b"\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise RemoteProtocolError("the line of the PROXY protocol has no end")
        return None
    match = _LINE.fullmatch(data, 0, end + 1)
    if match is None:
        raise RemoteProtocolError("the line of the PROXY protocol is malformed")
    if match[1] is None:
        return Told("", end + 1)
    try:
        peer = ip_address(match[2].decode("ascii"))
    except ValueError:
        raise RemoteProtocolError("the line of the PROXY protocol has no address") from None
    if peer.version != int(match[1]):
        raise RemoteProtocolError("the line of the PROXY protocol has an address of another family than it says")
    return Told(str(peer), end + 1)


def _decode_binary(data: bytes) -> Told | None:
    if len(data) < _HEAD_BYTES:
        return None
    command, family = data[12], data[13]
    length = _HEAD_BYTES + int.from_bytes(data[14:16], "big")
    if command not in {_LOCAL, _PROXY} or length > _MOST_BYTES:
        raise RemoteProtocolError("the header of the PROXY protocol is malformed")
    if len(data) < length:
        return None
    size = _ADDRESS_BYTES.get(family)
    if command == _LOCAL or size is None:  # of a family that cannot be told, as UNSPEC or a Unix socket
        return Told("", length)
    if length < _HEAD_BYTES + 2 * size + 4:
        raise RemoteProtocolError("the header of the PROXY protocol is too short for its addresses")
    raw = data[_HEAD_BYTES : _HEAD_BYTES + size]
    return Told(str(IPv4Address(raw) if size == 4 else IPv6Address(raw)), length)
