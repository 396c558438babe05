"""A program on the wire writes, and what the cache has kept of that ends before the program hears that it wrote."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.asgi import Call
from tests.support.cluster import Database, running_cluster
from tests.support.gateway import free_port
from tests.support.leases import until
from tests.support.running_app import RunningApp, running_app

Program = asyncpg.Connection  # type: ignore[type-arg]


async def connected(database: Database, port: int) -> Program:
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user=database.role, password=database.password, database=database.name
    )


@pytest.fixture
async def door(database: Database) -> AsyncIterator[tuple[RunningApp, Program]]:
    """The gateway, and a program that has come by its TCP door."""
    database.psql("CREATE TABLE t (id int PRIMARY KEY, value int); INSERT INTO t VALUES (1, 0)")
    port = free_port()
    async with running_app(database, listen={"postgres": port}) as app:
        await app.hear_changes()
        program = await connected(database, port)
        try:
            yield app, program
        finally:
            await program.close()


async def ask(app: RunningApp) -> Call:
    call = await app.post({"query": "SELECT sum(value)::int AS value FROM t"}, cache_control="max-age=600")
    assert call.status == 200, call.body
    return call


async def value(app: RunningApp) -> int:
    return int((await ask(app)).json()["rows"][0]["value"])


async def is_hit(app: RunningApp) -> bool:
    return "; hit" in (await ask(app)).headers["cache-status"]


async def by_copy(program: Program) -> None:
    await program.copy_records_to_table("t", records=[(2, 7)])


async def in_a_function(program: Program) -> None:
    await program.execute(
        "CREATE FUNCTION put() RETURNS int LANGUAGE sql AS 'UPDATE t SET value = 7 RETURNING 1'; SELECT put()"
    )


WRITES: dict[str, Callable[[Program], Awaitable[object]]] = {
    "a simple query": lambda program: program.execute("UPDATE t SET value = 7"),
    "a prepared statement": lambda program: program.execute("UPDATE t SET value = $1", 7),
    "WITH": lambda program: program.fetch("WITH w AS (UPDATE t SET value = 7 RETURNING 1) SELECT * FROM w"),
    "DO": lambda program: program.execute("DO $$ BEGIN UPDATE t SET value = 7; END $$"),
    "COPY": by_copy,
    "a function": in_a_function,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_what_a_tunnel_wrote_is_seen_by_whoever_asks_then(
    door: tuple[RunningApp, Program], write: Callable[[Program], Awaitable[object]]
) -> None:
    app, program = door
    assert [await is_hit(app) for _ in range(2)] == [False, True]
    await write(program)
    assert await value(app) == 7
    assert await is_hit(app)


async def test_many_writes_of_a_tunnel_one_after_the_other(door: tuple[RunningApp, Program]) -> None:
    app, program = door
    for turn in range(1, 101):
        await program.execute("UPDATE t SET value = $1", turn)
        assert await value(app) == turn


async def test_transaction_is_seen_when_it_is_committed_and_not_before(door: tuple[RunningApp, Program]) -> None:
    app, program = door
    transaction = program.transaction()
    await transaction.start()
    await program.execute("UPDATE t SET value = 7")
    assert await value(app) == 0
    await transaction.commit()
    assert await value(app) == 7


async def test_read_of_a_tunnel_leaves_what_is_kept(door: tuple[RunningApp, Program]) -> None:
    app, program = door
    assert not await is_hit(app)
    assert await program.fetchval("SELECT count(*) FROM t WHERE id = $1", 1) == 1
    assert await is_hit(app)


async def test_what_a_program_wrote_that_left_before_its_answer_is_seen(door: tuple[RunningApp, Program]) -> None:
    """Most such writes are done before the gateway can cancel them."""
    app, program = door
    tunnels = app.assembly._tunnels
    for turn in range(1, 6):
        await value(app)
        leaver = await connected(app.database, program._addr[1])
        await leaver.execute("SELECT 1")
        leaver._transport.write(encode_query(b"UPDATE t SET value = %d" % turn))
        leaver._transport.close()
        await until(lambda: tunnels.connected == 1)
        written = int(app.database.psql("SELECT value FROM t"))
        assert await value(app) >= written


@pytest.mark.parametrize("door", ["tunnel", "sql"])
async def test_what_was_prepared_is_seen_when_it_is_committed(door: str) -> None:
    with running_cluster({"max_prepared_transactions": "2"}) as cluster:
        database, port = cluster.maintenance, free_port()
        database.psql("CREATE TABLE t (id int PRIMARY KEY, value int); INSERT INTO t VALUES (1, 0)")
        async with running_app(database, listen={"postgres": port}) as app:
            await app.hear_changes()
            program = await connected(database, port)
            try:
                await program.execute("BEGIN; UPDATE t SET value = 7; PREPARE TRANSACTION 'both'")
                assert [await value(app), await is_hit(app)] == [0, True]
                if door == "tunnel":
                    await program.execute("COMMIT PREPARED 'both'")
                else:
                    assert (await app.post({"query": "COMMIT PREPARED 'both'"})).status == 200
                assert await value(app) == 7
            finally:
                await program.close()
