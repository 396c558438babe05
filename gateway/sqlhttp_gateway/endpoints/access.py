"""Who may see how the gateway does. Not about statements: those prove a role's password, wherever they come from.

A browser on this machine has this machine's address whatever page it shows. A page's own name can be made to mean
127.0.0.1 (DNS rebinding), and what it then fetches is to the browser the page's own. Only the Host tells.
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sqlhttp_gateway.auth.peer import address_of
from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.settings import ListenSettings

FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""A request with one of these came through a proxy, so that its peer's address says nothing of who asks."""

_LOCAL_NAMES = re.compile(r"(?:.*\.)?localhost\.?|[^.:]+|[\d.]+|\[.*\]", re.IGNORECASE)
"""Hosts by which a program reaches its own machine: addresses, and names of one label, which no stranger can have."""

ADMIN_SOCKET = "sqlhttp.admin_socket"
"""Key in the scope of a request on the admin address: whether it came over its Unix socket."""


class Access:
    """The networks from which /metrics and /status may be read."""

    def __init__(self, allow_from: Iterable[str], peers: Peers | None = None) -> None:
        """`peers` knows which proxies are believed; without it, none is."""
        self._peers = peers or Peers(ListenSettings())
        self.reconfigure(allow_from)

    def reconfigure(self, allow_from: Iterable[str]) -> None:
        """Other networks."""
        self._networks = [ip_network(network) for network in allow_from]

    def refusal(self, request: Request) -> Response | None:
        """What to answer instead of what was asked; None for those who may."""
        if request.scope.get(ADMIN_SOCKET):
            return None  # the socket's mode has said so
        address = self._address(request)
        if address is None or not any(address in network for network in self._networks):
            return JSONResponse({"message": "not from this address (admin.allow_from)"}, status_code=403)
        if address.is_loopback and not _is_local(request.headers.get("host", "")):
            message = "on this machine ask by localhost or an address: the Host could be any page's"
            return JSONResponse({"message": message}, status_code=403)
        return None

    def _address(self, request: Request) -> IPv4Address | IPv6Address | None:
        """Who asks; None where that cannot be known."""
        direct = request.client.host if request.client is not None else ""
        if any(name in request.headers for name in FORWARDING) and not self._peers.trusts(direct):
            return None
        try:
            return address_of(self._peers.of_scope(request.scope))
        except ValueError:
            return None


def _is_local(host: str) -> bool:
    """Whether a Host, with or without a port, means this machine to this machine alone."""
    name = re.sub(r":\d*$", "", host.strip())
    return not name or _LOCAL_NAMES.fullmatch(name) is not None or name.lower() == socket.gethostname().lower()
