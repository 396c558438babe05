import socket
from collections.abc import Iterator

import pytest

from sqlhttp_gateway.check.facts import Facts, Holder, facts_of
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Cluster, Database
from tests.support.gateway import free_port
from tests.support.pgbouncer import PROGRAM, pgbouncer


async def looked(url: str) -> Facts:
    return await facts_of(Targets(load_settings(database_url=url)).default)


async def test_superuser_sees_everything(postgres: Cluster, database: Database) -> None:
    other = await database.connect()
    await other.execute("SET application_name = 'a shop'")
    try:
        facts = await looked(database.url)
    finally:
        await other.close()
    assert facts.error == ""
    assert facts.connect_seconds > 0
    assert facts.version_number is not None
    assert facts.version_number >= 140000
    assert (facts.is_standby, facts.is_behind_pooler, facts.asks_password) == (False, False, True)
    assert (facts.tls, facts.is_superuser, facts.may_see_sessions, facts.may_read_passwords) == ("", True, True, True)
    assert facts.clock_skew is not None
    assert abs(facts.clock_skew) < 1
    assert facts.sample is not None
    assert facts.sample.max_connections == 100
    assert Holder("a shop", "postgres", 1) in facts.holders
    assert facts.passwords is not None
    [own] = [each for each in facts.passwords if each.role == "postgres"]
    assert (own.kind, own.is_superuser, own.is_well_known) == ("scram", True, True)


async def test_ordinary_role_leaves_what_it_may_not_see_unknown_and_is_no_error(database: Database) -> None:
    role = f"plain_of_{database.name}"
    database.psql(f"CREATE ROLE {role} LOGIN PASSWORD 'made-by-chance'")
    try:
        facts = await looked(database.as_role(role, "made-by-chance").url)
    finally:
        database.psql(f"DROP ROLE {role}")
    assert facts.error == ""
    assert (facts.is_superuser, facts.may_see_sessions, facts.may_read_passwords) == (False, False, False)
    assert facts.passwords is None
    assert facts.version is not None


async def test_kinds_of_passwords_are_told_apart_and_well_known_ones_found(database: Database) -> None:
    roles = {
        "old": "SET password_encryption = 'md5'; CREATE ROLE {} LOGIN PASSWORD 'made-by-chance'",
        "same": "CREATE ROLE {0} LOGIN PASSWORD '{0}'",
        "none": "CREATE ROLE {} LOGIN",
    }
    names = {key: f"{key}_of_{database.name}" for key in roles}
    for key, sql in roles.items():
        database.psql(sql.format(names[key]))
    try:
        passwords = (await looked(database.url)).passwords
    finally:
        database.psql("; ".join(f"DROP ROLE {name}" for name in names.values()))
    assert passwords is not None
    found = {each.role: (each.kind, each.is_well_known) for each in passwords}
    assert {key: found[name] for key, name in names.items()} == {
        "old": ("md5", False),
        "same": ("scram", True),
        "none": ("none", False),
    }


@pytest.mark.parametrize("port", ["closed", "silent"])
async def test_server_that_does_not_answer_is_a_fact(port: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        number = silent.getsockname()[1] if port == "silent" else free_port()
        facts = await looked(f"postgres://app:secret-word@127.0.0.1:{number}/main?connect_timeout=1")
    assert facts.error
    assert "secret-word" not in facts.error


@pytest.fixture
def pooler(database: Database) -> Iterator[str]:
    """The database behind a PgBouncer in transaction mode: its connection string."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    with pgbouncer(database, size=5) as before:
        yield before.url


async def test_pooler_in_between_is_noticed_with_and_without_the_connection_string_saying_so(pooler: str) -> None:
    for url in (pooler, f"{pooler}?pgbouncer=true"):
        facts = await looked(url)
        assert facts.error == ""
        assert facts.is_behind_pooler is True
        assert facts.tls is None
        assert facts.version is not None
