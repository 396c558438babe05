"""The addresses: bound before anything is served, each fault one message, and nothing left behind."""

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from sqlhttp_gateway.errors import AddressUnavailable, ConfigurationError
from sqlhttp_gateway.settings import AdminSettings, ListenSettings, Settings
from sqlhttp_gateway.sockets import Sockets, address, bind, bind_all, unix_socket
from tests.support.gateway import free_port

SHARES_PORTS = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT spreads load on Linux")


def test_a_port_in_use_is_said_with_every_way_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable) as refused:
            bind(ListenSettings(port=port))
    text = str(refused.value)
    assert f"port {port} is in use" in text
    for way in ("listen.port", "SQLHTTP_LISTEN__PORT", "--port", "make run PORT="):
        assert way in text


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a..b"])
def test_an_address_that_is_not_this_machines_is_said(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.host") as refused:
        bind(ListenSettings(host=host, port=0))
    assert isinstance(refused.value, AddressUnavailable) == (host == "192.0.2.1"), "it may yet become so"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on every port")
def test_a_port_that_only_root_may_have_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.port: .*1024"):
        bind(ListenSettings(port=1))


def test_port_0_is_one_that_the_system_chooses() -> None:
    [bound] = bind(ListenSettings(port=0))
    with bound:
        assert address(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert not address(bound).endswith(":0")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_with_brackets() -> None:
    [bound] = bind(ListenSettings(host="::1", port=0))
    with bound:
        assert address(bound).startswith("http://[::1]:")


@SHARES_PORTS
def test_workers_get_a_socket_each_on_one_port_which_a_second_gateway_cannot_join() -> None:
    sockets = bind(ListenSettings(port=0, workers=3))
    try:
        [port] = {bound.getsockname()[1] for bound in sockets}
        assert len({bound.fileno() for bound in sockets}) == 3
        with pytest.raises(ConfigurationError, match="in use"):
            bind(ListenSettings(port=port, workers=3))
    finally:
        for bound in sockets:
            bound.close()


def all_of(listen: ListenSettings, admin: AdminSettings | None = None) -> Settings:
    return Settings(listen=listen, admin=admin or AdminSettings())


@SHARES_PORTS
def test_every_worker_has_its_own_ports_and_all_share_the_unix_sockets(tmp_path: Path) -> None:
    listen = ListenSettings(port=0, workers=2, unix_socket=tmp_path / "http", postgres=free_port(),
                            postgres_socket_directory=tmp_path)  # fmt: skip
    with bind_all(all_of(listen, AdminSettings(port=0, unix_socket=tmp_path / "admin"))) as [one, other]:
        assert one.http.getsockname() == other.http.getsockname()
        assert one.admin is not None
        assert other.admin is not None
        assert one.admin.getsockname() == other.admin.getsockname() != one.http.getsockname()
        assert one.postgres is not None
        assert other.postgres is not None
        assert one.postgres is not other.postgres
        assert one.postgres.getsockname() == other.postgres.getsockname() == ("127.0.0.1", listen.postgres)
        assert one.postgres_unix is other.postgres_unix
        assert one.http_unix is other.http_unix
        assert sorted(path.name for path in tmp_path.iterdir()) == [f".s.PGSQL.{listen.postgres}", "admin", "http"]
        everything = [*one, *other]
    assert all(bound is None or bound.fileno() == -1 for bound in everything)
    assert not list(tmp_path.iterdir())


def test_a_taken_port_of_the_tcp_door_is_said_with_its_own_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError) as refused,
            bind_all(all_of(ListenSettings(port=0, postgres=port))),
        ):
            pass
    text = str(refused.value)
    assert f"listen.postgres: 127.0.0.1 port {port} is in use" in text
    assert text.endswith("SQLHTTP_LISTEN__POSTGRES, or postgres under [listen] in the settings file.")


def test_two_doors_on_one_port_are_refused() -> None:
    """One of them would have listened, and the other been deaf without a word."""
    port = free_port()
    for twice in (
        all_of(ListenSettings(port=port, postgres=port)),
        all_of(ListenSettings(port=port), AdminSettings(port=port)),
    ):
        with pytest.raises(ConfigurationError, match=f"port {port} is in use"), bind_all(twice):
            pass


def test_a_taken_admin_port_is_said_and_nothing_stays_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = AdminSettings(port=taken.getsockname()[1])
        with (
            pytest.raises(ConfigurationError, match=r"admin\.port: .* in use .*SQLHTTP_ADMIN__PORT"),
            bind_all(all_of(ListenSettings(port=0, unix_socket=tmp_path / "http"), admin)),
        ):
            pass
    assert not list(tmp_path.iterdir())


# ── Unix sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o600, 0o777])
def test_a_unix_socket_has_the_mode_that_is_set_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o027)
    try:
        with unix_socket("x", tmp_path / "s", mode=mode):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    finally:
        assert os.umask(before) == 0o027


def test_a_socket_that_nobody_listens_on_any_more_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "s"))
    left.close()
    with unix_socket("x", tmp_path / "s", mode=0o700):
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(str(tmp_path / "s"))
        with pytest.raises(ConfigurationError, match="in use"), unix_socket("x", tmp_path / "s", mode=0o700):
            pass


def test_a_socket_that_another_gateway_has_made_since_is_left_to_it(tmp_path: Path) -> None:
    with unix_socket("x", tmp_path / "s", mode=0o700):
        (tmp_path / "s").rename(tmp_path / "old")
        (tmp_path / "s").touch()
    assert (tmp_path / "s").exists()


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConfigurationError, match=r"listen\.unix_socket: .*no socket"):
        unix_socket("listen.unix_socket", tmp_path / "s", mode=0o700).__enter__()
    assert (tmp_path / "s").read_text() == "precious"


def test_a_path_that_is_too_long_or_leads_nowhere_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="107 bytes"):
        unix_socket("x", tmp_path / ("s" * 108), mode=0o700).__enter__()
    with pytest.raises(ConfigurationError, match="No such file"):
        unix_socket("x", tmp_path / "no" / "s", mode=0o700).__enter__()


def test_closed_sockets_take_nobody() -> None:
    [bound] = bind(ListenSettings(port=0))
    sockets = Sockets(bound)
    sockets.close()
    assert bound.fileno() == -1
