"""Who a program is by its address: a proxy's word counts only where the proxy is trusted."""

import pytest

from sqlhttp_gateway.endpoints.peers import UNKNOWN, Peers, joined
from sqlhttp_gateway.errors import PlaceRefused
from sqlhttp_gateway.settings import ListenSettings

PROXIES = ("10.0.0.0/8", "2001:db8:1::/48")


def behind(peer: str, value: str | None, *, trusted: tuple[str, ...] = PROXIES, header: str = "x-forwarded-for") -> str:
    peers = Peers(ListenSettings.model_validate({"trusted_proxies": trusted, "forwarded_header": header}))
    return peers.behind(peer, {header.encode(): value.encode()} if value is not None else {})


@pytest.mark.parametrize(
    ("peer", "value", "program"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # not trusted, so not believed
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the left one was sent by the program itself
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # all are ours: the program is one of us
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9"),
        ("10.0.0.1", "2001:db8::9", "2001:db8::9"),
        ("2001:db8:1::5", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "unknown", UNKNOWN),
        ("10.0.0.1", "203.0.113.9, nonsense", UNKNOWN),
        ("10.0.0.1", "", UNKNOWN),
        ("", "203.0.113.9", ""),  # a Unix socket that is not trusted
    ],
)
def test_the_rightmost_address_that_is_no_proxys_counts(peer: str, value: str | None, program: str) -> None:
    assert behind(peer, value) == program


def test_a_proxy_on_a_unix_socket_is_believed_where_that_is_said() -> None:
    assert behind("", "203.0.113.9", trusted=("unix",)) == "203.0.113.9"


@pytest.mark.parametrize(
    ("value", "program"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('For="[2001:db8::9]:4711";proto=https', "2001:db8::9"),
        ("for=198.51.100.1, proto=http;for=203.0.113.9;by=10.0.0.1", "203.0.113.9"),
        ("for=_hidden", UNKNOWN),
        ("proto=https", UNKNOWN),
    ],
)
def test_forwarded_is_read_where_the_proxies_write_that(value: str, program: str) -> None:
    assert behind("10.0.0.1", value, header="forwarded") == program


def test_only_the_one_header_is_read_that_the_proxies_write() -> None:
    peers = Peers(ListenSettings(trusted_proxies=PROXIES))
    assert peers.behind("10.0.0.1", {b"forwarded": b"for=198.51.100.1"}) == "10.0.0.1"


def test_a_header_that_comes_in_several_lines_is_one() -> None:
    """HAProxy adds a line of its own below whatever the program sent."""
    lines = [(b"x-forwarded-for", b"203.0.113.9"), (b"host", b"x"), (b"x-forwarded-for", b"10.0.0.2")]
    found = joined(lines, b"x-forwarded-for")
    assert Peers(ListenSettings(trusted_proxies=PROXIES)).behind("10.0.0.1", found) == "203.0.113.9"
    assert joined([(b"host", b"x")], b"x-forwarded-for") == {}


def test_an_address_that_is_not_on_the_list_may_not_come_in() -> None:
    peers = Peers(ListenSettings(allow_from=("192.0.2.0/24",)))
    assert not peers.are_usual
    peers.admit("192.0.2.7")
    peers.admit("")  # a Unix socket, whose mode has let it in
    with pytest.raises(PlaceRefused, match=r"203\.0\.113\.9 is not allowed to connect"):
        peers.admit("203.0.113.9")
    peers.reconfigure(ListenSettings())
    peers.admit("203.0.113.9")
    assert peers.are_usual


@pytest.mark.parametrize(
    "wrong",
    [
        {"trusted_proxies": ("10.0.0.1/8",)},
        {"allow_from": ("unix",)},
        {"allow_from": ("somewhere",)},
        {"proxy_protocol": ("http",)},
    ],
)
def test_lists_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"host bits|does not appear|needs trusted_proxies"):
        ListenSettings.model_validate(wrong)


def test_somebody_whom_the_proxy_cannot_name_is_not_let_in_where_addresses_are_listed() -> None:
    peers = Peers(ListenSettings(trusted_proxies=PROXIES, allow_from=("0.0.0.0/0", "::/0")))
    with pytest.raises(PlaceRefused):
        peers.admit(peers.behind("10.0.0.1", {b"x-forwarded-for": b"unknown"}))
