"""Peers' addresses: what is the same one is equal, however it is told."""

from ipaddress import ip_address

import pytest

from sqlhttp_gateway.auth.peer import address_of


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_address_is_what_it_means_and_not_how_it_is_told(told: str, meant: str) -> None:
    assert address_of(told) == ip_address(meant)


@pytest.mark.parametrize("told", ["", "unix", "192.0.2.300", "%eth0"])
def test_what_is_no_address_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        address_of(told)
