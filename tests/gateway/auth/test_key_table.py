"""Keys in a table: kept as hashes, read in pages, revoked, and believed only from the gateway's own hand."""

from dataclasses import replace

import pytest

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.api_keys import KeyRecord
from sqlhttp_gateway.auth.grant import address_allowed, origin_allowed
from sqlhttp_gateway.errors import TargetMisconfigured
from sqlhttp_gateway.model import Allowance
from tests.support.cluster import Cluster, Database
from tests.support.own_lease import own_lease
from tests.support.program import scratch_role

FULL = KeyRecord(
    id="0123456789ab",
    hash="sha256:" + 64 * "0",
    target="default",
    database='ma"in',
    role="rö\\le",
    name="it's, {one}",
    expires_at=1_893_456_000.25,
    origins=("https://a.example", "https://*.b.example"),
    addresses=("127.0.0.1",),
    read_only=True,
    statements=frozenset({b"\xab" * 32}),
    login="authenticator",
    allowance=Allowance(max_concurrent=3, rate=2.5, statement_timeout=10.0),
)
PLAIN = KeyRecord("ba9876543210", "sha256:" + 64 * "1", "default", "main", "app")


async def test_keys_come_back_as_they_were_kept(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.create(lease)  # the second key finds the table there
        await key_table.add(lease, FULL)
        await key_table.add(lease, PLAIN)
        assert await key_table.read(lease) == [(FULL, False), (PLAIN, False)]


async def test_table_of_an_older_version_is_read_and_brought_up_to_date(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        database.psql("ALTER TABLE sqlhttp.api_keys DROP COLUMN login")
        assert await key_table.read(lease) == [(PLAIN, False)]
        await key_table.create(lease)
        await key_table.add(lease, FULL)
        assert await key_table.read(lease) == [(FULL, False), (PLAIN, False)]


async def test_keys_that_list_many_statements_are_read_however_many_there_are(database: Database) -> None:
    """The page would have more than a megabyte, and no key at all would be good any more."""
    async with own_lease(database) as lease:
        await key_table.create(lease)
        database.psql(
            "INSERT INTO sqlhttp.api_keys (id, hash, database, role, statements)"
            " SELECT to_char(k, 'fm000000000000'), 'sha256:' || repeat('0', 64), 'main', 'app',"
            " ARRAY(SELECT encode(sha256(s::text::bytea), 'hex') FROM generate_series(1, 400) s)"
            " FROM generate_series(1, 60) k"
        )
        kept = await key_table.read(lease)
    assert len(kept) == 60
    assert all(len(record.statements or ()) == 400 for record, _ in kept)


async def test_where_there_is_no_table_there_are_no_keys(database: Database) -> None:
    async with own_lease(database) as lease:
        assert await key_table.read(lease) == []
        assert await key_table.revoke(lease, PLAIN.id) is False


async def test_revoked_key_is_read_no_more_and_listed_still(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        assert await key_table.revoke(lease, PLAIN.id) is True
        assert await key_table.revoke(lease, PLAIN.id) is False
        assert await key_table.read(lease) == []
        assert await key_table.read(lease, revoked=True) == [(PLAIN, True)]


async def test_more_keys_than_a_page_are_all_read(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        database.psql(
            "INSERT INTO sqlhttp.api_keys (id, hash, database, role)"
            " SELECT to_char(n, 'FM000000000000'), 'sha256:', 'main', 'app' FROM generate_series(1, 1234) n"
        )
        assert len(await key_table.read(lease)) == 1234


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("infinity", None),
        ("-infinity", 0.0),
        ("20000-01-01", None),
        ("0044-03-15 BC", 0.0),
        ("2030-01-01", 1893456000.0),
    ],
)
async def test_any_moment_that_postgres_knows_may_be_the_end_of_a_key(
    database: Database, until: str, expected: float | None
) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        database.psql(f"UPDATE sqlhttp.api_keys SET expires_at = '{until}'::timestamp AT TIME ZONE 'UTC'")
        assert await key_table.read(lease) == [(replace(PLAIN, expires_at=expected), False)]


@pytest.mark.parametrize("value", ["ARRAY[NULL]", "ARRAY[ARRAY['https://a.example', '127.0.0.1']]"])
async def test_entry_that_is_no_text_allows_nothing_and_other_keys_are_read(database: Database, value: str) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        await key_table.add(lease, replace(PLAIN, id="000000000000"))
        database.psql(
            f"UPDATE sqlhttp.api_keys SET origins = {value}::text[], addresses = {value}::text[],"
            f" statements = {value}::text[] WHERE id = '000000000000'"
        )
        [(odd, _), (plain, _)] = await key_table.read(lease)
        assert plain == PLAIN
        assert odd.statements == frozenset()
        assert not origin_allowed(odd.origins, "https://a.example")
        assert not address_allowed(odd.addresses, "127.0.0.1")
        assert odd.origins
        assert odd.addresses


async def test_entry_that_is_no_digest_permits_nothing(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        database.psql("UPDATE sqlhttp.api_keys SET statements = '{SELECT 1,ab}'")
        [(record, _)] = await key_table.read(lease)
        assert record.statements == frozenset()


async def test_table_of_somebody_else_is_not_believed(database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        async with own_lease(database) as lease:
            await key_table.create(lease)
            database.psql(f"ALTER TABLE sqlhttp.api_keys OWNER TO {role}")
            with pytest.raises(TargetMisconfigured, match="belongs neither"):
                await key_table.read(lease)
            with pytest.raises(TargetMisconfigured, match="belongs neither"):
                await key_table.create(lease)
        database.psql("DROP SCHEMA sqlhttp CASCADE")


async def test_other_roles_cannot_read_the_hashes(database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        async with own_lease(database) as lease:
            await key_table.create(lease)
        with pytest.raises(RuntimeError, match="permission denied"):
            database.as_role(role, "secret").psql("SELECT hash FROM sqlhttp.api_keys")


async def test_table_from_before_there_were_limits_is_read_and_gets_the_column(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        database.psql("ALTER TABLE sqlhttp.api_keys DROP COLUMN limits, DROP COLUMN login")
        database.psql(
            "INSERT INTO sqlhttp.api_keys (id, hash, database, role)"
            f" VALUES ('{PLAIN.id}', '{PLAIN.hash}', 'main', 'app')"
        )
        assert await key_table.read(lease) == [(PLAIN, False)]
        await key_table.create(lease)
        await key_table.add(lease, FULL)
        assert dict(await key_table.read(lease)) == {FULL: False, PLAIN: False}


async def test_limits_that_are_none_are_taken_for_the_strictest(database: Database) -> None:
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, PLAIN)
        database.psql("""UPDATE sqlhttp.api_keys SET limits = '{"rates": 5}'""")
        [(record, _)] = await key_table.read(lease)
        assert (record.allowance.max_concurrent, record.allowance.max_waiting, record.allowance.rate) == (1, 0, 1.0)
