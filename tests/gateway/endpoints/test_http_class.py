"""Which class speaks HTTP, with a uvicorn that the gateway knows and with others."""

import socket
from collections.abc import Callable

import httpx
import pytest
import uvicorn

from sqlhttp_gateway.endpoints.guarded import GuardedProtocol
from sqlhttp_gateway.endpoints.http_class import http_options, tell_of_less
from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.settings import Settings, load_settings
from tests.support.cluster import Database
from tests.support.gateway import Gateway

SETTINGS = Settings()


def unknown() -> bool:
    return False


def test_the_installed_uvicorn_is_one_that_the_lane_knows(caplog: pytest.LogCaptureFixture) -> None:
    """It would be slower and nobody would notice: see what uvicorn changed before this is changed."""
    options = http_options(SETTINGS)
    assert options["http"] is LaneProtocol
    tell_of_less(options["http"])
    assert caplog.records == []


def test_where_only_the_lane_does_not_know_it_the_guard_serves_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LaneProtocol, "knows_uvicorn", unknown)
    options = http_options(SETTINGS)
    assert options["http"] is GuardedProtocol
    tell_of_less(options["http"])
    assert f"uvicorn {uvicorn.__version__} is not known to this version" in caplog.text


@pytest.fixture
def without_own_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (LaneProtocol, GuardedProtocol):
        monkeypatch.setattr(each, "knows_uvicorn", unknown)


@pytest.mark.usefixtures("without_own_classes")
def test_where_neither_knows_it_uvicorns_own_limit_of_heads_is_set_and_what_is_lost_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = http_options(load_settings(request={"max_head_bytes": 5000}, listen={"keep_alive": 7.2}))
    assert options == {"http": "h11", "h11_max_incomplete_event_size": 5000, "timeout_keep_alive": 8}
    tell_of_less(options["http"])
    assert "request.head_timeout" in caplog.text
    assert "have a proxy in front that bounds how slowly a head may come" in caplog.text


@pytest.mark.usefixtures("without_own_classes")
def test_uvicorns_own_class_serves_and_refuses_heads_without_end(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway(request={"max_head_bytes": 8192})
    for _ in range(2):
        answer = httpx.post(
            gateway.sql, json={"query": "SELECT 1 AS one"}, headers={"Neon-Connection-String": database.url}
        )
        assert (answer.status_code, answer.json()["rows"]) == (200, [{"one": 1}])
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as endless:
        endless.sendall(b"POST /sql HTTP/1.1\r\nHost: gateway\r\nX-Long: " + b"x" * 20_000)
        assert endless.recv(100).startswith(b"HTTP/1.1 400 ")
