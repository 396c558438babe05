"""What a password may cost: whose role asks for more is refused, and holds up nobody."""

import hashlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Literal

import asyncpg
import pytest

from sqlhttp_gateway.errors import PasswordFailed
from sqlhttp_gateway.model import Dsn, PoolKey
from sqlhttp_gateway.pools import rounds
from sqlhttp_gateway.pools.connect import connect
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.settings import AuthSettings
from tests.support.cluster import Cluster, Database
from tests.support.leases import leases, refusal
from tests.support.program import scratch_role

ROUNDS = 10_000


@pytest.fixture
def role(postgres: Cluster) -> Iterator[str]:
    with scratch_role(postgres) as name:
        postgres.maintenance.psql(f"SET scram_iterations = {ROUNDS}; ALTER ROLE {name} PASSWORD 'secret'")
        yield name


@pytest.mark.parametrize("verify_by", ["verifier", "login"])
async def test_password_that_costs_too_much_is_refused_as_a_wrong_one(
    database: Database, role: str, verify_by: Literal["verifier", "login"], monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, is_refused in ((ROUNDS, False), (ROUNDS - 1, True)):
        monkeypatch.setattr(rounds, "MOST_ROUNDS", most)
        async with leases(database) as lending:
            passwords = Passwords(AuthSettings(verify_by=verify_by), lending.registry)
            key, dsn = PoolKey("default", database.name, role), Dsn("h", None, database.name, role, b"secret")
            try:
                proving = passwords.prove(dsn, key, lending.upstream)
                if is_refused:
                    assert isinstance(await refusal(proving), PasswordFailed)
                else:
                    await proving
            finally:
                passwords.close()
                await lending.registry.drain(5.0)


async def test_log_in_that_costs_too_much_is_not_paid_for(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres says what it says of a wrong password; nothing of it looks like a server that is down."""
    monkeypatch.setattr(rounds, "MOST_ROUNDS", ROUNDS - 1)
    async with leases(database) as lending:
        with pytest.raises(PasswordFailed):
            await connect(
                lending.upstream, database=database.name, role=role, password=b"secret", on_lost=lambda backend: None
            )


async def test_asyncpg_still_takes_the_function_from_where_it_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(rounds, "are_too_many", lambda number: asked.append(number))
    connection = await asyncpg.connect(database.url)
    await connection.close()
    assert asked == [4096]


def test_what_people_choose_is_allowed_and_no_more() -> None:
    assert [rounds.are_too_many(number) for number in (4096, 600_000, 2_147_483_647)] == [False, False, True]


async def test_second_log_in_of_a_role_hashes_nothing(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bytes] = []

    def pbkdf2(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
        hashed.append(salt)
        return hashlib.pbkdf2_hmac(name, password, salt, rounds)

    monkeypatch.setattr(rounds, "hashlib", SimpleNamespace(pbkdf2_hmac=pbkdf2))
    async with leases(database) as lending:
        for _ in range(3):
            backend = await connect(
                lending.upstream, database=database.name, role=role, password=b"secret", on_lost=lambda backend: None
            )
            backend.abort()
    assert len(hashed) == 1


async def test_new_password_of_a_role_is_hashed_anew(database: Database, role: str, postgres: Cluster) -> None:
    async with leases(database) as lending:
        for password in (b"secret", b"another", b"secret"):
            postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD '{password.decode()}'")
            backend = await connect(
                lending.upstream, database=database.name, role=role, password=password, on_lost=lambda backend: None
            )
            backend.abort()
