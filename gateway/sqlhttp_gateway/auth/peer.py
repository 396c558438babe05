"""The address of whoever is at the other end of a connection, as it is compared."""

from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(text: str) -> IPv4Address | IPv6Address:
    """An address as a socket or a proxy tells it: an IPv6 one may name its interface, and an IPv4 peer looks like an
    IPv6 one on a socket of that kind.

    Raises:
        ValueError: it is none.
    """
    address = ip_address(text.partition("%")[0])
    mapped: IPv4Address | None = getattr(address, "ipv4_mapped", None)
    return mapped or address
