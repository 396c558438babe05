from collections.abc import Callable

import httpx
import pytest

from sqlhttp_gateway.endpoints.origins import Origins
from tests.support.cluster import Database
from tests.support.gateway import Gateway


def scope(origin: str | None) -> dict[str, object]:
    return {"headers": [(b"host", b"127.0.0.1:4444")] + ([(b"origin", origin.encode())] if origin else [])}


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_any_origin_is_admitted_by_a_star(origin: str | None) -> None:
    assert Origins(["*"]).admits(scope(origin))


@pytest.mark.parametrize(
    "origin", [None, "http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080", "http://app.localhost"]
)
def test_pages_of_this_machine_and_programs_that_are_no_pages_are_local(origin: str | None) -> None:
    assert Origins(["local"]).admits(scope(origin))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://evil.example#localhost", "http://[", ""],
)
def test_pages_of_elsewhere_are_not_local(origin: str) -> None:
    assert not Origins(["local"]).admits({"headers": [(b"origin", origin.encode())]})


def test_named_origins_are_admitted_and_no_others() -> None:
    origins = Origins(["https://app.example.com", "https://*.example.org"])
    assert origins.admits(scope("https://app.example.com"))
    assert origins.admits(scope("https://a.b.example.org"))
    assert not origins.admits(scope("http://app.example.com"))
    assert not origins.admits(scope("https://example.org.evil.example"))


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_page_that_is_not_allowed_gets_no_answer_of_postgres(
    database: Database, start_gateway: Callable[..., Gateway], method: str
) -> None:
    gateway = start_gateway(request={"allow_origins": ("local",)})
    headers = {"Neon-Connection-String": database.url, "Origin": "https://evil.example"}
    with httpx.Client(trust_env=False) as http:
        refused = http.request(method, gateway.sql, headers=headers, content=b'{"query": "SELECT 1"}')
        own = http.post(
            gateway.sql, headers={**headers, "Origin": "http://localhost:3000"}, content=b'{"query": "SELECT 1"}'
        )
    assert refused.status_code == 400
    assert refused.json()["code"] == "28000"
    assert own.status_code == 200
