"""Which claims go in front: signed where the functions are installed, as a setting where no caller can forge it."""

import pytest

from sqlhttp_gateway.auth.claims import LOOK_AGAIN, Choice, Claims, install, secret_of
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.errors import ClaimsFailed, TargetMisconfigured
from sqlhttp_gateway.model import PoolKey
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease, running_registry, targets_of
from tests.support.program import scratch_role

TOKEN = Grant("jwt:mine:ann", b"", claims=b'{"sub":"ann"}')
LOCKED = Grant("jwt:mine:ann", b"", claims=b'{"sub":"ann"}', statements=frozenset())


async def prologue_texts(database: Database, choice: Choice, grant: Grant) -> list[str] | None:
    async with running_registry() as registry:
        upstream = targets_of(database).default
        pool = registry.pool(PoolKey("default", database.name, "postgres"), upstream)
        prologue = (await Claims(OwnAccess(registry), choice).ready(grant, pool))(7)
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


async def test_claims_that_must_be_signed_and_cannot_be_are_refused(database: Database) -> None:
    with pytest.raises(ClaimsFailed, match="not installed"):
        await prologue_texts(database, "signed", TOKEN)


@pytest.mark.parametrize("choice", ["auto", "off"])
async def test_reading_grant_gets_a_transaction_that_has_read_before_the_caller_can_change_it(choice: Choice) -> None:
    async with running_registry() as registry:
        upstream = targets_of(Database("127.0.0.1", 1, "main")).default
        pool = registry.pool(PoolKey("default", "main", "postgres"), upstream)
        claims = Claims(OwnAccess(registry), choice)
        prologue = (await claims.ready(Grant("key:1", b"", read_only=True), pool))(7)
        assert (await claims.ready(Grant("key:1", b""), pool))(7) is None
    assert prologue is not None
    assert prologue.read_only
    assert [statement.text for statement in prologue.statements] == ["SELECT"]


async def test_database_is_asked_once_in_a_while_and_when_it_refused(database: Database) -> None:
    now = 1000.0
    async with running_registry() as registry:
        upstream = targets_of(database).default
        pool = registry.pool(PoolKey("default", database.name, "postgres"), upstream)
        claims = Claims(OwnAccess(registry), "auto", clock=lambda: now)
        assert (await claims.ready(TOKEN, pool))(7) is None
        async with own_lease(database) as lease:
            await install(lease)
        assert (await claims.ready(TOKEN, pool))(7) is None
        now += LOOK_AGAIN
        first = (await claims.ready(TOKEN, pool))(7)
        assert first is not None
        async with own_lease(database) as lease:
            await install(lease, new_secret=True)
        assert (await claims.ready(TOKEN, pool))(7) == first
        claims.forget(pool)
        assert (await claims.ready(TOKEN, pool))(7) != first


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
