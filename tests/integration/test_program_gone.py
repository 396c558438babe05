"""The program hangs up: its statement ends, nothing of it stays, and nobody else notices."""

import asyncio
import random
import time
from collections.abc import Callable
from itertools import product

from tests.support.cluster import Database
from tests.support.program import Program
from tests.support.sockets import begin, post
from tests.support.watch import watching

SLEEPING = "wait_event = 'PgSleep'"
BUSY = 5.0
"""Seconds for what takes 100 ms on a machine that has nothing else to do; the statements would run for sixty."""


async def test_statement_ends_when_its_program_hangs_up(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool={"max_size": 1})
    backend = program.value("SELECT pg_backend_pid()")
    async with watching(database) as watch:
        for kept in (False, True, True):
            request = await begin(program, {"query": "SELECT pg_sleep(60)"}, kept=kept)
            await watch.until(1, SLEEPING)
            began = time.monotonic()
            await request.hang_up()
            await watch.until(0, SLEEPING)
            assert time.monotonic() - began < BUSY
    assert program.value("SELECT pg_backend_pid()") == backend, "Postgres confirmed, so the connection is kept"


async def test_statement_ends_when_its_program_hangs_up_that_has_sent_more_requests_ahead(
    start_program: Callable[..., Program], database: Database
) -> None:
    """The server then has to end the one that runs, not the one that came last."""
    program = start_program(pool={"max_size": 1})
    program.ask("CREATE TABLE kept (i int)")
    async with watching(database) as watch:
        for kept in (False, True):
            request = await begin(program, {"query": "SELECT pg_sleep(60)"}, kept=kept)
            await watch.until(1, SLEEPING)
            for _ in range(3):
                await request.send_ahead(program, {"query": "INSERT INTO kept VALUES (1)"})
            began = time.monotonic()
            await request.hang_up()
            await watch.until(0, SLEEPING)
            assert time.monotonic() - began < BUSY
    assert program.rows("SELECT i FROM kept") == []


async def test_insert_of_a_program_that_hung_up_is_not_there(
    start_program: Callable[..., Program], database: Database
) -> None:
    program = start_program(pool={"max_size": 1})
    program.ask("CREATE TABLE kept (i int)")
    bodies: list[object] = [
        {"query": "INSERT INTO kept SELECT 1 FROM pg_sleep(60)"},
        {"queries": [{"query": "INSERT INTO kept VALUES (2)"}, {"query": "SELECT pg_sleep(60)"}]},
        {"queries": [{"query": "SELECT pg_sleep(60)"}, {"query": "INSERT INTO kept VALUES (3)"}]},
        {"query": "WITH w AS (INSERT INTO kept VALUES (4) RETURNING i) SELECT i, pg_sleep(60) FROM w"},
        {"query": "DO $$ BEGIN INSERT INTO kept VALUES (5); PERFORM pg_sleep(60); END $$"},
    ]
    async with watching(database) as watch:
        for body, kept in product(bodies, (False, True)):
            request = await begin(program, body, kept=kept)
            await watch.until(1, SLEEPING)
            await request.hang_up()
            await watch.until(0, "state <> 'idle'")
            assert program.rows("SELECT i FROM kept") == [], body


async def test_half_a_body_does_nothing(start_program: Callable[..., Program], database: Database) -> None:
    program = start_program(pool={"max_size": 1})
    program.ask("CREATE TABLE kept (i int)")
    body = b'{"query":"INSERT INTO kept VALUES (1)"}'
    for cut in (0, 1, len(body) - 1):
        await (await begin(program, body, cut=cut)).hang_up()
        await (await begin(program, body, cut=cut, kept=True)).hang_up()
    assert program.rows("SELECT i FROM kept") == []


async def test_a_thousand_that_hang_up_leave_the_pool_whole_and_their_neighbours_alone(
    start_program: Callable[..., Program], database: Database
) -> None:
    size = 5
    program = start_program(pool={"max_size": size, "wait_timeout": 60, "max_waiting": 5000})
    program.ask("CREATE TABLE kept (i int)")
    chance = random.Random(7)
    kinds: list[object] = [
        {"query": "SELECT pg_sleep(60)"},
        {"query": "INSERT INTO kept SELECT 1 FROM pg_sleep(60)"},
        {"queries": [{"query": "INSERT INTO kept VALUES (2)"}, {"query": "SELECT pg_sleep(60)"}]},
        {"query": "SELECT repeat('x', 1000) FROM generate_series(1, 8000)"},
        {"query": "SELECT 1"},
        {"query": "BEGIN"},
        {"query": "SELECT 1/0"},
        {"query": "SELECT pg_advisory_lock(99), pg_sleep(0.01)"},
    ]
    turns = asyncio.Semaphore(40)

    async def hang_up(number: int) -> None:
        async with turns:
            request = await begin(program, kinds[number % len(kinds)], kept=number % 3 == 0)
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.005, 0.02, 0.05)))
            await request.hang_up()

    async def neighbour(number: int) -> None:
        async with turns:
            answer = await post(program, {"query": "SELECT $1::int, pg_sleep(0.002)::text", "params": [number]})
            assert answer.status == 200, answer.body
            assert answer.json()["rows"] == [[number, ""]]

    work = [hang_up(number) for number in range(1000)] + [neighbour(number) for number in range(150)]
    chance.shuffle(work)
    async with watching(database) as watch:
        async with watch.counting() as seen:
            await asyncio.gather(*work)
        assert seen.most <= size, f"of {seen.looks} looks"
        await watch.until(0, "state <> 'idle'")
        assert program.rows("SELECT i FROM kept") == []
        await watch.run("SELECT pg_advisory_lock(1)")  # not 99's: that must be free, too
        tasks = [
            asyncio.create_task(post(program, {"query": "SELECT pg_advisory_xact_lock(1)::text"})) for _ in range(size)
        ]
        await watch.until(size, "wait_event = 'advisory'")
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert {(await task).status for task in tasks} == {200}
        assert await watch.backends("true") == size
        await watch.run("SELECT pg_advisory_lock(99)")
