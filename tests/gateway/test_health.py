"""`sqlhttp health`: asked wherever the gateway listens, in the way that address wants it."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sqlhttp_gateway.cli import main
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.health import Address, address_of
from sqlhttp_gateway.settings import load_settings
from tests.support.certificates import Authority
from tests.support.gateway import Gateway, free_port

Start = Callable[..., Gateway]
NOWHERE = "postgres://app:secret@127.0.0.1:9/main"


def asked(*arguments: str, **sections: dict[str, Any]) -> int:
    """The exit status, with settings by section."""
    given = [f"{section}.{name}={value}" for section, names in sections.items() for name, value in names.items()]
    patience = [] if "--timeout" in arguments else ["--timeout", "30"]
    return main(["health", *patience, *arguments, *(word for each in given for word in ("--set", each))])


def test_gateway_that_runs_lives_and_one_that_is_not_there_does_not(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(listen={"port": gateway.port}) == 0
    assert capsys.readouterr().out == f'127.0.0.1 port {gateway.port}: 200 {{"status":"live"}}\n'
    assert asked("--ready", listen={"port": gateway.port}) == 0
    port = free_port()
    assert asked(listen={"port": port}) == 1
    assert f"127.0.0.1 port {port}: " in capsys.readouterr().out


def test_gateway_without_postgres_lives_and_is_not_ready(start_gateway: Start) -> None:
    port = start_gateway(database_url=NOWHERE).port
    assert asked(listen={"port": port}) == 0
    assert asked("--ready", listen={"port": port}) == 1


def test_gateway_with_tls_is_asked_by_tls(start_gateway: Start, tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    tls = {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    gateway = start_gateway(listen={"port": 0, **tls})
    assert asked(listen={"port": gateway.port, **tls}) == 0
    assert asked(listen={"port": gateway.port}) == 1  # what the settings say counts, and in clear it is not answered
    assert asked(listen={"port": gateway.port, **tls, "https": "false"}) == 1


def test_trusted_address_begins_with_the_proxy_protocol_also_in_front_of_tls(
    start_gateway: Start, tmp_path: Path
) -> None:
    files = Authority(tmp_path).issue()
    tls = {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    for more in ({}, tls):
        for trusted, expected in (("127.0.0.0/8", 0), ("192.0.2.1", 0)):
            proxied = {"proxy_protocol": ("http",), "trusted_proxies": (trusted,)}
            port = start_gateway(listen={"port": 0, **proxied, **more}).port
            told = {"proxy_protocol": '["http"]', "trusted_proxies": f'["{trusted}"]'}
            assert asked(listen={"port": port, **told, **more}) == expected


@pytest.mark.parametrize("section", ["admin", "listen"])
def test_unix_socket_is_asked_where_there_is_one(start_gateway: Start, tmp_path: Path, section: str) -> None:
    path = tmp_path / "http.sock"
    start_gateway(**{"listen": {"port": 0}, section: {"port": 0 if section == "listen" else None, "unix_socket": path}})
    assert asked(**{section: {"unix_socket": str(path)}}) == 0
    assert asked(**{section: {"unix_socket": str(tmp_path / "other.sock")}}) == 1


def test_whoever_accepts_and_does_not_answer_does_not_live(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asked("--timeout", "0.05", listen={"port": silent.getsockname()[1]}) == 1
    assert "timed out" in capsys.readouterr().out


def test_whoever_answers_no_http_does_not_live() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            connection.sendall(b"no HTTP at all\r\n")
            connection.close()

        answering = threading.Thread(target=answer)
        answering.start()
        assert asked(listen={"port": other.getsockname()[1]}) == 1
        answering.join()


ADDRESSES: dict[str, tuple[dict[str, Any], Address]] = {
    "the HTTP port": ({}, Address(("127.0.0.1", 4444))),
    "every IPv4 address": ({"listen": {"host": "0.0.0.0"}}, Address(("127.0.0.1", 4444))),
    "every IPv6 address": ({"listen": {"host": "::"}}, Address(("::1", 4444))),
    "one of several": ({"listen": {"host": "10.0.0.7", "port": 80}}, Address(("10.0.0.7", 80))),
    "the operator's port": ({"admin": {"port": 9127}, "listen": {"unix_socket": "/s"}}, Address(("127.0.0.1", 9127))),
    "the operator's socket": ({"admin": {"port": 9127, "unix_socket": "/a"}}, Address(Path("/a"))),
    "the socket": ({"listen": {"unix_socket": "/s"}}, Address(Path("/s"))),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_address_that_answers_even_when_all_places_are_taken_goes_first(name: str) -> None:
    settings, expected = ADDRESSES[name]
    assert address_of(load_settings(**settings)) == expected


def test_port_that_nobody_knows_is_a_wrong_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.port"):
        address_of(load_settings(listen={"port": 0}))
    assert asked(listen={"port": 0}) == 2
    assert "listen.port" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon"])
def test_time_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["health", f"--timeout={text}"])
    assert "--timeout" in capsys.readouterr().err


def test_host_that_can_be_no_name_does_not_live(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(listen={"host": "a..b"}) == 1
    assert capsys.readouterr().out.startswith("a..b port 4444: ")
