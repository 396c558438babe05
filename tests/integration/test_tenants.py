"""Many databases behind one gateway: chosen by the host of a request, by a connection string, a key or a token."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer
from tests.support.program import Program, scratch_database, scratch_role
from tests.support.wire_program import WebSocketPipe, WireProgram

ISSUER = Issuer()
ISSUER.rotate("one", "EdDSA")
WHERE = {"query": "SELECT current_database()::text AS d"}


class Site(NamedTuple):
    """Two tenants' databases, of which only one lets the tenants' role in."""

    start: Callable[..., Program]
    red: Database
    blue: Database

    def url(self, database: str, host: str = "db.example") -> str:
        return f"postgres://postgres:postgres@{host}/{database}"


@pytest.fixture
def site(start_program: Callable[..., Program], postgres: Cluster) -> Iterator[Site]:
    with scratch_database(postgres) as red, scratch_database(postgres) as blue:
        yield Site(start_program, red, blue)


def where(program: Program, url: str | None, host: str | None = None, **headers: str) -> Any:
    """The database that a request ends up in; or what it is told instead."""
    given: dict[str, str | None] = {"Neon-Connection-String": url, **headers}
    if host is not None:
        given["Host"] = host
    answer = program.post(WHERE, given).json()
    return answer["rows"][0]["d"] if "rows" in answer else answer["message"]


def test_host_of_a_request_leads_to_a_database_exactly_or_by_a_wildcard(site: Site) -> None:
    program = site.start(
        tenants={
            "red": {"hosts": ["red.example"], "database": site.red.name},
            "all": {"hosts": ["*.db.example"], "database": "{name}"},
        }
    )
    for _ in range(2):  # proven, and recalled
        assert where(program, site.url("any"), "red.example") == site.red.name
        assert where(program, site.url("any"), "red.example:4444") == site.red.name
        assert where(program, site.url("any"), f"{site.blue.name}.db.example") == site.blue.name
        assert where(program, site.url("postgres"), "gateway.example") == "postgres"
    assert where(program, site.url("any", f"{site.blue.name}.db.example"), "red.example") == site.blue.name


def test_name_of_a_database_leads_to_another_target(site: Site, postgres: Cluster) -> None:
    program = site.start(
        targets={"second": {"url": postgres.maintenance.url}},
        tenants={"shop": {"databases": ["shop"], "target": "second", "database": site.red.name}},
    )
    assert where(program, site.url("shop")) == site.red.name


@pytest.mark.parametrize(("host", "name"), [("shop.example", "any"), ("127.0.0.1", "shop")])
async def test_tunnel_is_led_like_a_request(
    start_gateway: Callable[..., Gateway], database: Database, host: str, name: str
) -> None:
    tenant = {"hosts": ["shop.example"], "databases": ["shop"], "database": database.name}
    gateway = start_gateway(tenants={"shop": tenant})
    url = f"ws://{host}:{gateway.port}/v2"
    async with connect(url, host="127.0.0.1", port=gateway.port, compression=None, proxy=None) as socket:
        program = WireProgram(WebSocketPipe(socket), replace(database, name=name))
        assert (await program.log_in()).status == "I"
        assert await program.value("SELECT current_database()::text") == database.name


def test_host_says_where_and_the_password_who(site: Site, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        postgres.maintenance.psql(f"REVOKE CONNECT ON DATABASE {site.blue.name} FROM PUBLIC")
        program = site.start(tenants={"all": {"hosts": ["*.db.example"], "database": "{name}"}})
        url = f"postgres://{role}:secret@x/any"
        assert where(program, url, f"{site.red.name}.db.example") == site.red.name
        assert "permission denied for database" in where(program, url, f"{site.blue.name}.db.example")
        wrong = f"postgres://{role}:wrong@x/any"
        assert "password authentication failed" in where(program, wrong, f"{site.red.name}.db.example")


def test_host_leads_neither_a_key_nor_a_token_elsewhere(site: Site, tmp_path: Path) -> None:
    key, jwks = new_key(), tmp_path / "jwks.json"
    jwks.write_bytes(ISSUER.jwks())
    program = site.start(
        keys={key.id: {"hash": hash_of(key), "database": site.red.name, "role": "postgres"}},
        issuers={"mine": {"jwks_file": str(jwks), "roles": ["postgres"], "databases": [site.red.name]}},
        tenants={"all": {"hosts": ["*.db.example"], "database": "{name}"}},
    )
    red, blue = f"{site.red.name}.db.example", f"{site.blue.name}.db.example"
    bearer = f"Bearer {key.text}"
    assert where(program, None, red, Authorization=bearer) == site.red.name
    assert where(program, site.url("any"), red, Authorization=bearer) == site.red.name
    assert "another database" in where(program, None, blue, Authorization=bearer)
    assert "another database" in where(program, site.url("any"), blue, Authorization=bearer)
    assert where(program, None, "gateway.example", Authorization=bearer) == site.red.name
    bearer = f"Bearer {ISSUER.token('one', {'sub': 'ann', 'exp': int(time.time()) + 600})}"
    assert where(program, site.url("any"), red, Authorization=bearer) == site.red.name
    assert where(program, site.url("any"), blue, Authorization=bearer) == "jwk not found"


def test_claim_of_a_token_names_the_database_and_the_connection_string_does_not(site: Site, tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(ISSUER.jwks())
    names = [site.red.name, site.blue.name]
    mine = {"jwks_file": str(jwks), "roles": ["postgres"], "databases": names, "database_claim": "tenant"}
    program = site.start(issuers={"mine": mine})
    for name, expected in (*zip(names, names, strict=True), ("postgres", "jwk not found"), (7, "jwk not found")):
        token = ISSUER.token("one", {"sub": "ann", "tenant": name, "exp": int(time.time()) + 600})
        assert where(program, site.url("any"), Authorization=f"Bearer {token}") == expected


def test_tenant_added_to_the_table_is_served_without_a_restart_and_a_removed_one_no_more(
    site: Site, database: Database
) -> None:
    program = site.start(
        database_url=database.url, auth={"tenants_table": True, "keys_refresh": 0.05, "proof_lifetime": 3600}
    )
    assert "does not exist" in where(program, site.url("red"))
    own = ["--set", f"database_url={database.url}"]
    assert cli.main(["tenants", "add", "red", "--database-name", "red", "--database", site.red.name, *own]) == 0
    until(lambda: where(program, site.url("red")) == site.red.name)
    assert cli.main(["tenants", "add", "red", "--database-name", "red", "--database", site.blue.name, *own]) == 0
    until(lambda: where(program, site.url("red")) == site.blue.name)
    assert cli.main(["tenants", "remove", "red", *own]) == 0
    until(lambda: "does not exist" in where(program, site.url("red")))


def test_tenant_has_a_pool_and_metrics_of_its_own(site: Site) -> None:
    program = site.start(tenants={"all": {"hosts": ["*.db.example"], "database": "{name}"}}, pool={"max_size": 1})
    for database in (site.red, site.blue):
        assert where(program, site.url("any"), f"{database.name}.db.example") == database.name
    shown = program._http.get(program.endpoint.replace("/sql", "/metrics")).text
    for database in (site.red, site.blue):
        assert re.search(
            rf'^sqlhttp_pool_max_size\{{[^}}]*database="{database.name}"[^}}]*\}} 1\.0$', shown, re.MULTILINE
        )


def test_request_with_two_hosts_is_led_to_neither(site: Site) -> None:
    program = site.start(tenants={"all": {"hosts": ["*.db.example"], "database": "{name}"}})
    red, blue = (f"{database.name}.db.example" for database in (site.red, site.blue))
    assert where(program, site.url("any"), red) == site.red.name
    body = b'{"query": "SELECT 1"}'
    asked = (
        f"POST /sql HTTP/1.1\r\nHost: {red}\r\nHost: {blue}\r\nNeon-Connection-String: {site.url('any')}\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", urlsplit(program.endpoint).port), timeout=10) as connection:
        connection.sendall(asked + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the header host came twice" in answer


def test_tenant_has_limits_of_its_own_and_no_other_pays_for_them(site: Site) -> None:
    program = site.start(tenants={"all": {"hosts": ["*.db.example"], "database": "{name}", "rate": 0.01, "burst": 3}})
    red, blue = f"{site.red.name}.db.example", f"{site.blue.name}.db.example"
    for _ in range(3):
        assert where(program, site.url("any"), red) == site.red.name
    refused = where(program, site.url("any"), red)
    assert f"tenant:default/{site.red.name} may send 0.01 requests a second" in refused
    assert where(program, site.url("any"), blue) == site.blue.name
    for _ in range(5):
        assert where(program, site.url("postgres"), "gateway.example") == "postgres"


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not become so"
