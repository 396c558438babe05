"""Who reaches the gateway, in which way, and whose word is taken: what is said of it."""

from typing import Any

import pytest

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge_addresses import judge_addresses
from sqlhttp_gateway.settings import load_settings

DAY = 86_400.0
PUBLIC = {"host": "0.0.0.0"}
TLS = {"tls_certificate": "tls.crt"}


def judged(*, days: float | None = None, fault: str = "", **sections: Any) -> dict[str, Finding]:
    expires_at = None if days is None else 1000 * DAY + days * DAY
    found = judge_addresses(load_settings(**sections), expires_at=expires_at, fault=fault, now=1000 * DAY)
    return {finding.subject: finding for finding in found}


@pytest.mark.parametrize(
    ("listen", "days", "level", "says"),
    [
        ({}, None, Level.OK, "only this machine"),
        (PUBLIC, None, Level.WARNING, "plain text"),
        (PUBLIC | TLS, 90, Level.OK, "over TLS"),
        (PUBLIC | TLS | {"https": False}, 90, Level.WARNING, "plain text"),
        (PUBLIC | {"trusted_proxies": ["10.0.0.1"]}, None, Level.NOTE, "10.0.0.1"),
        (PUBLIC | {"allow_from": ["10.0.0.0/8"]}, None, Level.WARNING, "from 10.0.0.0/8"),
    ],
)
def test_a_public_address_needs_tls(listen: dict[str, Any], days: float | None, level: Level, says: str) -> None:
    finding = judged(listen=listen, days=days)["listening"]
    assert finding.level is level
    assert says in finding.text


def test_what_callers_prove_themselves_by_is_named() -> None:
    key = {"hash": "sha256:" + 64 * "0", "database": "app", "role": "app"}
    issuer = {"secret": 32 * "x", "roles": ["app"]}
    text = judged(listen=PUBLIC, keys={"k": key}, issuers={"i": issuer})["listening"].text
    assert "passwords, keys, tokens and rows travel in plain text" in text


@pytest.mark.parametrize(("days", "level"), [(90, Level.OK), (10, Level.WARNING), (-3, Level.ERROR)])
def test_a_certificate_that_ends_soon_is_said_with_its_days(days: float, level: Level) -> None:
    finding = judged(listen=TLS, days=days)["certificate"]
    assert finding.level is level
    assert str(abs(days)) in finding.text


def test_a_certificate_that_cannot_be_used_is_an_error() -> None:
    assert judged(listen=TLS, fault="listen.tls_certificate: tls.crt is missing")["certificate"].level is Level.ERROR


def test_the_tcp_door_needs_tls_for_passwords_from_elsewhere() -> None:
    door = PUBLIC | {"postgres": 6432}
    assert "refuses whoever comes from another machine" in judged(listen=door)["TCP door"].text
    assert "cleartext_password" in judged(listen=door | {"cleartext_password": True})["TCP door"].text
    assert "TCP door" not in judged(listen=door | TLS, days=90)
    assert "TCP door" not in judged(listen={"postgres": 6432})


def test_proxies_are_named_and_everybody_is_an_error() -> None:
    proxies = judged(listen={"trusted_proxies": ["10.0.0.1", "unix"], "proxy_protocol": ["postgres"]})["proxies"]
    assert (proxies.level, "PROXY protocol on postgres" in proxies.text) == (Level.OK, True)
    assert judged(listen={"trusted_proxies": ["0.0.0.0/0"]})["proxies"].level is Level.ERROR
    assert "proxies" not in judged()


def test_unix_sockets_for_everybody_are_noted() -> None:
    sockets = {"unix_socket": "/run/s", "unix_socket_mode": "0777"}
    assert judged(listen=sockets)["Unix sockets"].level is Level.NOTE
    assert "Unix sockets" not in judged(listen=sockets | {"unix_socket_mode": "0770"})


@pytest.mark.parametrize(
    ("admin", "level"),
    [
        ({}, Level.OK),
        ({"allow_from": ["0.0.0.0/0"]}, Level.WARNING),
        ({"allow_from": ["0.0.0.0/0"], "port": 9127}, Level.OK),
        ({"allow_from": ["0.0.0.0/0"], "port": 9127, "host": "0.0.0.0"}, Level.WARNING),
    ],
)
def test_numbers_for_everybody_are_a_warning_but_on_this_machine_alone(admin: dict[str, Any], level: Level) -> None:
    assert judged(admin=admin)["admin"].level is level
