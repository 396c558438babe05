"""The functions in Postgres: they believe what the gateway signed for this transaction, and nothing else.

A caller here is a connection of a plain role, which may send whatever SQL it likes.
"""

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from sqlhttp_gateway.auth import rls
from sqlhttp_gateway.auth.claims import install, secret_of
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease
from tests.support.program import scratch_role

ANN = b'{"sub":"ann"}'


class Caller(NamedTuple):
    """A role's own connection, and the secret it does not know."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    secret: bytes
    role: str

    def token(
        self, claims: bytes = ANN, *, pid: int | None = None, age: float = 0.0, secret: bytes | None = None
    ) -> str:
        statement = rls.signed_claims(
            claims,
            secret=self.secret if secret is None else secret,
            pid=self.connection.get_server_pid() if pid is None else pid,
            now=time.time() - age,
        )
        assert statement.params[0] is not None
        return statement.params[0].decode()

    async def begin(self, claims: bytes = ANN) -> None:
        await self.connection.execute("BEGIN")
        await self.connection.execute("SELECT sqlhttp.begin_claims($1)", self.token(claims))

    async def user(self) -> str | None:
        found: str | None = await self.connection.fetchval("SELECT auth.user_id()")
        return found


@pytest.fixture
async def caller(database: Database, postgres: Cluster) -> AsyncIterator[Caller]:
    with scratch_role(postgres) as role:
        async with own_lease(database) as lease:
            await install(lease)
            secret = await secret_of(lease)
        assert secret is not None
        connection = await database.as_role(role, "secret").connect()
        try:
            yield Caller(connection, secret, role)
        finally:
            await connection.close()
            database.psql(f"DROP OWNED BY {role}")


def test_mac_is_hmac_sha256() -> None:
    inner, outer = rls.pads(b"k" * 32)
    by_hand = hashlib.sha256(outer + hashlib.sha256(inner + b"m").digest()).digest()
    assert by_hand == hmac.new(b"k" * 32, b"m", hashlib.sha256).digest()
    assert rls.secret_from_pad(inner) == b"k" * 32


def test_signed_request_names_process_and_time() -> None:
    statement = rls.signed_claims(b"{}", secret=b"k" * 32, pid=7, now=1.5)
    assert statement.params[0] is not None
    assert statement.params[0][64:] == b"7.1500000.{}"


async def test_claims_are_read_by_supabases_functions_too(caller: Caller) -> None:
    await caller.begin(b'{"sub":"ann","role":"member","org":{"id":7}}')
    found = await caller.connection.fetchrow("SELECT auth.role() AS role, auth.jwt()->'org'->>'id' AS org")
    assert found is not None
    assert tuple(found) == ("member", "7")
    await caller.connection.execute("ROLLBACK")
    assert await caller.connection.fetchval("SELECT auth.role() IS NULL AND auth.jwt() IS NULL")


async def test_claims_are_read_by_the_three_functions(caller: Caller) -> None:
    sub = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    await caller.begin(b'{"sub":"%b","x":[1,{"y":null}]}' % sub.encode())
    assert await caller.user() == sub
    assert str(await caller.connection.fetchval("SELECT auth.uid()")) == sub
    assert await caller.connection.fetchval("SELECT auth.session()->'x'->1 ? 'y'") is True


async def test_claims_in_any_script_survive(caller: Caller) -> None:
    await caller.begin('{"sub":"Ännchen \\" $1 \'; DROP TABLE x; -- ☃"}'.encode())
    assert await caller.user() == "Ännchen \" $1 '; DROP TABLE x; -- ☃"


async def test_without_claims_the_user_is_null(caller: Caller) -> None:
    assert await caller.user() is None


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
async def test_claims_end_with_their_transaction(caller: Caller, end: str) -> None:
    await caller.begin()
    assert await caller.user() == "ann"
    await caller.connection.execute(end)
    assert await caller.user() is None


async def test_claims_survive_a_savepoint_that_is_rolled_back(caller: Caller) -> None:
    await caller.begin()
    await caller.connection.execute("SAVEPOINT a")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await caller.connection.execute("SELECT 1/0")
    await caller.connection.execute("ROLLBACK TO a")
    assert await caller.user() == "ann"


# ── what a caller may try ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "forgery",
    [
        '{"sub":"bob"}',
        "0" * 64 + '{"sub":"bob"}',
        "x",
        "é" * 70,
    ],
)
async def test_setting_that_the_caller_made_is_an_error(caller: Caller, forgery: str) -> None:
    for is_local in (True, False):
        async with caller.connection.transaction():
            await caller.connection.execute("SELECT set_config('sqlhttp.claims', $1, $2)", forgery, is_local)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="not those that the gateway set"):
                async with caller.connection.transaction():
                    await caller.user()


async def test_claims_with_another_subject_under_the_same_signature_are_an_error(caller: Caller) -> None:
    await caller.begin()
    signed = await caller.connection.fetchval("SELECT current_setting('sqlhttp.claims')")
    await caller.connection.execute("SELECT set_config('sqlhttp.claims', $1, true)", signed.replace("ann", "bob"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await caller.user()


async def test_claims_of_an_earlier_transaction_are_an_error_on_the_same_backend(caller: Caller) -> None:
    await caller.begin()
    signed = await caller.connection.fetchval("SELECT current_setting('sqlhttp.claims')")
    await caller.connection.execute("COMMIT")
    for is_local in (False, True):
        await caller.connection.execute("BEGIN")
        await caller.connection.execute("SELECT set_config('sqlhttp.claims', $1, $2)", signed, is_local)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await caller.user()
        await caller.connection.execute("ROLLBACK")


async def test_what_was_signed_for_a_transaction_begins_no_other(caller: Caller) -> None:
    await caller.begin()
    signed = await caller.connection.fetchval("SELECT current_setting('sqlhttp.claims')")
    pid = caller.connection.get_server_pid()
    for forged in (signed, signed[:64] + f"{pid}.1." + signed[64:], "", "." * 70, f"{'0' * 64}{pid}.x.{{}}"):
        await caller.connection.execute("SAVEPOINT a")
        with pytest.raises(asyncpg.PostgresError, match="not signed by the gateway"):
            await caller.connection.execute("SELECT sqlhttp.begin_claims($1)", forged)
        await caller.connection.execute("ROLLBACK TO a")


async def test_request_signed_for_another_backend_is_refused(caller: Caller) -> None:
    with pytest.raises(asyncpg.PostgresError, match="for another connection"):
        await caller.connection.execute("SELECT sqlhttp.begin_claims($1)", caller.token(pid=1))


@pytest.mark.parametrize("age", [301.0, -301.0])
async def test_request_signed_long_ago_is_refused(caller: Caller, age: float) -> None:
    with pytest.raises(asyncpg.PostgresError, match="too long ago"):
        await caller.connection.execute("SELECT sqlhttp.begin_claims($1)", caller.token(age=age))


async def test_request_signed_with_another_secret_is_refused(caller: Caller) -> None:
    with pytest.raises(asyncpg.PostgresError, match="not signed by the gateway"):
        await caller.connection.execute("SELECT sqlhttp.begin_claims($1)", caller.token(secret=b"x" * 32))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM sqlhttp.claims_secret",
        "TABLE sqlhttp.claims_secret",
        "UPDATE sqlhttp.claims_secret SET inner_pad = ''",
        "INSERT INTO sqlhttp.claims_secret VALUES (true, '', '')",
        "COPY sqlhttp.claims_secret TO STDOUT",
        "SELECT sqlhttp.mac('x')",
        "SELECT sqlhttp.matches('x', 'y')",
        "CREATE FUNCTION sqlhttp.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION auth.user_id(int) RETURNS text LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION auth.user_id() RETURNS text LANGUAGE sql AS $$SELECT 'bob'::text$$",
        "ALTER FUNCTION auth.user_id() RESET ALL",
        "ALTER FUNCTION sqlhttp.claims() SET search_path = public",
        "DROP FUNCTION auth.user_id()",
        "CREATE TABLE sqlhttp.x ()",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "ANALYZE sqlhttp.claims_secret; SELECT 1/(SELECT count(*) FROM pg_stats WHERE tablename = 'claims_secret')",
        "CREATE TRIGGER t BEFORE INSERT ON sqlhttp.claims_secret EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE TEMP TABLE l (LIKE sqlhttp.claims_secret INCLUDING ALL); INSERT INTO l SELECT * FROM"
        " sqlhttp.claims_secret",
    ],
)
async def test_neither_secret_nor_functions_can_be_reached(caller: Caller, statement: str) -> None:
    await caller.begin()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as refused:
        await caller.connection.execute(statement)
    assert getattr(refused.value, "sqlstate", "42501") in {"42501", "22012"}


async def test_nothing_a_caller_creates_takes_the_place_of_what_the_functions_use(
    caller: Caller, database: Database
) -> None:
    database.psql(f"GRANT CREATE ON SCHEMA public TO {caller.role}; GRANT TEMP ON DATABASE {database.name} TO PUBLIC")
    connection = caller.connection
    for schema in ("public", "pg_temp"):
        for function, result in (
            ("sha256(bytea)", "bytea LANGUAGE sql AS $$SELECT ''::bytea$$"),
            ("convert_to(text, name)", "bytea LANGUAGE sql AS $$SELECT ''::bytea$$"),
            ("pg_backend_pid()", "int LANGUAGE sql AS 'SELECT 1'"),
            ("transaction_timestamp()", "timestamptz LANGUAGE sql AS $$SELECT 'epoch'::timestamptz$$"),
            (
                "current_setting(text, boolean)",
                """text LANGUAGE sql AS $$SELECT repeat('0', 64) || '{"sub":"bob"}'$$""",
            ),
            ("texteq(text, text)", "boolean LANGUAGE sql AS 'SELECT true'"),
            ("byteaeq(bytea, bytea)", "boolean LANGUAGE sql AS 'SELECT true'"),
            ("evil(jsonb, text)", "text LANGUAGE sql AS $$SELECT 'bob'::text$$"),
            ("user_id()", "text LANGUAGE sql AS $$SELECT 'bob'::text$$"),
        ):
            await connection.execute(f"CREATE FUNCTION {schema}.{function} RETURNS {result}")
        await connection.execute(f"CREATE OPERATOR {schema}.= (FUNCTION = {schema}.byteaeq, LEFTARG = bytea,"
                                 " RIGHTARG = bytea)")  # fmt: skip
        await connection.execute(f"CREATE OPERATOR {schema}.->> (FUNCTION = {schema}.evil, LEFTARG = jsonb,"
                                 " RIGHTARG = text)")  # fmt: skip
    await connection.execute("CREATE TEMP TABLE claims_secret (inner_pad bytea, outer_pad bytea)")
    await connection.execute("CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false)")
    await connection.execute("CREATE DOMAIN pg_temp.uuid AS pg_catalog.text")
    for path in ("public, pg_catalog", "pg_temp, public, pg_catalog", "public", "''"):
        await connection.execute(f"SET search_path = {path}")
        await caller.begin()
        assert await connection.fetchval("SELECT auth.user_id()") == "ann"
        await connection.execute("SELECT pg_catalog.set_config('sqlhttp.claims', '{\"sub\":\"bob\"}', true)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT auth.user_id()")
        await connection.execute("ROLLBACK")


async def test_plan_that_runs_in_parallel_reads_the_claims_in_its_leader(caller: Caller, database: Database) -> None:
    database.psql(
        "CREATE TABLE notes AS SELECT n AS id, CASE WHEN n % 2 = 0 THEN 'ann' ELSE 'bob' END AS owner"
        f" FROM generate_series(1, 20000) n; GRANT SELECT ON notes TO {caller.role}; ANALYZE notes"
    )
    for setting in ("min_parallel_table_scan_size = 0", "parallel_setup_cost = 0", "parallel_tuple_cost = 0"):
        await caller.connection.execute(f"SET {setting}")
    await caller.begin()
    assert await caller.connection.fetchval("SELECT count(*) FROM notes WHERE owner = (SELECT auth.user_id())") == 10000


async def test_plain_claims_are_a_setting_for_the_transaction(caller: Caller) -> None:
    statement = rls.plain_claims(ANN)
    assert statement.params == (ANN,)
    async with caller.connection.transaction():
        await caller.connection.execute(statement.text, ANN.decode())
        read = "SELECT current_setting('request.jwt.claims', true)"
        assert await caller.connection.fetchval(read) == ANN.decode()
    assert not await caller.connection.fetchval(read)
