"""Credentials become a caller of one pool, or are refused before there is one. No Postgres is asked here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from sqlhttp_gateway.auth.allowances import Allowances
from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord, hash_of, new_key
from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.failures import Failures
from sqlhttp_gateway.auth.jwks import KeySet
from sqlhttp_gateway.auth.jwt import Issuer, Tokens
from sqlhttp_gateway.auth.own_access import Logins
from sqlhttp_gateway.auth.tenants import Tenant, Tenants
from sqlhttp_gateway.errors import (
    CredentialsMissing,
    InvalidConnectionString,
    InvalidKey,
    InvalidToken,
    PasswordFailed,
    PlaceRefused,
    ScopeRefused,
    TargetMisconfigured,
    TooManyFailures,
)
from sqlhttp_gateway.model import Dsn, PoolKey
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import AuthSettings, LimitsSettings, LoginSettings, Settings, TargetSettings
from tests.support.issuer import Issuer as Signer
from tests.support.own_lease import running_registry

KEY = new_key()
BEARER = f"Bearer {KEY.text}".encode()
TARGETS = Targets(
    Settings(
        database_url=SecretStr("postgres://admin:own@db/main"),
        targets={"reports": TargetSettings(url=SecretStr("postgres://admin:own@reports/main"))},
    )
)
LOGINS = Logins({"app": LoginSettings(role="app", password=SecretStr("held"))})


def record(**changes: object) -> KeyRecord:
    values: dict[str, object] = {
        "id": KEY.id, "hash": hash_of(KEY), "target": "default", "database": "main", "role": "app", **changes
    }  # fmt: skip
    return KeyRecord(**values)  # type: ignore[arg-type]  # a test says what is different


@pytest.fixture
async def registry() -> AsyncIterator[PoolRegistry]:
    async with running_registry() as registry:
        yield registry


def authenticator(
    registry: PoolRegistry, *records: KeyRecord, now: float = 0.0, issuers: tuple[Issuer, ...] = ()
) -> Authenticator:
    passwords = Passwords(AuthSettings(), registry)
    keys = ApiKeys({each.id: each for each in records}, clock=lambda: now)
    tokens = Tokens(issuers, clock=lambda: now)
    return Authenticator(TARGETS, registry, passwords, keys=keys, tokens=tokens, logins=LOGINS, clock=lambda: now)


def dsn(text: str = "postgres://app@db/main") -> Dsn:
    return dsn_from_header(text.encode())


async def test_key_opens_its_own_database_as_its_own_role_without_a_connection_string(registry: PoolRegistry) -> None:
    caller = await authenticator(registry, record()).authenticate(None, b"", BEARER)
    assert (caller.target, caller.database, caller.role) == ("default", "main", "app")
    assert caller.grant is not None
    assert caller.grant.password == b"held"
    assert caller.grant.tenant == f"key:{KEY.id}"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("postgres://app@db/other", "database"),
        ("postgres://admin@db/main", "role"),
        ("postgres://app@reports/main", "host"),
    ],
)
async def test_connection_string_cannot_lead_a_key_elsewhere(registry: PoolRegistry, text: str, word: str) -> None:
    with pytest.raises(ScopeRefused, match=f"another {word}"):
        await authenticator(registry, record()).authenticate(dsn(text), text.encode(), BEARER)
    assert registry.pools == []


async def test_host_that_is_no_targets_does_not_matter_to_a_key(registry: PoolRegistry) -> None:
    text = "postgres://app@anything/main"
    caller = await authenticator(registry, record()).authenticate(dsn(text), text.encode(), BEARER)
    assert caller.target == "default"


async def test_wrong_key_gets_no_pool(registry: PoolRegistry) -> None:
    with pytest.raises(InvalidKey):
        await authenticator(registry, record()).authenticate(None, b"", f"Bearer {new_key().text}".encode())
    assert registry.pools == []


async def test_header_without_any_key_configured_asks_for_a_password_as_neon_does(registry: PoolRegistry) -> None:
    with pytest.raises(CredentialsMissing, match="required password"):
        await authenticator(registry).authenticate(dsn(), b"postgres://app@db/main", BEARER)


async def test_caller_is_recalled_by_all_that_it_showed_and_by_nothing_less(registry: PoolRegistry) -> None:
    text = b"postgres://app@db/main"
    subject = authenticator(registry, record())
    caller = await subject.authenticate(dsn(), text, BEARER)
    assert subject.recall(text, BEARER) == caller
    assert subject.recall(text) is None
    assert subject.recall(b"", BEARER) is None
    assert subject.recall(text, BEARER + b"x") is None
    assert subject.recall(BEARER + b"\n" + text) is not None  # which no header can be: it has a line feed
    subject.forget()
    assert subject.recall(text, BEARER) is None


async def test_caller_is_not_recalled_beyond_the_end_of_its_key(registry: PoolRegistry) -> None:
    caller = await authenticator(registry, record(expires_at=5.0), now=3.0).authenticate(None, b"", BEARER)
    assert caller.proven_until <= asyncio.get_running_loop().time() + 2.0


async def test_key_may_stand_in_the_passwords_place(registry: PoolRegistry) -> None:
    given = dsn(f"postgres://app:{KEY.text}@db/main")
    caller = await authenticator(registry, record()).authenticate_password(given, peer="127.0.0.1")
    assert caller.grant is not None


async def test_key_in_the_passwords_place_is_bound_to_its_addresses(registry: PoolRegistry) -> None:
    given = dsn(f"postgres://app:{KEY.text}@db/main")
    with pytest.raises(PlaceRefused):
        await authenticator(registry, record(addresses=("10.0.0.1",))).authenticate_password(given, peer="127.0.0.1")


async def test_role_whose_password_is_not_held_is_the_operators_fault(registry: PoolRegistry) -> None:
    with pytest.raises(TargetMisconfigured, match='no password for role "nobody"'):
        await authenticator(registry, record(role="nobody")).authenticate(None, b"", BEARER)


async def test_key_for_a_target_that_is_gone_is_the_operators_fault(registry: PoolRegistry) -> None:
    with pytest.raises(TargetMisconfigured, match="target gone"):
        await authenticator(registry, record(target="gone")).authenticate(None, b"", BEARER)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────


SIGNER = Signer()
SIGNER.rotate("one")
ISSUER = Issuer("mine", KeySet("mine", SIGNER.jwks), frozenset({"app"}))


def bearer(claims: dict[str, object] | None = None) -> bytes:
    return f"Bearer {SIGNER.token('one', claims or {'sub': 'ann'})}".encode()


async def test_token_beside_a_connection_string_without_a_password_is_enough(registry: PoolRegistry) -> None:
    caller = await authenticator(registry, issuers=(ISSUER,)).authenticate(dsn(), b"", bearer())
    assert (caller.database, caller.role) == ("main", "app")
    assert caller.grant is not None
    assert (caller.grant.tenant, caller.grant.claims) == ("jwt:mine:ann", b'{"sub":"ann"}')
    assert caller.grant.password == b"held"


async def test_token_counts_and_the_password_beside_it_does_not(registry: PoolRegistry) -> None:
    given = dsn("postgres://app:whatever@db/main")
    caller = await authenticator(registry, issuers=(ISSUER,)).authenticate(given, b"", bearer())
    assert caller.grant is not None


async def test_token_may_stand_in_the_passwords_place(registry: PoolRegistry) -> None:
    given = dsn(f"postgres://app:{bearer()[7:].decode()}@db/main")
    caller = await authenticator(registry, issuers=(ISSUER,)).authenticate_password(given, peer="127.0.0.1")
    assert caller.grant is not None
    assert caller.grant.claims == b'{"sub":"ann"}'


async def test_host_cannot_lead_a_token_to_another_target(registry: PoolRegistry) -> None:
    with pytest.raises(InvalidToken, match="jwk not found"):
        await authenticator(registry, issuers=(ISSUER,)).authenticate(dsn("postgres://app@reports/main"), b"", bearer())
    assert registry.pools == []


async def test_token_needs_a_connection_string(registry: PoolRegistry) -> None:
    with pytest.raises(InvalidConnectionString):
        await authenticator(registry, issuers=(ISSUER,)).authenticate(None, b"", bearer())


async def test_neither_password_nor_token_is_told_what_is_required(registry: PoolRegistry) -> None:
    with pytest.raises(CredentialsMissing, match="required authorization bearer token in JWT format"):
        await authenticator(registry, issuers=(ISSUER,)).authenticate(dsn(), b"")
    with pytest.raises(CredentialsMissing, match="required password"):
        await authenticator(registry).authenticate(dsn(), b"")


async def test_token_where_only_keys_are_known_is_no_key(registry: PoolRegistry) -> None:
    with pytest.raises(InvalidKey):
        await authenticator(registry, record()).authenticate(dsn(), b"", bearer())


async def test_caller_is_not_recalled_beyond_the_end_of_its_token(registry: PoolRegistry) -> None:
    subject = authenticator(registry, issuers=(ISSUER,), now=1000.0)
    caller = await subject.authenticate(dsn(), b"", bearer({"exp": 975}))
    assert caller.proven_until <= asyncio.get_running_loop().time() + 5.0


async def test_who_is_proven_while_the_settings_are_read_again_is_not_recalled(registry: PoolRegistry) -> None:
    """The keys of the table are read for it, and when they are there, they are those of before."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def read() -> list[KeyRecord]:
        began.set()
        await may_end.wait()
        return [record()]

    subject = authenticator(registry)
    others = {"tokens": None, "tenants": None, "allowances": Allowances(LimitsSettings(), 1), "sets_any_role": False}
    subject.reconfigure(keys=ApiKeys({}, read), logins=LOGINS, belief=30.0, **others)  # type: ignore[arg-type]
    coming = asyncio.create_task(subject.authenticate(None, b"", BEARER))
    await began.wait()
    subject.reconfigure(keys=None, logins=LOGINS, belief=30.0, **others)  # type: ignore[arg-type]
    may_end.set()
    assert (await coming).role == "app"
    assert subject.recall(b"", BEARER) is None


# ── the console while its database is paused ─────────────────────────────────────────────────────────────────────────


def operator(text: str, registry: PoolRegistry) -> tuple[Authenticator, Dsn]:
    """Postgres is not there: whoever has to ask it does not get in."""
    passwords = Passwords(AuthSettings(), registry)
    failures = Failures(AuthSettings(failures=3))
    keys = ApiKeys({KEY.id: record()}, clock=lambda: 0.0)
    return Authenticator(TARGETS, registry, passwords, keys=keys, logins=LOGINS, failures=failures), dsn(text)


@pytest.mark.parametrize("who", ["admin:own", "app:held"])
async def test_operator_whose_password_the_gateway_holds_gets_in_while_postgres_is_not_to_be_asked(
    registry: PoolRegistry, who: str
) -> None:
    """Or whoever has paused for longer than a proof lasts could not come back to say RESUME."""
    subject, given = operator(f"postgres://{who}@db/main", registry)
    await registry.pause(None)
    caller = await subject.authenticate_operator(given, peer="127.0.0.1")
    assert (caller.target, caller.role, caller.grant) == ("default", who.partition(":")[0], None)
    assert caller.proven_until <= asyncio.get_running_loop().time()
    assert not subject._passwords._proven, "it proves nothing to anybody later"


@pytest.mark.parametrize("who", ["admin:wrong", "admin:", "admin:ow", "nobody:own", "app:own"])
async def test_any_other_operator_waits_and_is_counted_whoever_that_is(registry: PoolRegistry, who: str) -> None:
    subject, given = operator(f"postgres://{who}@db/main", registry)
    given = replace(given, password=who.partition(":")[2].encode())
    await registry.pause(None)
    for _ in range(2):
        waiting = asyncio.ensure_future(subject.authenticate_operator(given, peer="127.0.0.1"))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
    with pytest.raises(TooManyFailures):
        await subject.authenticate_operator(given, peer="127.0.0.1")


async def test_held_password_opens_nothing_but_the_console_and_only_while_its_database_is_paused(
    registry: PoolRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, given = operator("postgres://admin:own@db/main", registry)
    asked: list[str] = []

    async def prove(*_: object, **__: object) -> float:
        asked.append("Postgres")
        raise PasswordFailed("no")

    monkeypatch.setattr(subject._passwords, "prove", prove)
    for pause in ("elsewhere", None):
        with pytest.raises(PasswordFailed):
            await (subject.authenticate_operator if pause else subject.authenticate_password)(given, peer="127.0.0.1")
        await registry.pause(pause)
    assert asked == ["Postgres"] * 2


async def test_key_in_an_operators_password_is_looked_up_as_ever(registry: PoolRegistry) -> None:
    subject, given = operator(f"postgres://app:{KEY.text}@db/main", registry)
    await registry.pause(None)
    for _ in range(4):
        caller = await subject.authenticate_operator(given, peer="127.0.0.1")
        assert caller.grant is not None


async def test_operator_is_known_to_the_default_target_whatever_tenants_are_called(
    registry: PoolRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a tenant of the database's name, who says what its own server's roles are, could open the console."""
    passwords = Passwords(AuthSettings(), registry)
    asked: list[str] = []

    async def prove(_: Dsn, key: PoolKey, upstream: Upstream, **__: object) -> float:
        asked.append(f"{key.target} {upstream.target.name}")
        return 1.0

    monkeypatch.setattr(passwords, "prove", prove)
    tenants = Tenants((Tenant("main", databases=("main",), target="reports", database="main"),))
    subject = Authenticator(TARGETS, registry, passwords, logins=LOGINS, tenants=tenants)
    given = dsn("postgres://admin:theirs@db/main")
    assert (await subject.authenticate_password(given, peer="127.0.0.1")).target == "reports"
    assert (await subject.authenticate_operator(given, peer="127.0.0.1")).target == "default"
    assert asked == ["reports reports", "default default"]


@pytest.mark.parametrize(
    "bounds", [{"read_only": True}, {"statements": frozenset()}, {"login": "admin", "statements": frozenset()}]
)
async def test_key_with_bounds_opens_no_console_whatever_its_role(
    registry: PoolRegistry, bounds: dict[str, object]
) -> None:
    """Whoever may only read could pause the database."""
    subject, given = authenticator(registry, record(**bounds)), dsn(f"postgres://app:{KEY.text}@db/main")
    assert (await subject.authenticate_password(given, peer="127.0.0.1")).role == "app"
    with pytest.raises(ScopeRefused, match="console"):
        await subject.authenticate_operator(given, peer="127.0.0.1")
    subject = authenticator(registry, record())
    assert (await subject.authenticate_operator(given, peer="127.0.0.1")).role == "app"


async def test_key_of_another_target_opens_no_console(registry: PoolRegistry) -> None:
    keys = ApiKeys({KEY.id: record(target="reports", role="admin")}, clock=lambda: 0.0)
    subject = Authenticator(TARGETS, registry, Passwords(AuthSettings(), registry), keys=keys, logins=LOGINS)
    given = dsn(f"postgres://admin:{KEY.text}@reports/main")
    assert (await subject.authenticate_password(given, peer="127.0.0.1")).target == "reports"
    with pytest.raises(ScopeRefused, match="default target"):
        await subject.authenticate_operator(given, peer="127.0.0.1")
