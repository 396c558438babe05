"""Who may see how the gateway does. Not about statements: those prove a role's password, wherever they come from."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.settings import ListenSettings

FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""A request with one of these came through a proxy, so that its peer's address says nothing of who asks."""

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
        if self._admits(request):
            return None
        return JSONResponse({"message": "not from this address (admin.allow_from)"}, status_code=403)

    def _admits(self, request: Request) -> bool:
        if request.scope.get(ADMIN_SOCKET):
            return True  # the socket's mode has said so
        direct = request.client.host if request.client is not None else ""
        if any(name in request.headers for name in FORWARDING) and not self._peers.trusts(direct):
            return False
        try:
            peer = ip_address(self._peers.of_scope(request.scope).partition("%")[0])  # IPv6 may name its interface
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)  # how an IPv4 peer looks on an IPv6 socket
        return any((mapped or peer) in network for network in self._networks)
