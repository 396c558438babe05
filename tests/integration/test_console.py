"""What an operator can do from the console, with two workers: it reaches both, wherever it was said."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, GatewayProcess, free_port
from tests.support.processes import children
from tests.support.program import program_of
from tests.support.wire_program import SocketPipe, WireProgram, logged_in, startup

ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


class TwoWorkers:
    """A gateway with two workers, its doors, and what it has written."""

    def __init__(self, process: GatewayProcess, url: str, postgres: int, cluster: Cluster) -> None:
        self.process = process
        self.gateway = Gateway(url, load_settings(database_url=cluster.maintenance.url))
        self.console = Database("127.0.0.1", postgres, "sqlhttp")


@pytest.fixture
def two(postgres: Cluster) -> Iterator[TwoWorkers]:
    port, door = free_port(), free_port()
    environment = {
        "DATABASE_URL": postgres.maintenance.url,
        "SQLHTTP_LISTEN__PORT": str(port),
        "SQLHTTP_LISTEN__POSTGRES": str(door),
        "SQLHTTP_POOL__MAX_SIZE": "4",
    }
    with GatewayProcess("serve", "--workers", "2", environment=environment) as process:
        process.wait_until_ready(f"http://127.0.0.1:{port}")
        yield TwoWorkers(process, f"http://127.0.0.1:{port}", door, postgres)


async def operator(database: Database) -> WireProgram:
    reader, writer = await asyncio.open_connection(database.host, database.port)
    program = WireProgram(SocketPipe(reader, writer), database)
    await program.send(startup(database) + program.password())
    assert (await program.greeted()).status == "I"
    return program


async def test_after_reconnect_what_was_kept_means_what_it_would_now(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    door = free_port()
    gateway = start_gateway(listen={"port": 0, "postgres": door}, pool={"max_size": 1})
    database.psql("CREATE SCHEMA tenant; CREATE TABLE public.users AS SELECT 'public' AS whose")
    database.psql(f'ALTER DATABASE "{database.name}" SET search_path = tenant, public')
    with program_of(gateway, database) as program:
        for _ in range(3):
            assert program.value("SELECT whose FROM users") == "public"
        database.psql("CREATE TABLE tenant.users AS SELECT 'tenant' AS whose")
        async with await operator(Database("127.0.0.1", door, "sqlhttp")) as console:
            assert (await console.query("RECONNECT")).commands == ["RECONNECT"]
        assert program.value("SELECT whose FROM users") == "tenant"


async def test_pause_waits_for_every_transaction_and_holds_every_worker(two: TwoWorkers, database: Database) -> None:
    gateway = two.gateway
    # With six programs, both workers have some: the kernel spreads them by their ports.
    programs = [logged_in(gateway, database) for _ in range(6)]
    tunnels = [await each.__aenter__() for each in programs]
    async with await operator(two.console) as console:
        assert (await tunnels[0].query("BEGIN")).status == "T"
        await console.send(encode_query(f"PAUSE {database.name}".encode()))
        pausing = asyncio.ensure_future(console.answer())
        await asyncio.sleep(0)
        assert not pausing.done()
        assert await tunnels[0].value("SELECT 1") == "1"
        assert (await tunnels[0].query("COMMIT")).status == "I"
        assert (await pausing).commands == ["PAUSE"]
        for tunnel in tunnels:
            await tunnel.send(encode_query(b"SELECT pg_backend_pid()"))
        waiting = [asyncio.ensure_future(tunnel.answer()) for tunnel in tunnels]
        await _wait_in_line(console, database, 6)
        assert not any(each.done() for each in waiting), "a worker did not pause"
        assert (await console.query(f"RESUME {database.name}")).commands == ["RESUME"]
        pids = {(await each).value for each in waiting}
        assert len(pids) >= 1
        assert (await console.query(f"RESUME {database.name}")).code == "0A000"
        assert (await console.query("RECONNECT")).commands == ["RECONNECT"]
        assert (await console.query("RELOAD")).commands == ["RELOAD"]
        assert await tunnels[1].value("SELECT 1") == "1"
    for each in programs:
        await each.__aexit__(None, None, None)


async def test_pause_of_an_operator_who_said_goodbye_while_it_waited_holds_nobody(
    two: TwoWorkers, database: Database
) -> None:
    """So drivers and psql leave when their user has waited long enough."""

    async def until_paused(console: WireProgram, *, is_paused: bool) -> None:
        async with asyncio.timeout(15):
            while is_paused != any(  # noqa: ASYNC110 - told once a second
                row[0] == database.name and row[-2] == "1" for row in (await console.query("SHOW DATABASES")).rows
            ):
                await asyncio.sleep(0.05)

    async with logged_in(two.gateway, database) as holder, await operator(two.console) as watching:
        assert (await holder.query("BEGIN")).status == "T"
        async with await operator(two.console) as console:
            await console.send(encode_query(f"PAUSE {database.name}".encode()))
            await until_paused(watching, is_paused=True)
            await console.terminate()
        await until_paused(watching, is_paused=False)
        assert await asyncio.gather(*(_ask(two, database) for _ in range(8))) == ["1"] * 8


async def test_operator_comes_back_to_say_resume_however_long_all_was_paused(
    two: TwoWorkers, database: Database
) -> None:
    """A worker that has never seen the operator knows as little as one that saw it too long ago."""
    async with await operator(two.console) as console:
        assert (await console.query("PAUSE")).commands == ["PAUSE"]
    for _ in range(6):  # each comes from another port, and so to either worker
        async with await operator(two.console) as console:
            assert (await console.query("SHOW VERSION")).rows
    async with await operator(two.console) as console:
        assert (await console.query("RESUME")).commands == ["RESUME"]
    assert await _ask(two, database) == "1"


async def test_database_stays_paused_when_a_worker_is_killed_and_replaced(
    two: TwoWorkers, database: Database, postgres: Cluster
) -> None:
    async with await operator(two.console) as console:
        assert (await console.query(f"PAUSE {database.name}")).commands == ["PAUSE"]
    victim = children(two.process.pid)[0]
    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(30):
        while len(set(children(two.process.pid)) - {victim}) < 2:  # noqa: ASYNC110 - a parent tells nobody
            await asyncio.sleep(0.02)
    programs = [asyncio.ensure_future(_ask(two, database)) for _ in range(8)]  # to either worker
    for _ in range(3):  # what comes later, to a database that goes on, is answered by both workers
        assert await asyncio.gather(*(_ask(two, postgres.maintenance) for _ in range(8))) == ["1"] * 8
    assert not any(each.done() for each in programs), "the new worker does not know"
    async with await operator(two.console) as console:
        assert (await console.query(f"RESUME {database.name}")).commands == ["RESUME"]
    assert await asyncio.gather(*programs) == ["1"] * 8


async def _wait_in_line(console: WireProgram, database: Database, count: int) -> None:
    """Until so many programs, of both workers together, wait for a connection to the database."""
    async with asyncio.timeout(15):
        while count != sum(  # noqa: ASYNC110 - told once a second
            int(row[3] or 0) for row in (await console.query("SHOW POOLS")).rows if row[0] == database.name
        ):
            await asyncio.sleep(0.1)


async def _ask(two: TwoWorkers, database: Database) -> str | None:
    async with logged_in(two.gateway, database) as program:
        return await program.value("SELECT 1")


async def test_programs_of_every_worker_are_counted(two: TwoWorkers, database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(6):  # each comes from another port, and so to either worker
            await stack.enter_async_context(logged_in(two.gateway, database))
        asking = await operator(two.console)
        async with asyncio.timeout(15):
            while ["used_clients", "7"] not in (await asking.query("SHOW LISTS")).rows:  # noqa: ASYNC110 - told once a second
                await asyncio.sleep(0.1)
        await asking.close()


async def test_cancel_request_finds_its_tunnel_in_whichever_worker_it_arrives(
    two: TwoWorkers, database: Database
) -> None:
    async with logged_in(two.gateway, database) as program:
        direct = await database.connect()
        for _ in range(6):  # each comes from another port, and so to either worker
            await program.send(encode_query(b"SELECT pg_sleep(60)"))
            async with asyncio.timeout(15):
                while not await direct.fetchval(ASLEEP):  # noqa: ASYNC110 - Postgres tells nobody
                    await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", two.console.port)
            writer.write(program.cancel_request())
            assert await reader.read() == b""
            writer.close()
            async with asyncio.timeout(15):
                assert (await program.answer()).code == "57014"
        await direct.close()
