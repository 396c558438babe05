"""What credentials other than a role's own password allow: as whom the gateway logs in, and within which bounds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

from sqlhttp_gateway.auth.peer import address_of
from sqlhttp_gateway.errors import PlaceRefused
from sqlhttp_gateway.model import Allowance


@dataclass(frozen=True, slots=True)
class Grant:
    """The bounds of one key or token. Neither `repr` nor an error shows the password or the claims."""

    tenant: str
    """Whom limits and logs count by: `key:ID`, or `jwt:ISSUER:SUBJECT`."""
    password: bytes = field(default=b"", repr=False)
    """The role's, which the gateway holds."""
    expires_at: float | None = None
    """Unix time after which it is over."""
    read_only: bool = False
    origins: tuple[str, ...] = ()
    """Pages that may use it; empty: anybody."""
    addresses: tuple[str, ...] = ()
    """Addresses it may come from; empty: everywhere."""
    statements: frozenset[bytes] | None = None
    """SHA-256 digests of the only statements that may run; None: any."""
    allowance: Allowance | None = None
    """What its tenant may take, as far as the key or the issuer says."""
    claims: bytes | None = field(default=None, repr=False)
    """The token's claims as a JSON object."""
    set_role: str | None = None
    """The role to become in every transaction, where the gateway logs in as another one; None: the pool's own."""

    @property
    def needs_prologue(self) -> bool:
        """Whether a statement of this caller may only run behind something that the gateway runs first."""
        return self.read_only or self.is_personal

    @property
    def is_personal(self) -> bool:
        """Whether its holder is one of several users of the role that the gateway logs in as."""
        return self.claims is not None or self.set_role is not None

    def admit(self, *, peer: str, origin: str | None) -> None:
        """Let a request from `peer`, sent by a page of `origin`, pass.

        Raises:
            PlaceRefused: it may not come from there.
        """
        if self.addresses and not address_allowed(self.addresses, peer):
            raise PlaceRefused(f"this IP address {peer or '(unknown)'} is not allowed to connect")
        if self.origins and not origin_allowed(self.origins, origin):
            raise PlaceRefused("this origin is not allowed to connect")


def address_allowed(entries: Iterable[str], peer: str) -> bool:
    """Whether one of `entries` covers `peer`: an address, a network `a/b` or a range `a-b`, both ends included.

    An entry that is none of these covers nothing and leaves the others as they are, as in Neon's allow-list.
    """
    try:
        address = address_of(peer)
    except ValueError:
        return False
    return any(_covers(entry.strip(), address) for entry in entries)


def _covers(entry: str, address: IPv4Address | IPv6Address) -> bool:
    first, dash, last = entry.partition("-")
    try:
        if dash:
            low, high = address_of(first.strip()), address_of(last.strip())
            return low.version == high.version == address.version and int(low) <= int(address) <= int(high)
        network: IPv4Network | IPv6Network = ip_network(entry, strict=False)
        return address in network
    except ValueError:
        return False


def origin_allowed(allowed: Iterable[str], origin: str | None) -> bool:
    """Whether `origin` is one of `allowed`, where `https://*.example.com` stands for every name below it.

    A request without an origin comes from no page; it is not allowed where pages are named.
    """
    if origin is None:
        return False
    for entry in allowed:
        if entry == origin:
            return True
        scheme, separator, host = entry.partition("://*.")
        if separator:
            try:
                parts = urlsplit(origin)
            except ValueError:  # half an IPv6 address
                return False
            if parts.scheme == scheme and parts.netloc.endswith(f".{host}") and "@" not in parts.netloc:
                return True
    return False
