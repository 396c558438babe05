"""From where a key or token may be used, and that it keeps its secrets."""

import pytest

from sqlhttp_gateway.auth.grant import Grant, address_allowed, origin_allowed
from sqlhttp_gateway.errors import PlaceRefused


@pytest.mark.parametrize(
    "entries",
    [["127.0.0.1"], ["127.0.0.0/31"], ["127.0.0.2/30"], ["0.0.0.0-200.0.1.2"], ["88.8.8", "127.0.0.1"], ["127.0.0.1 "]],
)
def test_address_is_covered_by_itself_a_network_or_a_range(entries: list[str]) -> None:
    assert address_allowed(entries, "127.0.0.1")
    assert address_allowed(entries, "::ffff:127.0.0.1")


@pytest.mark.parametrize(
    "entries", [["8.8.8.8"], ["200.0.1.2-0.0.0.0"], ["88.8.8"], ["::/0"], ["::1-::2"], ["-"], [""]]
)
def test_other_addresses_and_entries_that_are_none_cover_nothing(entries: list[str]) -> None:
    assert not address_allowed(entries, "127.0.0.1")


@pytest.mark.parametrize("peer", ["", "unix", "127.0.0.1, 10.0.0.1", "0x7f.1"])
def test_peer_without_a_readable_address_is_not_covered(peer: str) -> None:
    assert not address_allowed(["0.0.0.0/0", "::/0"], peer)


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://app.example", "https://app.example", True),
        ("https://app.example", "http://app.example", False),
        ("https://app.example", "https://app.example.evil.example", False),
        ("https://app.example", "null", False),
        ("https://app.example", None, False),
        ("https://*.app.example", "https://one.app.example", True),
        ("https://*.app.example", "https://app.example", False),
        ("https://*.app.example", "https://evilapp.example", False),
        ("https://*.app.example", "http://one.app.example", False),
        ("https://*.app.example", "https://evil.example#.app.example", False),
        ("https://*.app.example", "https://evil.example/.app.example", False),
        ("https://*.app.example", "https://evil.example@one.app.example", False),
        ("https://*.app.example", "https://[one.app.example", False),
    ],
)
def test_origin_is_allowed_exactly_or_below_a_wildcard(allowed: str, origin: str | None, expected: bool) -> None:
    assert origin_allowed([allowed], origin) is expected


def test_grant_without_places_admits_everybody() -> None:
    for peer, origin in (("", None), ("10.0.0.1", None), ("10.0.0.1", "https://evil.example"), ("", "null")):
        assert admits(Grant("key:1", b""), peer, origin)


def test_grant_with_places_admits_who_is_in_them() -> None:
    grant = Grant("key:1", b"", addresses=("127.0.0.1",), origins=("https://app.example",))
    assert admits(grant, "127.0.0.1", "https://app.example")
    assert not admits(grant, "127.0.0.1", "https://evil.example")
    assert not admits(grant, "10.0.0.1", "https://app.example")


def admits(grant: Grant, peer: str, origin: str | None) -> bool:
    try:
        grant.admit(peer=peer, origin=origin)
    except PlaceRefused:
        return False
    return True


def test_grant_with_addresses_names_the_peer_that_is_not_allowed_to_connect() -> None:
    with pytest.raises(PlaceRefused, match=r"10\.0\.0\.1 is not allowed to connect"):
        Grant("key:1", b"", addresses=("127.0.0.1",)).admit(peer="10.0.0.1", origin=None)


def test_grant_with_origins_refuses_a_request_that_comes_from_no_page() -> None:
    with pytest.raises(PlaceRefused, match="not allowed to connect"):
        Grant("key:1", b"", origins=("https://app.example",)).admit(peer="", origin=None)


def test_repr_shows_neither_password_nor_claims() -> None:
    shown = repr(Grant("key:1", b"hunter2", claims=b'{"sub":"ann"}'))
    assert "hunter2" not in shown
    assert "ann" not in shown
