"""Programs with Postgres's own wire before a target of several servers."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.integration.test_replicas import wait_until_routed
from tests.support.cluster import PASSWORD
from tests.support.fleet import Fleet, running_fleet
from tests.support.gateway import GatewayProcess, free_port, gateway_in_thread

WHERE = "SELECT pg_is_in_recovery()"


@pytest.fixture(scope="module")
def door(fleet: Fleet) -> Iterator[int]:
    """The gateway's port for Postgres's wire."""
    port = free_port()
    with gateway_in_thread(fleet.url, {"listen": {"port": 0, "postgres": port}}) as gateway:
        wait_until_routed(gateway, fleet)
        yield port


async def connect(port: int, wanted: str | None = None) -> "asyncpg.Connection[asyncpg.Record]":
    settings = {} if wanted is None else {"target_session_attrs": wanted}
    return await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user="postgres",
        password=PASSWORD,
        database="postgres",
        ssl=False,
        statement_cache_size=10,
        server_settings=settings,
    )


@pytest.mark.parametrize(
    ("wanted", "in_recovery"), [(None, False), ("primary", False), ("prefer-standby", True), ("standby", True)]
)
async def test_start_up_option_says_which_server(door: int, wanted: str | None, in_recovery: bool) -> None:
    program = await connect(door, wanted)
    for _ in range(3):
        assert await program.fetchval(WHERE) is in_recovery
    assert await program.fetchval("SHOW in_hot_standby") == ("on" if in_recovery else "off")
    await program.close()


async def test_program_on_a_replica_can_do_all_that_a_standby_can(door: int) -> None:
    program = await connect(door, "prefer-standby")
    async with program.transaction(readonly=True, isolation="repeatable_read"):
        rows = [row["n"] async for row in program.cursor("SELECT generate_series(1, 100) AS n", prefetch=10)]
        assert rows == list(range(1, 101))
    await program.execute("SET application_name = 'mine'")
    assert await program.fetchval("SHOW application_name") == "mine"
    prepared = await program.prepare("SELECT $1::int + 1")
    assert await prepared.fetchval(1) == 2
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await program.execute("CREATE TABLE never ()")
    await program.close()


async def test_word_that_is_not_libpqs_is_refused_at_start_up(door: int) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="target_session_attrs must be one of"):
        await connect(door, "leader")


async def test_connected_program_goes_on_at_the_promoted_replica() -> None:
    with running_fleet(2) as fleet:
        port = free_port()
        with gateway_in_thread(fleet.url, {"listen": {"port": 0, "postgres": port}}) as gateway:
            await asyncio.to_thread(wait_until_routed, gateway, fleet)
            program = await connect(port)
            await program.execute("CREATE TABLE t (v int)")
            await goes_on_after_a_failover(program, fleet)


async def test_program_that_is_older_than_the_settings_goes_on_at_the_promoted_replica(tmp_path: Path) -> None:
    http, port, file = free_port(), free_port(), tmp_path / "sqlhttp.toml"
    settings = "[pool]\nmax_size = {}\n[listen]\npostgres = {}\n"
    file.write_text(settings.format(5, port))
    arguments = ("serve", "--config", str(file), "--port", str(http))
    with (
        running_fleet(1) as fleet,
        GatewayProcess(*arguments, environment={"DATABASE_URL": fleet.url}) as gateway,
    ):
        await asyncio.to_thread(gateway.wait_until_ready, f"http://127.0.0.1:{http}")
        program = await connect(port)
        await program.execute("CREATE TABLE t (v int)")
        file.write_text(settings.format(6, port))
        gateway.send(signal.SIGHUP)
        await asyncio.to_thread(wait_until_reloaded, f"http://127.0.0.1:{http}/metrics")
        await goes_on_after_a_failover(program, fleet)


def wait_until_reloaded(metrics: str) -> None:
    deadline = time.monotonic() + 15.0
    while 'sqlhttp_reloads_total{outcome="ok"} 1' not in httpx.get(metrics).text:
        assert time.monotonic() < deadline, "the settings are not read again"
        time.sleep(0.02)


async def goes_on_after_a_failover(program: "asyncpg.Connection[asyncpg.Record]", fleet: Fleet) -> None:
    """The primary dies, and its replica takes its place; the program has a table t, and ends."""
    await asyncio.to_thread(fleet.wait_replayed)
    await asyncio.to_thread(fleet.primary.crash)
    await asyncio.to_thread(fleet.promote, fleet.replicas[0])
    async with asyncio.timeout(30.0):
        while True:
            try:
                await program.execute("INSERT INTO t VALUES (1)")
                break
            except asyncpg.PostgresError:  # while the gateway still believes in the one that died
                await asyncio.sleep(0.05)
    assert await program.fetchval(WHERE) is False
    await program.close()
