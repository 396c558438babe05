"""The pool's promises on a real Postgres: never more backends than the bound, and refusals with numbers."""

import asyncio
import re
import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.cluster import Cluster, Database
from tests.support.program import Program, scratch_role
from tests.support.sockets import Answer, begin, post
from tests.support.watch import Watch, watching

HELD = "SELECT pg_advisory_xact_lock(1)"


async def answers(program: Program, bodies: list[object]) -> list[Answer]:
    return list(await asyncio.gather(*(post(program, body) for body in bodies)))


async def test_two_hundred_at_once_on_five_connections_all_succeed(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool={"max_size": 5, "wait_timeout": 60})
    async with watching(database) as watch, watch.counting() as seen:
        got = await answers(
            program, [{"query": "SELECT $1::int, pg_sleep(0.01)::text", "params": [i]} for i in range(200)]
        )
    assert [answer.status for answer in got] == [200] * 200
    assert [answer.json()["rows"][0][0] for answer in got] == list(range(200))
    assert seen.most == 5, f"of {seen.looks} looks"
    assert seen.looks > 20


async def test_bound_holds_while_backends_die(start_program: Callable[..., Program], database: Database) -> None:
    program = start_program(pool={"max_size": 3, "wait_timeout": 60})
    bodies: list[object] = [
        {"query": "SELECT pg_terminate_backend(pg_backend_pid())" if i % 5 == 0 else "SELECT pg_sleep(0.005)::text"}
        for i in range(100)
    ]
    async with watching(database) as watch, watch.counting("state IS NOT NULL") as seen:
        got = await answers(program, bodies)
    assert seen.most <= 3, f"of {seen.looks} looks"
    assert {answer.status for i, answer in enumerate(got) if i % 5} == {200}
    assert {answer.json()["code"] for i, answer in enumerate(got) if i % 5 == 0} == {"57P01"}


async def test_bound_over_all_pools_holds_and_idle_ones_make_room(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program(pool={"max_size": 3, "max_total": 4, "wait_timeout": 60})
    with scratch_role(postgres) as one, scratch_role(postgres) as two, scratch_role(postgres) as three:
        programs = [program.to(database.as_role(role, "secret")) for role in (one, two, three)]
        async with watching(database) as watch, watch.counting("usename <> 'postgres'") as seen:
            got = await asyncio.gather(
                *(
                    post(programs[i % 3], {"query": "SELECT current_user::text, pg_sleep(0.01)::text"})
                    for i in range(90)
                )
            )
            for each in programs:  # one after another, when the others' connections are idle
                got.append(await post(each, {"query": "SELECT 1"}))
        assert [answer.status for answer in got] == [200] * 93, got[-1].body
        assert seen.most <= 4, f"of {seen.looks} looks"


async def held(program: Program, watch: Watch) -> asyncio.Task[Answer]:
    """A request that occupies a connection until `watch` lets it go."""
    await watch.run("SELECT pg_advisory_lock(1)")
    task = asyncio.create_task(post(program, {"query": HELD}))
    await watch.until(1, "wait_event = 'advisory'")
    return task


async def test_wait_that_expires_is_told_with_the_numbers(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool={"max_size": 1, "wait_timeout": 0.3})
    async with watching(database) as watch:
        holder = await held(program, watch)
        began = time.monotonic()
        answer = await post(program, {"query": "SELECT 1"})
        waited = time.monotonic() - began
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert (await holder).status == 200
    assert answer.status == 503
    assert 0.3 <= waited < 15
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["access-control-allow-origin"] == "*"
    error = answer.json()
    assert error["code"] == "53300"
    [told] = re.findall(r"within ([0-9.]+) s", error["message"])
    assert 0.29 <= float(told) <= waited + 0.01
    assert database.name in error["message"]
    assert (await post(program, {"query": "SELECT 1"})).status == 200


async def test_full_queue_refuses_at_once_with_the_numbers(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool={"max_size": 1, "wait_timeout": 60, "max_waiting": 2})
    async with watching(database) as watch:
        holder = await held(program, watch)
        tasks = [asyncio.create_task(post(program, {"query": "SELECT 1"})) for _ in range(10)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in tasks) < 8:  # noqa: ASYNC110 - any eight of ten
                await asyncio.sleep(0.002)
        refused = [task.result() for task in tasks if task.done()]
        await watch.run("SELECT pg_advisory_unlock(1)")
        got = await asyncio.gather(holder, *tasks)
    assert sorted(answer.status for answer in got) == [200] * 3 + [503] * 8
    for answer in refused:
        error = answer.json()
        assert (answer.status, error["code"]) == (503, "53300")
        assert int(answer.headers["retry-after"]) >= 1
        assert "2" in error["message"]
        assert "max_waiting" in error["message"]


async def test_waiter_that_hangs_up_costs_nothing(start_program: Callable[..., Program], database: Database) -> None:
    program = start_program(pool={"max_size": 1, "wait_timeout": 60, "max_waiting": 3})
    async with watching(database) as watch:
        holder = await held(program, watch)
        for _ in range(5):
            waiters = [await begin(program, {"query": "SELECT 1"}) for _ in range(3)]
            await until_waiting(program, 3)
            for waiter in waiters:
                await waiter.hang_up()
            await until_waiting(program, 0)
        assert not holder.done()
        stayer = await begin(program, {"query": "SELECT 2"})
        await until_waiting(program, 1)
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert (await holder).status == 200
        assert (await stayer.answer()).json()["rows"] == [[2]]


async def until_waiting(program: Program, count: int) -> None:
    """Until so many requests wait for a connection, as the gateway's metrics have it."""
    name = "sqlhttp_pool_waiting{"
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as http:
        while True:
            text = (await http.get(program.endpoint.replace("/sql", "/metrics"))).text
            if count == sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)):
                return
            await asyncio.sleep(0.005)


async def test_idle_connections_are_closed(start_program: Callable[..., Program], database: Database) -> None:
    program = start_program(pool={"idle_timeout": 0.2})
    async with watching(database) as watch:
        await answers(program, [{"query": "SELECT pg_sleep(0.05)::text"}] * 4)
        await watch.until(0)
    assert program.value("SELECT 1") == 1


async def test_min_size_connections_stay(
    start_program: Callable[..., Program], database: Database, postgres: Cluster
) -> None:
    program = start_program(pool={"idle_timeout": 0.2, "min_size": 2})
    three: list[object] = [{"query": "SELECT pg_sleep(0.05)::text"}] * 3
    own = (
        "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE datname = current_database() "
        f"AND usename = '{database.role}' AND pid <> pg_backend_pid()"
    )
    with scratch_role(postgres) as role:
        async with watching(database) as watch:
            await answers(program, three)
            await watch.until(2)
            stayed = await watch.value(own)
            # When a connection of another pool that became idle later is closed, theirs would have been long ago.
            await answers(program.to(database.as_role(role, "secret")), three)
            await watch.until(2, f"usename = '{role}'")
            assert await watch.value(own) == stayed


async def test_connection_is_replaced_at_the_end_of_its_life(start_program: Callable[..., Program]) -> None:
    program = start_program(pool={"max_size": 1, "max_lifetime": 0.3})
    first = program.value("SELECT pg_backend_pid()")
    async with asyncio.timeout(10):
        while program.value("SELECT pg_backend_pid()") == first:  # noqa: ASYNC110 - a lifetime tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("size", [1, 4])
async def test_all_permits_can_be_used_at_once(
    start_program: Callable[..., Program], database: Database, size: int
) -> None:
    program = start_program(pool={"max_size": size})
    async with watching(database) as watch:
        await watch.run("SELECT pg_advisory_lock(1)")
        tasks = [asyncio.create_task(post(program, {"query": HELD})) for _ in range(size)]
        await watch.until(size, "wait_event = 'advisory'")
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert {(await task).status for task in tasks} == {200}
