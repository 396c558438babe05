"""Proving passwords: against Postgres's verifier, or by logging in; never with less than was asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from sqlhttp_gateway.errors import (
    CredentialsMissing,
    DatabaseMissing,
    GatewayError,
    PasswordFailed,
    QueueFull,
    TargetMisconfigured,
    TargetUnavailable,
)
from sqlhttp_gateway.events import Opened
from sqlhttp_gateway.model import Dsn, PoolKey
from sqlhttp_gateway.pools import passwords as passwords_module
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.settings import AuthSettings
from sqlhttp_gateway.wire import scram
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.complaints import no_complaints
from tests.support.leases import Leases, leases, refusal, until, value
from tests.support.program import scratch_role


class Prover:
    """Proves the passwords of callers of one database."""

    def __init__(self, lending: Leases, **auth: Any) -> None:
        self.lending = lending
        self.upstream = lending.upstream
        self.passwords = Passwords(AuthSettings(**{"proof_lifetime": 30.0, **auth}), lending.registry)

    async def prove(self, role: str, password: str | bytes | None, *, database: str | None = None) -> float:
        name = database or self.lending.database.name
        secret = password.encode() if isinstance(password, str) else password
        return await self.passwords.prove(
            Dsn("h", None, name, role, secret), PoolKey("default", name, role), self.upstream
        )

    async def told(self, role: str, password: str | bytes | None, **more: str) -> GatewayError:
        return await refusal(self.prove(role, password, **more))


@asynccontextmanager
async def prover(database: Database, *, auth: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[Prover]:
    async with leases(database, **sections) as lending:
        proving = Prover(lending, **(auth or {}))
        try:
            yield proving
        finally:
            proving.passwords.close()
            await lending.registry.drain(5.0)


@contextmanager
def plain_role(postgres: Cluster, database: Database) -> Iterator[Database]:
    """The gateway's own role where it may not read pg_authid."""
    with scratch_role(postgres) as role:
        yield database.as_role(role, "secret")


@pytest.fixture
def role(postgres: Cluster) -> Iterator[str]:
    with scratch_role(postgres) as name:
        yield name


class Counted:
    """How often a password was stretched, and how often a connection was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stretched: list[int] = []
        derive = scram.pbkdf2_hmac

        def counted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
            self.stretched.append(iterations)
            return derive(name, password, salt, iterations)

        monkeypatch.setattr(scram, "pbkdf2_hmac", counted)


def log_ins(proving: Prover, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many connections were asked for since the last look."""
    from sqlhttp_gateway.pools import opener as opener_module

    asked = 0
    connect = opener_module.connect

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return await connect(*args, **kwargs)

    monkeypatch.setattr(opener_module, "connect", counted)

    def since() -> int:
        nonlocal asked
        asked, before = 0, asked
        return before

    return since


# ── against the verifier ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_right_password_is_proven_without_a_connection_of_its_role(database: Database, role: str) -> None:
    async with prover(database) as proving:
        assert await proving.prove(role, "secret") > asyncio.get_running_loop().time()
        assert [event.pool.rpartition("/")[2] for event in proving.lending.told(Opened)] == ["postgres"]


@pytest.mark.parametrize("wrong", ["Secret", "secret ", "secre", "", "\x01", "x" * 4000, b"\xff\xfe"])
async def test_wrong_password_is_refused(database: Database, role: str, wrong: str | bytes) -> None:
    async with prover(database) as proving:
        await proving.prove(role, "secret")
        for _ in range(2):
            error = await proving.told(role, wrong)
            assert isinstance(error, PasswordFailed)
            assert error.message == f'password authentication failed for user "{role}"'


async def test_password_has_to_be_there(database: Database) -> None:
    async with prover(database) as proving:
        error = await proving.told("postgres", None)
        assert isinstance(error, CredentialsMissing)
        assert error.message == "missing authentication credentials: required password"


@pytest.mark.parametrize("change", ["NOLOGIN", "VALID UNTIL '2001-01-01'", "PASSWORD NULL", "VALID UNTIL '-infinity'"])
async def test_role_that_cannot_log_in_now_is_refused_like_one_that_does_not_exist(
    database: Database, postgres: Cluster, role: str, change: str
) -> None:
    postgres.maintenance.psql(f"ALTER ROLE {role} {change}")
    async with prover(database) as proving:
        assert isinstance(await proving.told(role, "secret"), PasswordFailed)
        assert isinstance(await proving.told("nobody_here", "secret"), PasswordFailed)


async def test_end_of_validity_in_the_future_is_none_yet(database: Database, postgres: Cluster, role: str) -> None:
    async with prover(database) as proving:
        for until_when in ("2999-01-01", "infinity"):
            postgres.maintenance.psql(f"ALTER ROLE {role} VALID UNTIL '{until_when}'")
            proving.passwords._proven.clear()
            await proving.prove(role, "secret")


async def test_verifier_of_the_old_kind_works(database: Database, postgres: Cluster, role: str) -> None:
    postgres.maintenance.psql(f"SET password_encryption = md5; ALTER ROLE {role} PASSWORD 'old'")
    async with prover(database) as proving:
        await proving.prove(role, "old")
        assert isinstance(await proving.told(role, "secret"), PasswordFailed)


async def test_every_refusal_costs_the_same_work(
    database: Database, postgres: Cluster, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted rather than timed: one run of the slow function, of the same length, whatever is wrong."""
    with scratch_role(postgres) as old, scratch_role(postgres) as closed:
        postgres.maintenance.psql(f"SET password_encryption = md5; ALTER ROLE {old} PASSWORD 'old'")
        postgres.maintenance.psql(f"ALTER ROLE {closed} NOLOGIN")
        async with prover(database) as proving:
            await proving.prove(role, "secret")
            counted = Counted(monkeypatch)
            for who in (role, "nobody_here", old, closed):
                assert isinstance(await proving.told(who, "wrong"), PasswordFailed)
            assert counted.stretched == [4096] * 4


async def test_made_up_roles_cost_what_the_real_ones_cost_here(
    database: Database, postgres: Cluster, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.maintenance.psql(f"SET scram_iterations = 6000; ALTER ROLE {role} PASSWORD 'costly'")
    async with prover(database) as proving:
        counted = Counted(monkeypatch)
        await proving.prove(role, "costly")
        assert await proving.told("nobody_here", "wrong")
        assert counted.stretched == [6000, 6000]


# ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_proof_is_believed_for_its_lifetime_and_not_longer(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prover(database, auth={"proof_lifetime": 1000.0}) as proving:
        counted = Counted(monkeypatch)
        before = asyncio.get_running_loop().time()
        until_when = await proving.prove(role, "secret")
        assert before + 1000 <= until_when <= asyncio.get_running_loop().time() + 1000
        assert await proving.prove(role, "secret") == until_when
        assert len(counted.stretched) == 1
        proving.passwords._proven["default", role] = dict.fromkeys(proving.passwords._proven["default", role], 0.0)
        assert await proving.prove(role, "secret") > until_when
        assert len(counted.stretched) == 2


async def test_lifetime_of_zero_proves_every_time(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prover(database, auth={"proof_lifetime": 0}) as proving:
        counted = Counted(monkeypatch)
        for _ in range(3):
            await proving.prove(role, "secret")
        assert len(counted.stretched) == 3


async def test_changed_password_works_at_once_and_the_old_one_no_longer_than_its_proof(
    database: Database, postgres: Cluster, role: str
) -> None:
    async with prover(database) as proving:
        await proving.prove(role, "secret")
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
        await proving.prove(role, "changed")
        await proving.prove(role, "secret")  # still believed
        for proofs in proving.passwords._proven.values():
            proofs.update(dict.fromkeys(proofs, 0.0))
        await proving.prove(role, "changed")
        assert isinstance(await proving.told(role, "secret"), PasswordFailed)


@pytest.mark.parametrize("verify_by", ["verifier", "login"])
async def test_what_one_server_has_said_counts_nothing_at_another_that_its_target_leads_to_now(
    database: Database, postgres: Cluster, role: str, verify_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reload; the same server by another name stands for the other one, whose password differs."""
    async with prover(database, auth={"verify_by": verify_by}) as proving:
        before = proving.upstream
        await proving.prove(role, "secret")
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'another'")
        await proving.prove(role, "secret")  # still believed
        proving.upstream = replace(before, target=replace(before.target, host="localhost"))
        assert isinstance(await proving.told(role, "secret"), PasswordFailed)
        count = log_ins(proving, monkeypatch)
        await proving.prove(role, "another")
        assert count() == (2 if verify_by == "login" else 0), "that a wrong one is refused there, too, is not known yet"
        proving.upstream = before
        assert isinstance(await proving.told(role, "secret"), PasswordFailed)


async def test_no_password_is_kept(database: Database, role: str) -> None:
    async with prover(database) as proving:
        await proving.prove(role, "secret")
        [proofs] = proving.passwords._proven.values()
        assert [len(digest) for digest in proofs] == [16]
        assert b"secret" not in repr(vars(proving.passwords)).encode()


async def test_expired_proofs_of_a_role_are_known_for_a_while_and_then_thrown_away(
    database: Database, postgres: Cluster, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = PoolKey("default", database.name, role)
    async with prover(database, auth={"proof_lifetime": 0}) as proving:
        await proving.prove(role, "secret")
        right, wrong = Dsn("h", None, database.name, role, b"secret"), Dsn("h", None, database.name, role, b"else")
        assert proving.passwords.knew(right, key)
        assert not proving.passwords.knew(wrong, key)
    monkeypatch.setattr(passwords_module, "_KNOWN_FOR", 0.0)
    async with prover(database, auth={"proof_lifetime": 0}) as proving:
        for password in ("one", "two", "three"):
            postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD '{password}'")
            await proving.prove(role, password)
        assert len(proving.passwords._proven["default", role]) == 1


async def test_failures_are_not_remembered(database: Database, postgres: Cluster, role: str) -> None:
    async with prover(database) as proving:
        assert await proving.told(role, "later")
        postgres.maintenance.psql(f"ALTER ROLE {role} PASSWORD 'later'")
        await proving.prove(role, "later")
        assert set(proving.passwords._proven) == {("default", role)}


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_burst_of_one_caller_shares_one_check(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prover(database) as proving:
        counted = Counted(monkeypatch)
        await asyncio.gather(*(proving.prove(role, "secret") for _ in range(50)))
        assert len(counted.stretched) == 1
        assert not proving.passwords._running


async def test_caller_that_leaves_does_not_take_the_check_from_the_others(database: Database, role: str) -> None:
    async with prover(database) as proving:
        first = asyncio.create_task(proving.prove(role, "secret"))
        second = asyncio.create_task(proving.prove(role, "secret"))
        await until(lambda: bool(proving.passwords._running))
        first.cancel()
        assert await second
        assert first.cancelled()


async def test_check_that_nobody_waits_for_any_more_fails_in_silence(database: Database, role: str) -> None:
    async with prover(database) as proving:
        with no_complaints():
            task = asyncio.create_task(proving.prove(role, "wrong"))
            await until(lambda: bool(proving.passwords._running))
            task.cancel()
            await until(lambda: not proving.passwords._running)
            assert task.cancelled()
            del task


async def test_too_many_checks_are_refused_with_words_of_their_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords_module, "_CHECKS_WAITING", 3)
    async with prover(database) as proving:
        tasks = [asyncio.create_task(proving.told(f"nobody_{number}", "x")) for number in range(20)]
        errors = await asyncio.gather(*tasks)
        assert {type(error) for error in errors} == {PasswordFailed, QueueFull}
        full = next(error for error in errors if isinstance(error, QueueFull))
        assert full.message == "too many passwords are being checked just now"
        assert full.retry_after == 1


async def test_event_loop_goes_on_while_a_password_is_stretched(
    database: Database, postgres: Cluster, role: str
) -> None:
    postgres.maintenance.psql(f"SET scram_iterations = 400000; ALTER ROLE {role} PASSWORD 'costly'")
    async with prover(database) as proving:
        task = asyncio.create_task(proving.prove(role, "costly"))
        turns = 0
        async with asyncio.timeout(60):
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
        assert await task
        assert turns > 100


# ── by logging in ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_the_right_to_read_verifiers_it_logs_in(database: Database, postgres: Cluster, role: str) -> None:
    with plain_role(postgres, database) as own:
        async with prover(own) as proving:
            await proving.prove(role, "secret")
            assert role in {event.pool.rpartition("/")[2] for event in proving.lending.told(Opened)}
            for who, password in ((role, "wrong"), ("nobody_here", "secret")):
                error = await proving.told(who, password)
                assert isinstance(error, PasswordFailed)
                assert error.message == f'password authentication failed for user "{who}"'


async def test_log_in_can_be_what_is_asked_for(database: Database, role: str) -> None:
    async with prover(database, auth={"verify_by": "login"}) as proving:
        await proving.prove(role, "secret")
        assert {event.pool.rpartition("/")[2] for event in proving.lending.told(Opened)} == {role}
        assert proving.lending.registry.connections == 1, "the connection of the proof is there for the request"


async def test_verifiers_that_are_asked_for_and_cannot_be_read_are_the_operators_affair(
    database: Database, postgres: Cluster, role: str
) -> None:
    with plain_role(postgres, database) as own:
        async with prover(own, auth={"verify_by": "verifier"}) as proving:
            error = await proving.told(role, "secret")
            assert isinstance(error, TargetMisconfigured)
            assert "pg_authid" in error.message


async def test_wrong_password_costs_one_log_in_whether_the_role_exists_or_not(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with prover(database, auth={"verify_by": "login", "proof_lifetime": 0}) as proving:
        count = log_ins(proving, monkeypatch)
        for who in (role, "nobody_here"):
            assert isinstance(await proving.told(who, "wrong"), PasswordFailed)
            assert count() == 1
        await proving.prove(role, "secret")
        assert count() == 2, "a wrong one is tried too, once"
        await proving.prove(role, "secret")
        assert count() == 1
        for who in (role, "nobody_here"):
            assert isinstance(await proving.told(who, "wrong"), PasswordFailed)
            assert count() == 1


async def test_log_ins_keep_to_the_bound(database: Database, role: str) -> None:
    async with prover(
        database, auth={"verify_by": "login", "proof_lifetime": 0}, pool={"max_size": 1, "max_total": 1}
    ) as proving:
        for _ in range(3):
            await proving.prove(role, "secret")
            assert await proving.told(role, "wrong")
            assert proving.lending.registry.connections <= 1


async def test_server_that_lets_everybody_in_proves_nothing() -> None:
    with running_cluster() as cluster:
        (cluster.data / "pg_hba.conf").write_text("host all postgres all scram-sha-256\nhost all all all trust\n")
        cluster.maintenance.psql("SELECT pg_reload_conf()")
        cluster.maintenance.psql("CREATE ROLE open_to_all LOGIN")
        async with prover(cluster.maintenance, auth={"verify_by": "login"}) as proving:
            for _ in range(2):
                error = await proving.told("open_to_all", "anything")
                assert isinstance(error, TargetMisconfigured)
                assert "trust" in error.message
            await proving.prove("postgres", "postgres")
        async with prover(cluster.maintenance) as proving:
            assert isinstance(await proving.told("open_to_all", "anything"), PasswordFailed), "it has no password"


async def test_database_that_is_missing_is_told_once_the_password_is_right(database: Database, role: str) -> None:
    async with prover(database, auth={"verify_by": "login"}) as proving:
        assert isinstance(await proving.told(role, "wrong", database="there_is_none"), PasswordFailed)
        assert isinstance(await proving.told(role, "secret", database="there_is_none"), DatabaseMissing)


# ── the gateway's own role ───────────────────────────────────────────────────────────────────────────────────────────


async def test_own_role_that_is_refused_is_the_operators_affair(database: Database, role: str) -> None:
    for own in (database.as_role("postgres", "wrong"), replace(database, name="there_is_none")):
        async with prover(own) as proving:
            error = await proving.told(role, "secret")
            assert isinstance(error, TargetMisconfigured)
            assert error.status == 500
            assert error.hint is not None


async def test_postgres_that_cannot_be_asked_is_not_taken_for_one_that_forbids(
    database: Database, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that ends for another reason must not turn the gateway to logging in."""
    monkeypatch.setattr(passwords_module, "_VERIFIER_QUERY", "SELECT 1/(length($1) * 0)")
    async with prover(database) as proving:
        error = await proving.told(role, "secret")
        assert isinstance(error, TargetUnavailable)
        assert error.retryable
        assert not proving.passwords._by_login_until


async def test_no_thread_is_left_when_it_ends(database: Database, role: str) -> None:
    async with prover(database) as proving:
        await proving.prove(role, "secret")
        task = asyncio.create_task(proving.prove(role, "wrong"))
        await until(lambda: bool(proving.passwords._running) or task.done())  # it may be quicker than this looks
        proving.passwords.close()
        await asyncio.wait({task})
        assert task.cancelled() or isinstance(task.exception(), PasswordFailed)


@pytest.mark.parametrize("verify_by", ["verifier", "login"])
@pytest.mark.parametrize(
    "change",
    [
        "ALTER ROLE {0} RENAME TO {0}_before; CREATE ROLE {0} LOGIN PASSWORD 'new'",
        "DROP ROLE {0}; CREATE ROLE {0} LOGIN PASSWORD 'new'",
    ],
)
async def test_connections_of_a_role_whose_name_is_anothers_now_are_replaced(
    postgres: Cluster, database: Database, role: str, verify_by: str, change: str
) -> None:
    """Postgres lets a session go on as the role that has begun it, whatever becomes of that and of its name."""
    async with prover(database, auth={"verify_by": verify_by}) as proving:
        pool = proving.lending.pool_of(database.as_role(role, "secret"))
        await proving.prove(role, "secret")
        lease = await proving.lending.lease(pool, password="secret")
        lease.release()
        await proving.lending.settled(pool)
        postgres.maintenance.psql(change.format(role))
        try:
            await proving.prove(role, "new")
            lease = await proving.lending.lease(pool, password="new")
            assert await value(lease, "SELECT session_user::text") == role
            lease.release()
        finally:
            postgres.maintenance.psql(f"DROP ROLE IF EXISTS {role}_before")
