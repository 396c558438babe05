"""Tokens before a whole gateway, from an issuer with an HTTP server and keys that rotate."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from sqlhttp_gateway.auth.jwt import Tokens
from tests.support.cluster import Database
from tests.support.issuer import Issuer, Server, serving
from tests.support.program import Program

ONE = {"query": "SELECT current_user::text AS u"}


@pytest.fixture
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.rotate("one", "RS256")
    return issuer


@pytest.fixture
def server(issuer: Issuer) -> Iterator[Server]:
    with serving() as server:
        server.body = issuer.jwks()
        yield server


def settings(server: Server, **auth: Any) -> dict[str, Any]:
    mine = {"jwks_url": server.url, "roles": ["postgres"], "audience": "api", "issuer": "https://mine.example"}
    return {"issuers": {"mine": mine}, "auth": {"jwks_insecure": True, **auth}}


def claims(**more: object) -> dict[str, object]:
    return {"iss": "https://mine.example", "aud": "api", "sub": "ann", "exp": int(time.time()) + 600, **more}


def post(program: Program, database: Database, token: str, body: object = ONE) -> tuple[int, dict[str, Any]]:
    url = f"postgres://postgres@db.example/{database.name}"
    response = program.post(body, {"Neon-Connection-String": url, "Authorization": f"Bearer {token}"})
    return response.status_code, response.json()


def test_neons_connection_string_without_a_password_and_a_token_work(
    start_program: Callable[..., Program], database: Database, issuer: Issuer, server: Server
) -> None:
    program = start_program(**settings(server))
    for _ in range(3):
        assert post(program, database, issuer.token("one", claims()))[1]["rows"] == [{"u": "postgres"}]
    assert len(server.paths) == 1


def test_refusals_are_400_in_the_error_form_and_name_the_check(
    start_program: Callable[..., Program], database: Database, issuer: Issuer, server: Server
) -> None:
    program = start_program(**settings(server))
    for token, message in (
        ("x.y.z", "Provided authentication token is not a valid JWT encoding"),
        ("eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.e30.", "signature algorithm not supported"),
        (issuer.token("one", claims(aud="other")), "invalid JWT token audience"),
        (issuer.token("one", claims(iss="other")), "invalid JWT token issuer"),
        (issuer.token("one", claims(exp=1)), "JWT token has expired (exp=1)"),
        (issuer.token("one", claims(), kid="two"), "jwk not found"),
        (issuer.token("one", claims())[:-8] + "AAAAAAAA", "signature error: the signature does not match"),
    ):
        status, answer = post(program, database, token)
        assert (status, answer["message"], answer["code"]) == (400, message, "28000")
        assert token not in str(answer)
    status, answer = post(program, database, "e" * 20_000)
    assert (status, answer["code"]) == (400, "28000")


def test_rotated_key_is_fetched_and_a_withdrawn_one_stops(
    start_program: Callable[..., Program], database: Database, issuer: Issuer, server: Server
) -> None:
    program = start_program(**settings(server, jwks_pause=0.01, jwks_max_age=0.01, proof_lifetime=3600))
    old = issuer.token("one", claims())
    assert post(program, database, old)[0] == 200
    issuer.rotate("two")
    del issuer.keys["one"]
    server.body = issuer.jwks()
    # A fetch that is under way brings the old keys, and the next one comes jwks_pause later.
    deadline = time.monotonic() + 10
    while (answered := post(program, database, issuer.token("two", claims())))[0] != 200:
        assert answered[1]["message"] == "jwk not found"
        assert time.monotonic() < deadline, "nobody fetched the new key"
    status, answer = post(program, database, old)
    assert (status, answer["message"]) == (400, "jwk not found")


def test_keys_are_there_before_the_first_token(
    start_program: Callable[..., Program], database: Database, issuer: Issuer, server: Server
) -> None:
    program = start_program(**settings(server))
    deadline = time.monotonic() + 10
    while not server.paths:
        assert time.monotonic() < deadline, "nobody fetched them"
        time.sleep(0.01)
    assert post(program, database, issuer.token("one", claims()))[0] == 200
    assert len(server.paths) == 1


def test_issuer_that_is_down_refuses_nobody_it_has_met(
    start_program: Callable[..., Program], database: Database, issuer: Issuer, server: Server
) -> None:
    program = start_program(**settings(server, jwks_pause=0.01, jwks_max_age=0.01, proof_lifetime=0))
    token = issuer.token("one", claims())
    assert post(program, database, token)[0] == 200
    server.status = 500
    for _ in range(5):
        assert post(program, database, token)[0] == 200


def test_token_begins_and_ends_with_the_gateways_clock_and_its_leeway(
    start_program: Callable[..., Program],
    database: Database,
    issuer: Issuer,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = int(time.time())
    now = began
    moved = partial(Tokens, clock=lambda: now)
    monkeypatch.setattr("sqlhttp_gateway.auth.build.Tokens", moved)
    program = start_program(**settings(server, jwt_leeway=30, proof_lifetime=0))
    token = issuer.token("one", claims(nbf=began + 100, exp=began + 200))
    got = []
    for seconds in (0, 70, 71, 199, 229, 230, 100_000):
        now = began + seconds
        status, answer = post(program, database, token)
        got.append((seconds, "served" if status == 200 else answer["message"]))
    early = f"JWT token is not yet ready to use (nbf={began + 100})"
    late = f"JWT token has expired (exp={began + 200})"
    assert got == [
        (0, early),
        (70, early),
        (71, "served"),
        (199, "served"),
        (229, "served"),
        (230, late),
        (100_000, late),
    ]


def test_password_goes_on_working_beside_tokens(
    start_program: Callable[..., Program], database: Database, server: Server
) -> None:
    assert start_program(**settings(server)).rows("SELECT 1") == [[1]]
