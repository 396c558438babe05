"""Tenants before a whole gateway: what one may take, and that a crowd of one leaves the others theirs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.auth.credentials import ApiKey
from tests.support.asgi import Call
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.leases import until
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import watching

ONE = {"query": "SELECT 1 AS one"}


class Place:
    """An application with two keys for one role."""

    def __init__(self, app: RunningApp, keys: list[ApiKey]) -> None:
        self.app = app
        self.keys = keys

    async def post(self, number: int, body: object = ONE, **headers: str) -> Call:
        """A request with one of the keys."""
        return await self.app.post(
            body, authorization=f"Bearer {self.keys[number].text}", neon_connection_string="", **headers
        )

    async def status(self, number: int, body: object = ONE) -> int:
        return (await self.post(number, body)).status

    @property
    def waiting(self) -> int:
        return sum(pool.gate.waiting for pool in self.app.pools)


@asynccontextmanager
async def place(database: Database, *of_keys: dict[str, Any], **sections: Any) -> AsyncIterator[Place]:
    keys = [new_key() for _ in of_keys]
    settings = {
        key.id: {"hash": hash_of(key), "database": database.name, "role": "postgres", **each}
        for key, each in zip(keys, of_keys, strict=True)
    }
    async with running_app(database, keys=settings, **sections) as app:
        yield Place(app, keys)


async def test_one_key_in_a_loop_does_not_starve_another(database: Database) -> None:
    """Five hundred at once of one key before four connections; the other's request waits for a handful of theirs."""
    async with place(database, {}, {}, pool={"max_size": 4, "wait_timeout": 30, "max_waiting": 1000}) as here:
        is_over = False
        answered = 0

        async def loop() -> None:
            nonlocal answered
            while not is_over:
                assert await here.status(0, {"query": "SELECT pg_sleep(0.002)"}) == 200
                answered += 1

        crowd = [asyncio.create_task(loop()) for _ in range(500)]
        await until(lambda: here.waiting > 450 and answered > 500)
        overtaken_by = []
        for _ in range(5):
            before = answered
            assert await here.status(1) == 200
            overtaken_by.append(answered - before)
        is_over = True
        await asyncio.gather(*crowd)
        assert max(overtaken_by) < 50, "standing behind all of them would be some 500"


async def test_line_that_a_crowd_has_filled_has_room_for_another_key(database: Database) -> None:
    async with place(database, {}, {}, pool={"max_size": 1, "max_waiting": 20, "wait_timeout": 20}) as here:
        crowd = [asyncio.create_task(here.post(0, {"query": "SELECT pg_sleep(0.02)"})) for _ in range(40)]
        await until(lambda: here.waiting == 20)
        assert await here.status(1) == 200
        answers = [(await task) for task in crowd]
        assert {answer.status for answer in answers} == {200, 503}
        refused = next(answer.json()["message"] for answer in answers if answer.status == 503)
        assert "20 requests wait for 1 connections" in refused


async def test_key_s_own_limit_of_requests_at_once_holds_and_leaves_the_pool_to_others(database: Database) -> None:
    limits = {"max_concurrent": 1, "max_waiting": 1}
    async with place(database, limits, {}, pool={"max_size": 4}) as here, watching(database) as watch:
        await watch.run("SELECT pg_advisory_lock(1)")
        first = asyncio.create_task(here.post(0, {"query": "SELECT pg_advisory_xact_lock(1)"}))
        await watch.until(1, "wait_event = 'advisory'")
        second = asyncio.create_task(here.post(0))
        await asyncio.sleep(0)
        third = await here.post(0)
        assert third.status == 429
        assert third.headers["retry-after"] == "1"
        assert third.json()["code"] == "53300"
        assert "(limits.max_concurrent), and 1 of its requests wait, which is all" in third.json()["message"]
        assert await here.status(1) == 200
        assert not first.done()
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert [(await task).status for task in (first, second)] == [200, 200]
        assert await here.status(0) == 200


async def test_key_that_sends_too_fast_is_told_when_to_come_back(database: Database) -> None:
    async with place(database, {"rate": 0.1, "burst": 2}, {}) as here:
        assert [await here.status(0), await here.status(0)] == [200, 200]
        call = await here.post(0)
        assert call.status == 429
        assert call.headers["retry-after"] == "10"
        assert call.json()["code"] == "53400"
        assert (
            "may send 0.1 requests a second here, 2 of them at once (limits.rate, limits.burst)"
            in call.json()["message"]
        )
        assert await here.status(1) == 200


async def test_role_s_limits_hold_for_its_password_and_as_a_default_for_its_keys(database: Database) -> None:
    roles = {"postgres": {"rate": 0.1, "burst": 1}}
    async with place(database, {}, {"rate": 0.2}, limits={"roles": roles}) as here:
        assert [(await here.app.post(ONE)).status for _ in range(2)] == [200, 429]
        assert [await here.status(0), await here.status(0)] == [200, 429]
        assert await here.status(1) == 200
        call = await here.post(1)
        assert (call.status, call.headers["retry-after"]) == (429, "5"), "its rate is its own, the burst is the role's"


async def test_lower_limits_of_a_key_hold_for_statements_and_answers(database: Database) -> None:
    limits = {"statement_timeout": 0.1, "max_response_bytes": 1000}
    async with place(database, limits, {"statement_timeout": 500, "max_response_bytes": 10**9}) as here:
        call = await here.post(0, {"query": "SELECT pg_sleep(30)"})
        assert (call.status, call.json()["code"]) == (400, "57014")
        assert call.json()["hint"] == "For this tenant it is 0.1 s (limits.statement_timeout)."
        call = await here.post(0, {"query": "SELECT repeat('x', 2000)"})
        assert (call.status, call.json()["hint"]) == (
            507,
            "For this tenant it is 1000 bytes (limits.max_response_bytes).",
        )
        assert await here.status(1, {"query": "SELECT repeat('x', 2000), pg_sleep(0.5)"}) == 200
        call = await here.post(1, {"query": "SELECT repeat('x', 11000000)"})
        assert (call.status, call.json()["hint"]) == (507, None), "the gateway's own is lower"


async def test_storm_of_cancellations_loses_no_permit(database: Database) -> None:
    async with place(database, {"max_concurrent": 3}, {}, pool={"max_size": 2}) as here:
        for _ in range(6):
            tasks = [
                asyncio.create_task(here.post(number % 2, {"query": "SELECT pg_sleep(0.01)"})) for number in range(80)
            ]
            for number, task in enumerate(tasks):
                if number % 7 == 0:
                    await asyncio.sleep(0)
                if number % 3:
                    task.cancel()
            await asyncio.wait(tasks)
        await until(lambda: not any(pool.gate.in_use or pool.gate.waiting for pool in here.app.pools))
        assert [await here.status(0), await here.status(1)] == [200, 200]
        tenant = here.app.assembly._quotas._known[f"key:{here.keys[0].id}"]
        assert tenant._gate.in_use == 0
        assert tenant._waiting == 0


async def many(connection: Any) -> None:
    for _ in range(10):
        await connection.execute("SELECT 1")


async def test_tunnel_s_transactions_and_leases_count_as_requests_do(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    port = free_port()
    roles = {"postgres": {"max_concurrent": 1, "max_waiting": 0, "rate": 0.01, "burst": 8}}
    start_gateway(listen={"port": 0, "postgres": port}, limits={"roles": roles}, statement={"timeout": 60})
    address = {"host": "127.0.0.1", "port": port, "user": "postgres", "database": database.name}
    first = await asyncpg.connect(**address, password=database.password, statement_cache_size=0)
    try:
        second = await asyncpg.connect(**address, password=database.password, statement_cache_size=0)
        try:
            await first.execute("BEGIN")
            with pytest.raises(asyncpg.TooManyConnectionsError, match=r"limits\.max_waiting"):
                await second.execute("SELECT 1")
            await first.execute("COMMIT")
            await second.execute("SELECT 1")  # the tunnel goes on
            with pytest.raises(asyncpg.ConfigurationLimitExceededError, match=r"limits\.rate"):
                await many(second)
        finally:
            await second.close()
    finally:
        await first.close()
