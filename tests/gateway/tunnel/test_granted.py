"""What a key or token allows in a tunnel, and for how long."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import (
    ClaimsFailed,
    GatewayError,
    InvalidKey,
    PasswordFailed,
    ScopeRefused,
    StatementRefused,
)
from sqlhttp_gateway.tunnel.granted import Granted

PLAIN = Grant("key:1", b"secret")
LISTED = replace(PLAIN, statements=frozenset({digest_of("SELECT 1")}))
POOL: Any = SimpleNamespace(key=SimpleNamespace(role="ada"))


class Claims:
    def __init__(self) -> None:
        self.forgotten: list[Any] = []

    async def ready(self, grant: Grant, pool: Any) -> Any:
        return lambda backend: ("prologue for", backend)

    def forget(self, pool: Any) -> None:
        self.forgotten.append(pool)


class Credentials:
    """What looking at the credentials again gives."""

    def __init__(self, *answers: Grant | GatewayError) -> None:
        self.answers = list(answers)

    async def renew(self) -> Caller:
        answer = self.answers.pop(0)
        if isinstance(answer, GatewayError):
            raise answer
        return caller(answer)


def caller(grant: Grant, *, seconds: float = 1000) -> Caller:
    return Caller("default", "app", "ada", POOL, asyncio.get_running_loop().time() + seconds, grant)


def granted(grant: Grant, *answers: Grant | GatewayError, claims: Any = None, seconds: float = 1000) -> Granted:
    given: Any = claims or Claims()
    return Granted(caller(grant, seconds=seconds), grant, claims=given, renew=Credentials(*answers).renew)


@pytest.mark.parametrize(
    ("grant", "is_fenced"),
    [
        (PLAIN, False),
        (replace(PLAIN, read_only=True), True),
        (replace(PLAIN, claims=b"{}"), True),
        (replace(PLAIN, set_role="bob"), True),
        (LISTED, True),
    ],
)
async def test_only_a_grant_with_bounds_is_fenced(grant: Grant, is_fenced: bool) -> None:
    assert granted(grant).is_fenced is is_fenced


async def test_listed_statements_alone_pass_the_check() -> None:
    check = granted(LISTED).check
    assert check is not None
    check(b"SELECT 1;")
    for text in (b"SELECT 2", b"\xff"):
        with pytest.raises(StatementRefused):
            check(text)
    assert granted(PLAIN).check is None


async def test_parameters_that_change_a_statements_meaning_are_refused_where_statements_are_listed() -> None:
    assert isinstance(granted(LISTED).refusal(["TimeZone", "Search_Path"]), ScopeRefused)
    assert granted(LISTED).refusal(["TimeZone", "application_name"]) is None
    assert granted(PLAIN).refusal(["search_path"]) is None


async def test_prologue_is_made_for_the_backend() -> None:
    backend: Any = object()
    assert (await granted(PLAIN).ready(POOL))(backend)() == ("prologue for", backend)


async def test_error_says_what_it_means_to_who_showed_no_password() -> None:
    claims = Claims()
    tunnel = granted(PLAIN, claims=claims)
    assert "holds for role" in tunnel.explained(PasswordFailed("x"), POOL).message
    failed = ClaimsFailed("x")
    assert tunnel.explained(failed, POOL) is failed
    assert claims.forgotten == [POOL]


async def test_watch_ends_with_what_is_wrong_with_the_credentials() -> None:
    wrong = InvalidKey("revoked")
    tunnel = granted(PLAIN, PLAIN, wrong)
    watching = asyncio.ensure_future(tunnel.watch())
    for _ in range(2):
        await asyncio.sleep(0)
        assert not watching.done()
        tunnel.look_again()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert await watching is wrong


async def test_watch_looks_again_by_itself_when_the_proof_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlhttp_gateway.tunnel.granted.LEAST", 0.01)
    wrong = InvalidKey("expired")
    async with asyncio.timeout(5):
        assert await granted(PLAIN, wrong, seconds=-1).watch() is wrong


async def test_other_bounds_than_before_end_the_watch() -> None:
    tunnel = granted(PLAIN, replace(PLAIN, read_only=True))
    tunnel.look_again()
    async with asyncio.timeout(5):
        assert isinstance(await tunnel.watch(), ScopeRefused)
