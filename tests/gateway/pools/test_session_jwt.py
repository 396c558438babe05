"""A connection's own key: tokens that are good once, and whose extension is told of it."""

import jwt
import orjson
import pytest

from sqlhttp_gateway.pools.session_jwt import KEY_PARAMETER, SessionKey
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.session_jwt import install_stand_in

CLAIMS = b'{"foo":"bar","jti":"foo\\nbar","nested":{"jti":"tricky nesting"}}'


def decoded(key: SessionKey, token: bytes) -> dict[str, object]:
    options = {"verify_jti": False}  # the extension's is a number, RFC 7519's a text
    found: dict[str, object] = jwt.decode(token, jwt.PyJWK.from_json(key.jwk), algorithms=["EdDSA"], options=options)
    return found


def test_token_has_the_claims_and_a_number_of_its_own_in_place_of_their_jti() -> None:
    key = SessionKey(b"\1" * 32)
    assert decoded(key, key.token(CLAIMS)) == {"foo": "bar", "jti": 1, "nested": {"jti": "tricky nesting"}}
    assert decoded(key, key.token(b'{"sub":"ann"}')) == {"sub": "ann", "jti": 2}


def test_public_key_is_what_the_extension_wants_and_the_private_one_stays() -> None:
    key = SessionKey(b"\1" * 32)
    assert orjson.loads(key.jwk) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w",  # of the private key of 32 ones
    }
    assert "AQEB" not in repr(key)


def test_no_two_connections_have_the_same_key() -> None:
    assert SessionKey().jwk != SessionKey().jwk


async def test_key_is_kept_where_a_superuser_installed_the_extension(database: Database) -> None:
    install_stand_in(database)
    key = SessionKey()
    connection = await database.connect()
    try:
        await connection.execute("SELECT set_config($1, $2, false)", KEY_PARAMETER, key.jwk)
        assert await key.begin(connection)
        assert await connection.fetchval("SELECT jwk FROM auth.stand_in") == key.jwk
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "before",
    [
        "SELECT",
        "CREATE SCHEMA auth",
        "CREATE SCHEMA auth AUTHORIZATION {role}; SET ROLE {role};"
        " CREATE FUNCTION auth.init() RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';"
        " CREATE FUNCTION auth.jwt_session_init(text) RETURNS void LANGUAGE sql AS ''",
    ],
)
async def test_nothing_is_run_where_it_is_not_installed_or_is_somebodys_trap(
    database: Database, postgres: Cluster, before: str
) -> None:
    with scratch_role(postgres) as role:
        database.psql(before.format(role=role))
        connection = await database.connect()
        try:
            assert not await SessionKey().begin(connection)
        finally:
            await connection.close()
        database.psql(f"DROP OWNED BY {role}")


async def test_role_that_may_not_use_the_schema_has_its_connection_all_the_same(
    database: Database, postgres: Cluster
) -> None:
    install_stand_in(database)
    database.psql("REVOKE USAGE ON SCHEMA auth FROM PUBLIC")
    with scratch_role(postgres) as role:
        connection = await database.as_role(role, "secret").connect()
        try:
            assert not await SessionKey().begin(connection)
        finally:
            await connection.close()


async def test_version_that_wants_another_kind_of_key_is_not_used(database: Database) -> None:
    install_stand_in(database)
    database.psql(
        "CREATE OR REPLACE FUNCTION auth.init() RETURNS void LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''pg_session_jwt.jwk requires an ES256 JWK''; END'"
    )
    connection = await database.connect()
    try:
        assert not await SessionKey().begin(connection)
    finally:
        await connection.close()
