import socket

import pytest
from starlette.requests import Request

from sqlhttp_gateway.endpoints.access import Access
from sqlhttp_gateway.settings import AdminSettings, Settings

DEFAULT = AdminSettings().allow_from


def may(peer: str | None, allow_from: tuple[str, ...] = DEFAULT, **headers: str) -> bool:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "client": (peer, 40000) if peer is not None else None}
    refusal = Access(allow_from).refusal(Request(scope))
    assert refusal is None or refusal.status_code == 403
    return refusal is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_by_default(peer: str) -> None:
    assert may(peer)


@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "fe80::1%eth0", "testclient", "", None])
def test_nobody_else_may_by_default(peer: str | None) -> None:
    assert not may(peer)


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip", "via"])
def test_proxy_on_this_machine_does_not_open_the_door_to_the_world(header: str) -> None:
    assert not may("127.0.0.1", **{header: "203.0.113.9"})


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_page_whose_name_was_made_to_mean_this_machine_does_not_see_it(peer: str) -> None:
    for host in (
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example.",
    ):
        assert not may(peer, host=host)
    for host in (
        "127.0.0.1:8080",
        "[::1]:8080",
        "[::1]",
        "localhost",
        "LOCALHOST:8080",
        "gateway.localhost",
        "db:8080",
    ):
        assert may(peer, host=host)
    assert may(peer, host=f"{socket.gethostname()}:8080")


def test_machine_that_was_named_may_ask_by_any_name() -> None:
    assert may("10.20.30.40", ("10.0.0.0/8",), host="gateway.svc.example:8080")


def test_network_that_was_named_may_and_then_only_that() -> None:
    assert may("10.20.30.40", ("10.0.0.0/8",))
    assert may("fd00::7", ("10.0.0.0/8", "fd00::/8"))
    assert not may("127.0.0.1", ("10.0.0.0/8",))


def test_setting_that_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        Settings(admin={"allow_from": ["10.0.0.1/8"]})  # type: ignore[arg-type]  # as from a file
