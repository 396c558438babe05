"""Who a program is by its address, also behind proxies; and which addresses may use the gateway at all.

A proxy's word is taken only if the proxy is in `listen.trusted_proxies`. Of a chain of proxies the rightmost address
that is none of theirs counts: whatever stands further left, anybody can have written.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from sqlhttp_gateway.auth.grant import address_allowed
from sqlhttp_gateway.errors import PlaceRefused
from sqlhttp_gateway.settings import ListenSettings

UNIX = "unix"
"""Stands among the trusted proxies for those on a Unix socket."""
UNKNOWN = "unknown"
"""In place of an address that a proxy could not name, or hides: in no network, so that no list of addresses has it."""
_SEPARATOR = ","


class Peers:
    """`listen.trusted_proxies`, `listen.forwarded_header` and `listen.allow_from`."""

    def __init__(self, settings: ListenSettings) -> None:
        self.reconfigure(settings)

    def reconfigure(self, settings: ListenSettings) -> None:
        """Go by these settings from now on."""
        self._trusted = settings.trusted_proxies
        self._allowed = settings.allow_from
        self.header = settings.forwarded_header.encode()
        """The one header that is read, in lower case."""
        self._is_forwarded = settings.forwarded_header == "forwarded"
        self.are_usual = not self._trusted and not self._allowed
        """Every peer is who its connection says, and may come in."""

    def trusts(self, peer: str) -> bool:
        """Whether what `peer` says of others is believed; empty is whoever came over a Unix socket."""
        if not peer:
            return UNIX in self._trusted
        return bool(self._trusted) and address_allowed(self._trusted, peer)

    def behind(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """The address of the program whose request came from `peer`; UNKNOWN when that cannot be known."""
        told = headers.get(self.header)
        if told is None or not self.trusts(peer):
            return peer
        hops = told.decode("latin-1").split(_SEPARATOR)
        for hop in reversed(hops):
            address = _of_forwarded(hop) if self._is_forwarded else _address(hop)
            if not address:
                return UNKNOWN
            peer = address
            if not self.trusts(peer):
                break
        return peer

    def admit(self, peer: str) -> None:
        """Let a program from this address in. Who came over a Unix socket was let in by its mode.

        Raises:
            PlaceRefused: it is not in `listen.allow_from`.
        """
        if self._allowed and peer and not address_allowed(self._allowed, peer):
            raise PlaceRefused(
                f"this IP address {peer} is not allowed to connect", hint="Name it in listen.allow_from."
            )

    def of_scope(self, scope: Mapping[str, Any]) -> str:
        """The address of the program of an ASGI scope."""
        client: tuple[str, int] | None = scope.get("client")
        peer = client[0] if client else ""
        if self.are_usual:
            return peer
        return self.behind(peer, joined(scope["headers"], self.header))


def joined(headers: list[tuple[bytes, bytes]], name: bytes) -> dict[bytes, bytes]:
    """The header `name` alone, its values in order as if it had come once (RFC 9110, 5.3)."""
    values = [value for key, value in headers if key == name]
    return {name: b",".join(values)} if values else {}


def _of_forwarded(element: str) -> str:
    """The address in `for=…` of one element (RFC 7239)."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return _address(value.strip().strip('"'))
    return ""


def _address(text: str) -> str:
    """An address, with or without a port; empty for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
