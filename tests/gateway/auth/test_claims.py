"""Which claims go in front: signed where the functions are installed, as a setting where no caller can forge it."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from sqlhttp_gateway.auth.claims import LOOK_AGAIN, Choice, Claims, install, secret_of
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.errors import ClaimsFailed, TargetMisconfigured
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.session_jwt import SessionKey
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease, running_registry, targets_of
from tests.support.program import scratch_role
from tests.support.session_jwt import install_stand_in

BACKEND = cast(Backend, SimpleNamespace(pid=7, session_key=None))
"""All that is asked of a backend."""
TOKEN = Grant("jwt:mine:ann", b"", claims=b'{"sub":"ann"}')
LOCKED = Grant("jwt:mine:ann", b"", claims=b'{"sub":"ann"}', statements=frozenset())


async def prologue_texts(database: Database, choice: Choice, grant: Grant) -> list[str] | None:
    async with running_registry() as registry:
        upstream = targets_of(database).default
        pool = registry.pool(PoolKey("default", database.name, "postgres"), upstream)
        prologue = (await Claims(OwnAccess(registry), choice).ready(grant, pool))(BACKEND)
    return None if prologue is None else [statement.text.partition("(")[0] for statement in prologue.statements]


SIGNED, PLAIN = "SELECT sqlhttp.begin_claims", "SELECT pg_catalog.set_config"


@pytest.mark.parametrize(
    ("choice", "grant", "expected"),
    [
        ("auto", TOKEN, [SIGNED]),
        ("auto", LOCKED, [SIGNED, PLAIN]),
        ("signed", TOKEN, [SIGNED]),
        ("plain", TOKEN, [SIGNED, PLAIN]),
        ("off", TOKEN, None),
    ],
)
async def test_claims_are_signed_where_the_functions_are(
    database: Database, choice: Choice, grant: Grant, expected: list[str] | None
) -> None:
    async with own_lease(database) as lease:
        await install(lease)
    assert await prologue_texts(database, choice, grant) == expected


@pytest.mark.parametrize(
    ("choice", "grant", "expected"), [("auto", TOKEN, None), ("auto", LOCKED, [PLAIN]), ("plain", TOKEN, [PLAIN])]
)
async def test_claims_are_a_setting_only_for_who_cannot_forge_it_or_where_it_is_asked_for(
    database: Database, choice: Choice, grant: Grant, expected: list[str] | None
) -> None:
    assert await prologue_texts(database, choice, grant) == expected


async def test_database_is_asked_again_once_the_settings_are_for_it_may_be_another_by_then(database: Database) -> None:
    async with running_registry() as registry:
        pool = registry.pool(PoolKey("default", database.name, "postgres"), targets_of(database).default)
        claims = Claims(OwnAccess(registry), "auto")
        assert (await claims.ready(TOKEN, pool))(BACKEND) is None
        async with own_lease(database) as lease:
            await install(lease)
        claims.reconfigure("auto")
        prologue = (await claims.ready(TOKEN, pool))(BACKEND)
    assert prologue is not None
    assert prologue.statements[0].text.startswith(SIGNED)


async def test_claims_that_must_be_signed_and_cannot_be_are_refused(database: Database) -> None:
    with pytest.raises(ClaimsFailed, match="not installed"):
        await prologue_texts(database, "signed", TOKEN)


@pytest.mark.parametrize("choice", ["auto", "off"])
async def test_reading_grant_gets_a_transaction_that_has_read_before_the_caller_can_change_it(choice: Choice) -> None:
    async with running_registry() as registry:
        upstream = targets_of(Database("127.0.0.1", 1, "main")).default
        pool = registry.pool(PoolKey("default", "main", "postgres"), upstream)
        claims = Claims(OwnAccess(registry), choice)
        prologue = (await claims.ready(Grant("key:1", b"", read_only=True), pool))(BACKEND)
        assert (await claims.ready(Grant("key:1", b""), pool))(BACKEND) is None
    assert prologue is not None
    assert prologue.read_only
    assert [statement.text for statement in prologue.statements] == ["SELECT"]


ROLE_ALONE = Grant("key:1", b"", set_role="web", statements=frozenset())
ROLE_AND_CLAIMS = Grant("jwt:mine:ann", b"", claims=b'{"sub":"ann"}', set_role="web", statements=frozenset())


@pytest.mark.parametrize(
    ("choice", "grant", "expected"),
    [
        ("auto", ROLE_ALONE, [b'{"role":"web"}', b"web"]),
        ("auto", ROLE_AND_CLAIMS, [b'{"sub":"ann"}', b"web"]),
        ("off", ROLE_AND_CLAIMS, [b"web"]),
        ("auto", replace(ROLE_ALONE, statements=None), [b"web"]),
    ],
)
async def test_role_is_set_last_behind_claims_as_postgrest_has_them(
    database: Database, choice: Choice, grant: Grant, expected: list[bytes]
) -> None:
    async with running_registry() as registry:
        pool = registry.pool(PoolKey("default", database.name, "postgres"), targets_of(database).default)
        prologue = (await Claims(OwnAccess(registry), choice).ready(grant, pool))(BACKEND)
    assert prologue is not None
    assert [statement.params[0] for statement in prologue.statements] == expected
    assert prologue.statements[-1].text == "SELECT pg_catalog.set_config('role', $1, true)"


async def test_claims_go_by_pg_session_jwt_where_that_is_installed(database: Database) -> None:
    install_stand_in(database)
    keyed = cast(Backend, SimpleNamespace(pid=7, session_key=SessionKey()))
    late = cast(Backend, SimpleNamespace(pid=7, session_key=None, expires_at=math.inf))
    async with running_registry() as registry:
        upstream = replace(targets_of(database).default, session_jwt=True)
        pool = registry.pool(PoolKey("default", database.name, "postgres"), upstream)
        make = await Claims(OwnAccess(registry), "signed").ready(TOKEN, pool)
        prologue = make(keyed)
        assert prologue is not None
        assert [statement.text for statement in prologue.statements] == ["SELECT auth.jwt_session_init($1)"]
        with pytest.raises(ClaimsFailed, match="has not taken this connection's key"):
            make(late)
        assert late.expires_at == 0.0


async def test_pooler_in_between_is_no_hindrance_to_claims_that_are_not_signed() -> None:
    async with running_registry() as registry:
        upstream = replace(targets_of(Database("127.0.0.1", 1, "main")).default, is_pooler=True)
        pool = registry.pool(PoolKey("default", "main", "postgres"), upstream)
        assert (await Claims(OwnAccess(registry), "plain").ready(TOKEN, pool))(BACKEND) is not None
        with pytest.raises(ClaimsFailed, match="transaction pooler"):
            await Claims(OwnAccess(registry), "auto").ready(TOKEN, pool)


async def test_database_is_asked_once_in_a_while_and_when_it_refused(database: Database) -> None:
    now = 1000.0
    async with running_registry() as registry:
        upstream = targets_of(database).default
        pool = registry.pool(PoolKey("default", database.name, "postgres"), upstream)
        claims = Claims(OwnAccess(registry), "auto", clock=lambda: now)
        assert (await claims.ready(TOKEN, pool))(BACKEND) is None
        async with own_lease(database) as lease:
            await install(lease)
        assert (await claims.ready(TOKEN, pool))(BACKEND) is None
        now += LOOK_AGAIN
        first = (await claims.ready(TOKEN, pool))(BACKEND)
        assert first is not None
        async with own_lease(database) as lease:
            await install(lease, new_secret=True)
        assert (await claims.ready(TOKEN, pool))(BACKEND) == first
        claims.forget(pool)
        assert (await claims.ready(TOKEN, pool))(BACKEND) != first


async def test_installing_again_keeps_the_secret(database: Database) -> None:
    async with own_lease(database) as lease:
        await install(lease)
        secret = await secret_of(lease)
        await install(lease)
        assert await secret_of(lease) == secret
        assert secret is not None
        assert len(secret) == 32


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE SCHEMA sqlhttp AUTHORIZATION {role}",
        "CREATE SCHEMA auth AUTHORIZATION {role}",
        "CREATE SCHEMA sqlhttp; CREATE TABLE sqlhttp.claims_secret ();"
        " ALTER TABLE sqlhttp.claims_secret OWNER TO {role}",
        "CREATE SCHEMA sqlhttp; CREATE VIEW sqlhttp.claims_secret AS SELECT 1",
        "CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql"
        " AS 'SELECT NULL::uuid /* sqlhttp.claims() */'; ALTER FUNCTION auth.uid() OWNER TO {role}",
    ],
)
async def test_nothing_is_installed_into_what_is_somebody_elses(
    database: Database, postgres: Cluster, trap: str
) -> None:
    with scratch_role(postgres) as role:
        database.psql(trap.format(role=role))
        async with own_lease(database) as lease:
            with pytest.raises(TargetMisconfigured, match="not the gateway's"):
                await install(lease)
        database.psql(f"REASSIGN OWNED BY {role} TO postgres")


async def test_secret_is_read_where_the_database_writes_bytes_in_another_way(database: Database) -> None:
    secrets = []
    for output in ("hex", "escape"):
        database.psql(f"ALTER DATABASE {database.name} SET bytea_output = '{output}'")
        async with own_lease(database) as lease:
            await install(lease)
            secrets.append(await secret_of(lease))
    assert secrets[0] is not None
    assert secrets[0] == secrets[1]
