"""Addresses, proxies and files of the ports, and which of them need which."""

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tls_key": "tls.key"}, "tls_key is of no use without tls_certificate"),
        ({"proxy_protocol": ["http"]}, "proxy_protocol needs trusted_proxies"),
        ({"postgres_socket_directory": "/run"}, "postgres_socket_directory needs listen.postgres"),
        ({"postgres_socket_directory": "/run", "postgres": 0}, "postgres_socket_directory needs listen.postgres"),
        ({"allow_from": ["10.0.0.0/33"]}, "10.0.0.0/33"),
        ({"allow_from": ["unix"]}, "unix"),
        ({"allow_from": ["unix"], "trusted_proxies": ["unix"]}, "unix"),
        ({"trusted_proxies": ["proxy.internal"]}, "proxy.internal"),
        ({"unix_socket_mode": "0999"}, "unix_socket_mode"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(given: dict[str, object], why: str) -> None:
    assert why in refused(listen=given)


def test_a_proxy_may_come_over_a_unix_socket() -> None:
    listen = load_settings(listen={"trusted_proxies": ["unix", "10.0.0.10"], "proxy_protocol": ["http"]}).listen
    assert listen.trusted_proxies == ("unix", "10.0.0.10")


def test_no_grace_and_no_notice_may_be_asked_for_but_not_less() -> None:
    assert load_settings(drain={"grace": 0, "notice": 0}).drain.grace == 0
    assert refused(drain={"grace": -1}).startswith("drain.grace: ")
