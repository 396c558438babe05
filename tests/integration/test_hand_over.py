"""A backend goes from one tunnel to the next with its scrub ahead of the next program's messages, in the same write.

Real Postgres is asked for each thing that this rests on, the embedded one and whichever other is installed: nothing of
one program reaches the next, nothing of the next runs on a backend that is not clean, and it gets the very answers that
it would have got anyway.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from sqlhttp_gateway.pools.lease import Lease
from tests.support.cluster import Cluster, Database
from tests.support.fleet import wait_until
from tests.support.gateway import Gateway, free_port
from tests.support.installed_postgres import installed, running
from tests.support.postgres_model import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    describe,
    execute,
    function_call,
    parse,
    query,
)
from tests.support.wire_program import Answer, SocketPipe, WireProgram, extended, logged_in

OBEY = "CREATE FUNCTION obey(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; END $$"

LEFT = {
    "a setting": ("SET work_mem = '77MB'", "SELECT current_setting('work_mem')"),
    "a setting that is reported": ("SET TimeZone = 'Asia/Tokyo'", "SELECT current_setting('TimeZone')"),
    "the role": ("SET ROLE pg_monitor", "SELECT current_user"),
    "the session's role": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user"),
    "read only": ("SET default_transaction_read_only = on", "SELECT current_setting('transaction_read_only')"),
    "an isolation": (
        "SET default_transaction_isolation = 'serializable'",
        "SELECT current_setting('transaction_isolation')",
    ),
    "a time limit": ("SET statement_timeout = '20ms'", "SELECT pg_sleep(0.1)"),
    "a search path": (
        "CREATE SCHEMA IF NOT EXISTS trap; SET search_path = trap, pg_catalog",
        "SELECT current_setting('search_path')",
    ),
    "a temporary table": ("CREATE TEMP TABLE left_here (i int)", "SELECT to_regclass('left_here')"),
    "an advisory lock": ("SELECT pg_advisory_lock(4)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    "LISTEN": ("LISTEN left_here", "SELECT count(*) FROM pg_listening_channels()"),
    "a cursor": (
        "DECLARE left_here CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'left_here'",
    ),
    "a statement": ("PREPARE left_here AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
    "no statement at all": ("DEALLOCATE ALL", "SELECT 'whatever'"),
}
"""What a function does that the first program calls, so that no text tells of it; and who asks for it afterwards."""

MESSAGES = {
    "a statement": extended("SELECT 1"),
    "one with a description": parse("", "SELECT $1 || 'x'")
    + bind("", "", "a")
    + describe("P", "")
    + execute("")
    + SYNC,
    "one that is named": parse("mine", "SELECT 7") + bind("", "mine") + execute("") + SYNC + close("S", "mine") + SYNC,
    "one that is closed first": close("S", "who") + parse("who", "SELECT 8") + SYNC + close("S", "who") + SYNC,
    "a simple query": query("SELECT 1"),
    "several in a simple query": query("SELECT 1; SELECT 2"),
    "two simple queries": query("SELECT 1") + query("SELECT 2"),
    "an empty query": query(""),
    "a statement of its own": extended("VACUUM t"),
    "a simple one of its own": query("VACUUM t"),
    "an error": extended("SELECT 1/0"),
    "an error in front of others": parse("", "SELECT 1/0") + bind("", "") + execute("") + extended("SELECT 1"),
    "a syntax error": query("SELEC 1"),
    "an error, then a batch": extended("SELECT 1/0") + extended("SELECT 2"),
    "many batches": extended("SELECT 1") + extended("INSERT INTO t VALUES (1)") + extended("SELECT count(*) FROM t"),
    "a write": extended("INSERT INTO t VALUES (1) RETURNING i"),
    "a transaction": query("BEGIN") + query("INSERT INTO t VALUES (1)") + query("COMMIT"),
    "a transaction in batches": extended("BEGIN") + extended("INSERT INTO t VALUES (1)") + extended("ROLLBACK"),
    "a setting": query("SET LOCAL work_mem = '5MB'") + query("SELECT current_setting('work_mem')"),
    "COPY in": query("COPY t FROM STDIN") + copy_data(b"1\n2\n") + COPY_DONE,
    "COPY in as libpq sends it": extended("COPY t FROM STDIN") + copy_data(b"1\n") + COPY_DONE + SYNC,
    "COPY out": query("COPY (SELECT generate_series(1, 3)) TO STDOUT"),
    "a function's call": function_call(1724),
    "a Sync alone behind a Flush": parse("", "SELECT 3") + FLUSH + bind("", "") + execute("") + FLUSH + SYNC,
    "a long parameter": parse("", "SELECT length($1)") + bind("", "", "x" * 200_000) + execute("") + SYNC,
    "many rows": extended("SELECT generate_series(1, 20000)"),
}


@dataclass(frozen=True, slots=True)
class Hands:
    """Who has gone from hand to hand."""

    unclean: list[object]
    """Leases of connections that were not clean."""
    refused: list[object]
    """Those that could not be made clean ahead."""


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    counted = Hands([], [])
    of_unclean, cleanse = Lease.of_unclean, Lease.cleanse

    def seen(pool: Any, unclean: Any) -> Lease:
        counted.unclean.append(unclean)
        return of_unclean(pool, unclean)

    async def cleansed(self: Lease) -> bool:
        counted.refused.append(self)
        return await cleanse(self)

    monkeypatch.setattr(Lease, "of_unclean", seen)
    monkeypatch.setattr(Lease, "cleanse", cleansed)
    return counted


@pytest.fixture(scope="session", params=["embedded", *installed()])
def server(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "embedded":
        cluster: Cluster = request.getfixturevalue("postgres")
        cluster.maintenance.psql("DROP DATABASE IF EXISTS hand_over")
        cluster.maintenance.psql("CREATE DATABASE hand_over")
        yield cluster.database("hand_over")
        cluster.maintenance.psql("DROP DATABASE hand_over WITH (FORCE)")
    else:
        with running(request.param) as database:
            yield database


@pytest.fixture(scope="session")
def ground(server: Database) -> Database:
    server.psql(OBEY)
    server.psql("CREATE TABLE t (i int)")
    return server


Start = Callable[..., Gateway]


@asynccontextmanager
async def two(
    start_gateway: Start, ground: Database, **settings: Any
) -> AsyncIterator[tuple[WireProgram, WireProgram]]:
    """Two programs that share one backend; whichever has used it lingers there until the other wants it."""
    sections: dict[str, Any] = {"pool": {"max_size": 1, "wait_timeout": 20}, "tunnel": {"linger": 10}}
    gateway = start_gateway(database_url=ground.url, **(sections | settings))
    async with AsyncExitStack() as programs:
        first = await programs.enter_async_context(logged_in(gateway, ground))
        second = await programs.enter_async_context(logged_in(gateway, ground))
        yield first, second


async def leave(program: WireProgram, text: str) -> None:
    """Have a function do this."""
    answer = await program.ask("SELECT public.obey($1)", text)
    assert not answer.error, answer.error


async def answers(program: WireProgram, messages: bytes) -> list[Answer]:
    """What is answered to all of these; behind them stands one that tells the end."""
    await program.send(messages + extended("SELECT 'the end'"))
    given = []
    while not given or given[-1].rows != [["the end"]]:
        given.append(await program.answer())
        assert given[-1].status, given
    return given


def seen(given: list[Answer]) -> list[tuple[str, bytes]]:
    return [(message.tag, message.body) for answer in given for message in answer.messages]


@pytest.mark.parametrize("what", LEFT)
async def test_nothing_that_one_program_left_is_there_for_the_next(
    start_gateway: Start, ground: Database, hands: Hands, what: str
) -> None:
    leaves, question = LEFT[what]
    async with two(start_gateway, ground) as (one, other):
        clean = await other.ask(question)
        for _ in range(3):  # new to the backend at first, prepared afterwards
            await leave(one, leaves)
            had = len(hands.unclean)
            given = await other.ask(question)
            assert len(hands.unclean) == had + 1
            assert (given.tags, given.rows) == (clean.tags, clean.rows)
    assert bool(hands.refused) == (what in ("a statement", "no statement at all"))


@pytest.mark.parametrize("fails", [False, True], ids=["clean", "refused"])
@pytest.mark.parametrize("what", MESSAGES)
async def test_first_messages_are_answered_as_on_a_backend_of_ones_own(
    start_gateway: Start, ground: Database, hands: Hands, what: str, fails: bool
) -> None:
    """Where the backend cannot be made clean, all of them are sent again, and run once."""
    messages = MESSAGES[what]
    async with two(start_gateway, ground) as (one, other):
        await other.query("TRUNCATE t")
        expected = await answers(other, messages)
        await one.query("TRUNCATE t")
        await leave(one, "PREPARE left_here AS SELECT 1" if fails else "SET work_mem = '77MB'")
        had = len(hands.unclean)
        given = await answers(other, messages)
        assert (len(hands.unclean), bool(hands.refused)) == (had + 1, fails)
        assert seen(given) == seen(expected)


@pytest.mark.parametrize("fails", [False, True], ids=["clean", "refused"])
@pytest.mark.parametrize("step", [1, 13])
async def test_messages_may_come_in_whatever_pieces(
    start_gateway: Start, ground: Database, hands: Hands, step: int, fails: bool
) -> None:
    """Over TCP, each piece a packet: the backend is there long before the last of them."""
    port = free_port()
    messages = parse("", "SELECT $1::text") + bind("", "", "in pieces") + execute("") + SYNC + query("SELECT 5")
    async with two(start_gateway, ground, listen={"port": 0, "postgres": port}) as (one, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with WireProgram(SocketPipe(reader, writer), ground) as other:
            assert (await other.log_in()).status == "I"
            await leave(one, "PREPARE left_here AS SELECT 1" if fails else "SET work_mem = '77MB'")
            had = len(hands.unclean)
            for at in range(0, len(messages), step):
                await other.send(messages[at : at + step])
                await asyncio.sleep(0)
            assert (await other.answer()).rows == [["in pieces"]]
            assert (await other.answer()).value == "5"
            assert (len(hands.unclean), bool(hands.refused)) == (had + 1, fails)


async def test_parameters_of_the_next_program_are_set_in_the_same_write(
    start_gateway: Start, ground: Database, hands: Hands
) -> None:
    asked = (
        "SELECT current_setting('application_name'), current_setting('TimeZone'), current_setting('client_encoding')"
    )
    gateway = start_gateway(database_url=ground.url, pool={"max_size": 1, "wait_timeout": 20}, tunnel={"linger": 10})
    async with (
        logged_in(gateway, ground, {"application_name": "one", "client_encoding": "LATIN1"}) as one,
        logged_in(gateway, ground, {"application_name": "two", "TimeZone": "Europe/Oslo"}) as other,
    ):
        for _ in range(4):
            first, second = await one.ask(asked), await other.ask(asked)
            [[name, zone, encoding]] = first.rows
            assert (name, zone != "Europe/Oslo", encoding) == ("one", True, "LATIN1")
            assert second.rows == [["two", "Europe/Oslo", "UTF8"]]
        assert len(hands.unclean) >= 6
        assert not hands.refused
        # Nobody is told anew what has not changed for him.
        assert [message.tag for message in (await one.ask(asked)).messages] == list("12DCZ")


async def test_parameter_that_cannot_be_set_is_told_in_postgres_words(start_gateway: Start, ground: Database) -> None:
    gateway = start_gateway(database_url=ground.url, pool={"max_size": 1, "wait_timeout": 20}, tunnel={"linger": 10})
    ground.psql("DROP ROLE IF EXISTS passing")
    ground.psql("CREATE ROLE passing")
    async with logged_in(gateway, ground) as one, logged_in(gateway, ground) as other:
        assert not (await other.query("SET ROLE passing")).error
        await one.query("SELECT 1")
        assert (await other.ask("SELECT current_user")).value == "passing"
        await one.query("DROP ROLE passing")
        refused = await other.ask("SELECT current_user")
        assert (refused.error["C"], refused.error["S"], refused.status) == ("22023", "FATAL", "")
        assert (await one.ask("SELECT current_user")).value == "postgres"


@asynccontextmanager
async def stopped(program: WireProgram) -> AsyncIterator[int]:
    """The backend that this program has used last does nothing; its pid."""
    pid = int(await program.value("SELECT pg_backend_pid()") or 0)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody tells the test
            await asyncio.sleep(0.002)


async def test_cancel_that_comes_before_the_backend_is_known_to_be_clean_stops_the_statement(
    start_gateway: Start, ground: Database, hands: Hands
) -> None:
    """Nothing has come from it: Postgres says what became of the scrub together with the statement's end.

    A cancel that finds the backend before the statement has begun is lost, with Postgres itself as well.
    """
    port = free_port()
    async with two(start_gateway, ground, listen={"port": 0, "postgres": port}) as (one, other):
        await leave(one, "SET work_mem = '77MB'")
        pid = await one.value("SELECT pg_backend_pid()")
        had = len(hands.unclean)
        await other.send(query("SELECT pg_sleep(30)"))
        await until(lambda: len(hands.unclean) > had)
        runs = f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep')"
        await asyncio.to_thread(wait_until, ground, runs)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(other.cancel_request())
        assert await reader.read() == b""  # as Postgres does, once the request is heard
        writer.close()
        async with asyncio.timeout(15):
            assert (await other.answer()).code == "57014"
        assert not hands.refused
        assert await one.value("SELECT current_setting('work_mem')") != "77MB"


async def test_program_that_vanishes_before_the_backend_is_clean_leaves_nothing(
    start_gateway: Start, ground: Database, hands: Hands
) -> None:
    async with two(start_gateway, ground) as (one, other):
        await leave(one, "SET work_mem = '77MB'")
        async with stopped(one) as pid:
            had = len(hands.unclean)
            await other.send(query("INSERT INTO t SELECT 99 FROM pg_sleep(60)"))
            await until(lambda: len(hands.unclean) > had)
            other.vanish()
        assert await one.value("SELECT current_setting('work_mem')") != "77MB"
        wait_until(ground, f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
        assert await one.value("SELECT count(*) FROM t WHERE i = 99") == "0"


async def test_backend_that_ends_before_anything_was_told_of_it_is_told_as_ever(
    start_gateway: Start, ground: Database, hands: Hands
) -> None:
    """What goes ahead is answered together with the statement, which has been running for long by then."""
    async with two(start_gateway, ground) as (one, other):
        await leave(one, "SET work_mem = '77MB'")
        await other.send(query("INSERT INTO t SELECT 98 FROM pg_sleep(60)"))
        asleep = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(ground, asleep + " AND query LIKE 'INSERT INTO t SELECT 98%'")
        assert (await other.answer()).code == "57P01"
        assert len(hands.unclean) == 1
        assert await one.value("SELECT count(*) FROM t WHERE i = 98") == "0"


async def test_signals_at_any_moment_reach_one_statement_or_nothing(
    start_gateway: Start, ground: Database, hands: Hands
) -> None:
    """A superuser cancels and cancels while two programs take turns: each answer is the right one or says so.

    Where signals are so quick that none is spared, every tenth is: nobody is signalled meanwhile.
    """
    outcomes = {"right": 0, "cancelled": 0}
    async with two(start_gateway, ground) as programs:
        canceller = await ground.connect()
        done = asyncio.Event()
        signalling = asyncio.Lock()

        async def cancel() -> None:
            while not done.is_set():
                async with signalling:
                    await canceller.execute(
                        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                    )

        cancelling = asyncio.create_task(cancel())
        try:
            for number in range(200):
                program = programs[number % 2]
                async with signalling if number % 10 == 9 else nullcontext():
                    given = await program.ask("SELECT $1::text, pg_sleep(0.0005)", number)
                if given.code:
                    assert given.code == "57014"
                    outcomes["cancelled"] += 1
                else:
                    assert [row[0] for row in given.rows] == [str(number)]
                    outcomes["right"] += 1
                assert given.tags.count("Z") == 1
        finally:
            done.set()
            await cancelling
            await canceller.close()
    assert len(hands.unclean) > 150
    assert outcomes["right"]
    assert outcomes["cancelled"]
