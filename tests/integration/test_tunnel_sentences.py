"""What is promised of programs behind a shared pool, one sentence a test: nothing is taken away, on a real Postgres."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from struct import pack

import httpx
import pytest

from sqlhttp_gateway.wire.frontend import FLUSH, SYNC, encode_bind, encode_parse, encode_query
from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.wire_program import WireProgram, bound, frame, logged_in

StartGateway = Callable[..., Gateway]


async def metric(gateway: Gateway, start: str) -> float:
    """The sum of the samples whose line begins like that."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{gateway.url}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll, with a deadline."""
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110 - the gateway tells nobody
            await asyncio.sleep(0.01)


# ── what a direct connection can do ──────────────────────────────────────────────────────────────────────────────────


async def test_empty_query_is_answered_as_one(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        assert (await program.query("")).tags == "IZ"
        assert (await program.query(" ; ; ")).tags == "IZ"
        assert (await program.ask("")).tags == "12IZ"


async def test_several_statements_in_one_text_are_answered_one_by_one(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        answer = await program.query(
            "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2); SELECT n FROM t; SELECT 'x'"
        )
        assert answer.commands == ["CREATE TABLE", "INSERT 0 2", "SELECT 2", "SELECT 1"]
        failed = await program.query("INSERT INTO t VALUES (3); SELECT 1/0; INSERT INTO t VALUES (4)")
        assert (failed.code, failed.status) == ("22012", "I")
        assert await program.value("SELECT count(*) FROM t") == "2"  # one text is one transaction


async def test_portal_gives_as_many_rows_as_were_asked_for(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        portion = frame(b"E", b"c\0" + pack("!I", 2))
        await program.query("BEGIN")
        await program.send(
            encode_parse(b"", b"SELECT generate_series(1, 5)")
            + frame(b"B", b"c\0\0" + pack("!HHH", 0, 0, 0))
            + portion
            + FLUSH
        )
        came = [await program.message() for _ in range(5)]
        assert "".join(message.tag for message in came if message is not None) == "12DDs"
        await program.send(portion + SYNC)
        assert (await program.answer()).tags == "DDsZ"
        await program.send(portion + SYNC)
        assert (await program.answer()).tags == "DCZ"
        assert (await program.query("COMMIT")).status == "I"


async def test_notices_arrive_before_their_statement_is_complete(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        answer = await program.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        assert [message.tag for message in answer.messages] == ["N", "N", "C", "Z"]
        assert [message.error["M"] for message in answer.messages[:2]] == ["one", "two"]


async def test_function_call_is_answered(gateway: Gateway, database: Database) -> None:
    """The protocol's own, with which libpq's large objects work."""
    async with logged_in(gateway, database) as program:
        oid = await program.value("SELECT 'pg_catalog.int4pl'::regproc::oid")
        assert oid is not None
        arguments = b"".join(pack("!I", len(text)) + text for text in (b"40", b"2"))
        await program.send(frame(b"F", pack("!IHH", int(oid), 0, 2) + arguments + pack("!H", 0)))
        answer = await program.answer()
        assert answer.tags == "VZ"
        assert answer.messages[0].body == pack("!I", 2) + b"42"


async def test_pipeline_goes_on_behind_the_sync_of_what_failed(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        await program.send(
            encode_parse(b"", b"SELECT 1/0")
            + bound()
            + encode_parse(b"", b"SELECT 'after'")
            + bound()
            + encode_query(b"SELECT 'simple'")
        )
        first, second, third = [await program.answer() for _ in range(3)]
        assert first.code == "22012"
        assert (second.value, third.value) == ("after", "simple")


# ── nothing breaks in transaction mode ───────────────────────────────────────────────────────────────────────────────


async def test_batch_with_more_names_than_a_backend_keeps_is_answered_whole(
    start_gateway: StartGateway, database: Database
) -> None:
    """All in one write, and again on another backend."""
    gateway = start_gateway(pool={"max_size": 2})
    count = 600
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as holder:
        texts = [f"SELECT {n} + $1::int" for n in range(count)]
        parses = b"".join(encode_parse(b"s%d" % n, text.encode()) for n, text in enumerate(texts))
        await program.send(parses + SYNC)
        assert (await program.answer()).tags == "1" * count + "Z"
        await holder.query("BEGIN")
        execute = frame(b"E", b"\0" + pack("!I", 0))
        binds = b"".join(encode_bind(b"s%d" % n, [b"1"]) + execute for n in range(count))
        for _ in range(2):
            await program.send(binds + SYNC)
            answer = await program.answer()
            assert answer.tags == "2DC" * count + "Z"
            assert [row[0] for row in answer.rows] == [str(n + 1) for n in range(count)]


async def test_names_end_with_close_and_with_deallocate(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        for drop in (frame(b"C", b"Ss\0") + SYNC, encode_query(b"DEALLOCATE s"), encode_query(b"DEALLOCATE ALL")):
            assert (await program.ask("SELECT 1", name="s")).value == "1"
            await program.send(drop)
            assert (await program.answer()).status == "I"
            await program.send(bound(name="s"))
            assert (await program.answer()).code == "26000"


@pytest.mark.parametrize(
    ("text", "look", "found", "reason"),
    [
        ("CREATE TEMP TABLE mine AS SELECT 7 AS n", "SELECT n FROM mine", "7", "temporary_object"),
        ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 7; COMMIT", "FETCH c", "7", "cursor_with_hold"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)", "t", "advisory_lock"),
        ("PREPARE p AS SELECT 7", "EXECUTE p", "7", "prepare"),
        ("LOAD 'plpgsql'", "SHOW plpgsql.variable_conflict", "error", "load"),
    ],
)
async def test_what_needs_a_session_keeps_its_backend_and_is_counted(
    start_gateway: StartGateway, database: Database, text: str, look: str, found: str, reason: str
) -> None:
    """Whoever else comes meanwhile gets the other backend."""
    gateway = start_gateway(pool={"max_size": 2})
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as other:
        await program.query(text)
        pid = await program.value("SELECT pg_backend_pid()")
        for _ in range(3):
            assert await other.value("SELECT pg_backend_pid()") != pid
        assert await program.value(look) == found
        assert await metric(gateway, f'sqlhttp_tunnel_pins_total{{reason="{reason}"}}') == 1


async def test_set_reset_and_set_config_keep_no_backend(start_gateway: StartGateway, database: Database) -> None:
    """With a pool of one, the other program could not run at all."""
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 5})
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as other:
        for text in ("SET work_mem = '5MB'", "SELECT set_config('my.tag', 'blue', false)", "RESET work_mem"):
            await program.query(text)
            assert await other.value("SHOW work_mem") == "4MB"
        assert await program.value("SHOW my.tag") == "blue"
        assert await metric(gateway, "sqlhttp_tunnel_pins_total{") == 0


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_reset_and_discard_take_back_to_what_start_up_asked_for(
    pool_mode: str, start_gateway: StartGateway, database: Database
) -> None:
    """As asyncpg's pool does with every connection that comes back, and Npgsql's."""
    gateway = start_gateway(tunnel={"linger": 0})
    wanted = {
        "TimeZone": "Asia/Tokyo",
        "client_encoding": "LATIN1",
        "options": "-c work_mem=3MB",
        "pool_mode": pool_mode,
    }
    look = "SELECT concat_ws(' ', current_setting('TimeZone'), current_setting('work_mem'))"
    async with logged_in(gateway, database, wanted) as program:
        for text in ("RESET ALL", "DISCARD ALL", "RESET TimeZone; RESET work_mem"):
            await program.query("SET TimeZone = 'CET'; SET work_mem = '9MB'")
            assert await program.value(look) == "CET 9MB"
            told = {message.body for message in (await program.query(text)).messages[-8:] if message.tag == "S"}
            assert b"TimeZone\0Asia/Tokyo\0" in told  # before it may go on
            assert await program.value(look) == "Asia/Tokyo 3MB"
            await program.send(encode_query(b"SELECT length('\xe4')"))
            assert (await program.answer()).value == "1"
        await program.query("BEGIN; SET work_mem = '9MB'")
        await program.query("RESET work_mem")
        assert await program.value("SHOW work_mem") == "3MB"
        await program.query("ROLLBACK")
        assert await program.value("SHOW work_mem") == "3MB"


async def test_statement_of_any_length_passes_where_the_backend_is_the_sessions_own(
    gateway: Gateway, database: Database
) -> None:
    text = f"SELECT length('{'x' * 17_000_000}')"
    async with logged_in(gateway, database, {"pool_mode": "session"}) as program:
        assert await program.value(text) == "17000000"
        assert (await program.ask(text)).value == "17000000"
        assert await program.value("SELECT 1") == "1"


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_program_that_names_no_encoding_has_that_of_its_database(
    encoding: str, pool_mode: str, gateway: Gateway, database: Database
) -> None:
    """With another, an old program's texts are refused or mistaken, and pg_dump's output cannot be restored."""
    name = f"{database.name}_{encoding}_{pool_mode}".lower()
    database.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        for _ in range(2):  # the second is let in with what the first was told
            async with logged_in(gateway, replace(database, name=name), {"pool_mode": pool_mode}) as program:
                assert program.parameters["client_encoding"] == encoding
                await program.send(encode_query(b"SELECT '\xe4', length('\xe4')"))
                answer = await program.answer()
                assert b"\0\0\0\x01\xe4\0\0\0\x011" in answer.messages[1].body
        async with logged_in(gateway, replace(database, name=name), {"client_encoding": "UTF8"}) as program:
            assert program.parameters["client_encoding"] == "UTF8"
    finally:
        database.psql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_database_with_idle_connections_is_dropped_by_force(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        await program.query("CREATE DATABASE dropped_by_force")
        other = replace(database, name="dropped_by_force")
        async with logged_in(gateway, other) as inside:
            assert await inside.value("SELECT current_database()") == other.name
        assert (await program.query(f"DROP DATABASE {other.name} WITH (FORCE)")).commands == ["DROP DATABASE"]
        assert await program.value("SELECT 1") == "1"


async def test_open_tunnels_are_counted(gateway: Gateway, database: Database) -> None:
    async def are_open(count: int) -> bool:
        return await metric(gateway, "sqlhttp_tunnels_open ") == count

    await until(lambda: are_open(0))
    async with logged_in(gateway, database), logged_in(gateway, database) as vanishing:
        await until(lambda: are_open(2))
        vanishing.vanish()
        await until(lambda: are_open(1))
    await until(lambda: are_open(0))


# ── one line for all ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tunnels_and_requests_wait_in_one_line(start_gateway: StartGateway, database: Database) -> None:
    """Whoever came first is served first, by whichever door."""
    database.psql("CREATE TABLE served (place int GENERATED ALWAYS AS IDENTITY, who text)")
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 20})

    async def over_http(http: httpx.AsyncClient, who: str) -> None:
        body = {"query": "INSERT INTO served (who) VALUES ($1)", "params": [who]}
        answer = await http.post(f"{gateway.url}/sql", json=body, headers={"Neon-Connection-String": database.url})
        assert answer.status_code == 200, answer.text

    async def over_websocket(program: WireProgram, who: str) -> None:
        assert (await program.query(f"INSERT INTO served (who) VALUES ('{who}')")).commands == ["INSERT 0 1"]

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        holder, *programs = [await stack.enter_async_context(logged_in(gateway, database)) for _ in range(4)]
        await over_http(http, "first")
        await holder.query("BEGIN")
        waiting = []
        for number, program in enumerate(programs):
            waiting.append(asyncio.create_task(over_websocket(program, f"websocket {number}")))
            await until(lambda: _is_waiting(gateway, len(waiting)))
            waiting.append(asyncio.create_task(over_http(http, f"http {number}")))
            await until(lambda: _is_waiting(gateway, len(waiting)))
        await holder.query("COMMIT")
        await asyncio.gather(*waiting)
        [[served]] = (await holder.query("SELECT string_agg(who, ', ' ORDER BY place) FROM served")).rows
        assert served == "first, websocket 0, http 0, websocket 1, http 1, websocket 2, http 2"


async def _is_waiting(gateway: Gateway, count: int) -> bool:
    return await metric(gateway, "sqlhttp_pool_waiting{") == count


async def test_five_hundred_programs_share_ten_backends_in_turn(
    start_gateway: StartGateway, database: Database
) -> None:
    """No error, never more than ten backends, and at saturation nobody lets many more pass than anybody else."""
    programs, rounds = 500, 4
    gateway = start_gateway(pool={"max_size": 10, "max_waiting": 1000, "wait_timeout": 60})
    pids: set[str | None] = set()
    served = 0
    passed: list[list[int]] = [[] for _ in range(rounds)]

    async def work(program: WireProgram) -> None:
        nonlocal served
        for number in range(rounds):
            before = served
            pids.add(await program.value("BEGIN; SELECT pg_backend_pid()"))
            passed[number].append(served - before)
            served += 1
            assert (await program.query("SELECT pg_sleep(0.004)")).status == "T"
            assert (await program.query("COMMIT")).status == "I"

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(logged_in(gateway, database)) for _ in range(programs)]
        await asyncio.gather(*map(work, opened))
    assert len(pids) <= 10
    ratios = sorted(_spread(each) for each in passed[1:])  # at first the line was still forming
    assert ratios[len(ratios) // 2] < 1.5, ratios


def _spread(waits: list[int]) -> float:
    """p99/p50 of how many others were served while one stood in line: the machine's pace has no part in it."""
    ordered = sorted(waits)
    return ordered[len(ordered) * 99 // 100] / ordered[len(ordered) // 2]
