"""Two programs take turns on one backend of a real Postgres: one leaves it in whatever state, the other works on it.

What they do is drawn from a seed, and so is at which bytes it is cut; when the backend changes hands is not. Who works
gets, message for message, what is given to a program that is alone; who leaves things behind, nothing of the other's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from sqlhttp_gateway.pools.lease import Lease
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.postgres_model import COPY_DONE, FLUSH, SYNC, bind, close, copy_data, describe, execute, parse, query
from tests.support.wire_program import Answer, SocketPipe, WireProgram, extended, logged_in

ACTIONS = 80
"""Of the one that works."""
END = "the end of it"
TIMEOUT = 120.0
"""Seconds; it takes one or two."""
SCHEMA = """
CREATE FUNCTION obey(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; END $$;
CREATE TABLE of_one (v text); CREATE TABLE of_other (v text);
"""
LEAVES = (
    "SET work_mem = '77MB'",
    "SET ROLE pg_monitor",
    "SET search_path = pg_catalog",
    "SET default_transaction_read_only = on",
    "SET statement_timeout = '1ms'",
    "SELECT pg_advisory_lock(4)",
    "CREATE TEMP TABLE trap (v text)",
    "PREPARE trap AS SELECT 'trap'",
    "DECLARE trap CURSOR WITH HOLD FOR SELECT 'trap'",
    "DEALLOCATE ALL",
)
"""What a function does of which no text tells: the backend is not clean when it goes on, or cannot be made so ahead."""
STATE = (
    "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('transaction_read_only'),"
    " current_setting('statement_timeout'), current_user, current_setting('application_name'),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_cursors),"
    " to_regclass('trap'), (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)"
)


def actions(name: str) -> dict[str, bytes]:
    """What the program of this name can do, each with its own words; nothing of it depends on what it did before."""
    table = f"public.of_{name}"
    return {
        "state": query(STATE),
        "own words": extended("SELECT $1::text", f"of {name}"),
        "described": parse("", "SELECT $1::text AS v") + bind("", "", name) + describe("P", "") + execute("") + SYNC,
        "named": parse("mine", f"SELECT 'named by {name}'") + SYNC + bind("", "mine") + execute("") + SYNC
        + close("S", "mine") + SYNC,
        "not there": bind("", "trap") + execute("") + SYNC,
        "nobody's": query("EXECUTE trap"),
        "error": extended("SELECT 1/0") + extended("SELECT $1::text", f"behind it, {name}"),
        "syntax": query(f"SELEC '{name}'"),
        "several": query(f"SELECT '{name}'; SELECT 2; SELECT 3"),
        "rolled back": query("BEGIN") + query(f"INSERT INTO {table} VALUES ('x')") + query("ROLLBACK"),
        "local": query(f"BEGIN; SET LOCAL work_mem = '5MB'; SELECT '{name}', current_setting('work_mem'); COMMIT"),
        "COPY in": query(f"BEGIN; COPY {table} FROM STDIN") + copy_data(b"1\n2\n") + COPY_DONE + query("ROLLBACK"),
        "COPY out": query(f"COPY (SELECT '{name}', generate_series(1, 300)) TO STDOUT"),
        "rows": extended(f"SELECT '{name}', generate_series(1, 2000)"),
        "in parts": parse("", f"SELECT '{name}', generate_series(1, 5)") + bind("", "") + execute("", 2) + FLUSH
        + execute("", 2) + execute("") + SYNC,
        "long": extended("SELECT md5($1)", name * 30_000),
        "nothing": query(""),
    }  # fmt: skip


@asynccontextmanager
async def over_tcp(port: int, database: Database, name: str) -> AsyncIterator[WireProgram]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with WireProgram(SocketPipe(reader, writer), database) as program:
        assert (await program.log_in({"application_name": name})).status == "I"
        yield program


async def sent_in_pieces(program: WireProgram, messages: bytes, luck: Random) -> None:
    """Cut at any byte; now and then the gateway gets to see a piece alone."""
    at = 0
    while at < len(messages):
        size = luck.choice((1, 2, 7, 40, 300, len(messages)))
        await program.send(messages[at : at + size])
        at += size
        if luck.random() < 0.3:
            await asyncio.sleep(0)


async def told(program: WireProgram, messages: bytes, luck: Random) -> list[tuple[str, bytes]]:
    """All that is answered to these messages."""
    sending = asyncio.create_task(sent_in_pieces(program, messages + extended("SELECT $1::text", END), luck))
    given: list[Answer] = []
    while not given or given[-1].rows != [[END]]:
        given.append(await program.answer())
        assert given[-1].status, given[-1].error
    await sending
    return [(message.tag, message.body) for answer in given for message in answer.messages]


@pytest.mark.parametrize(("seed", "working"), [(1, "one"), (2, "other")])
async def test_nothing_that_one_leaves_is_told_to_the_other(
    start_gateway: Callable[..., Gateway],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    working: str,
) -> None:
    hand_overs = {"unclean": 0, "refused": 0}
    of_unclean, cleanse = Lease.of_unclean, Lease.cleanse

    def counted_unclean(*arguments: object) -> Lease:
        hand_overs["unclean"] += 1
        return of_unclean(*arguments)  # type: ignore[arg-type]  # whatever they are

    async def counted_cleanse(lease: Lease) -> bool:
        hand_overs["refused"] += 1
        return await cleanse(lease)

    monkeypatch.setattr(Lease, "of_unclean", counted_unclean)
    monkeypatch.setattr(Lease, "cleanse", counted_cleanse)
    database.psql(SCHEMA)
    port = free_port()
    gateway = start_gateway(
        database_url=database.url,
        listen={"port": 0, "postgres": port},
        pool={"max_size": 1, "wait_timeout": 60},
        tunnel={"linger": 10},
    )

    own = actions(working)
    done = asyncio.Event()

    async def work(program: WireProgram, expected: dict[str, list[tuple[str, bytes]]]) -> None:
        luck = Random(seed)
        for _ in range(ACTIONS):
            what = luck.choice(list(own))
            assert await told(program, own[what], luck) == expected[what], what
        done.set()

    async def leave(program: WireProgram) -> None:
        luck = Random(-seed)
        while not done.is_set():
            left = await program.ask("SELECT public.obey($1)", luck.choice(LEAVES))
            assert left.status == "I", left.error  # an error at most, such as of what is there already
            given = await program.ask("SELECT $1::text", "mine alone")
            assert given.rows == [["mine alone"]] or given.code == "57014", given

    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(logged_in(gateway, database, {"application_name": "one"}))
        other = await stack.enter_async_context(over_tcp(port, database, "other"))
        worker, leaver = (one, other) if working == "one" else (other, one)
        alone = {what: await told(worker, messages, Random(seed)) for what, messages in own.items()}
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as both:
            both.create_task(work(worker, alone))
            both.create_task(leave(leaver))
    assert min(hand_overs.values()) > 0, hand_overs
    assert database.psql("SELECT count(*) FROM of_one UNION ALL SELECT count(*) FROM of_other") == "0\n0\n"
