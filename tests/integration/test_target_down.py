"""Postgres is stopped and started under load, by way of /sql and of the TCP door."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import asyncpg
import pytest

from sqlhttp_gateway.events import TargetChanged
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.gateway import free_port
from tests.support.running_app import RunningApp, running_app

ONE = {"query": "SELECT 1 AS one"}
PROGRAMS = 30
BACK_WITHIN = 2.0
"""Seconds from which on requests succeed once Postgres lets somebody in; one of them is for a busy machine."""


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


class Load:
    """Programs that ask again and again, and what they got when, on the loop's clock."""

    def __init__(self, app: RunningApp, database: Database, port: int) -> None:
        self._app = app
        self._address = {
            "host": "127.0.0.1", "port": port, "user": database.role, "password": database.password,
            "database": database.name, "statement_cache_size": 0, "timeout": 10,
        }  # fmt: skip
        self._clock = asyncio.get_running_loop().time
        self.answers: list[tuple[float, float, int]] = []
        """When each came, how long it took, and its status."""
        self.tunnels: list[float] = []
        """When a statement of a tunnel was answered well."""
        self.cut = 0
        """Tunnels that ended."""

    async def request(self) -> None:
        while True:
            began = self._clock()
            call = await self._app.post(ONE)
            self.answers.append((self._clock(), self._clock() - began, call.status))
            await asyncio.sleep(0.02)

    async def tunnel(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(**self._address)
                try:
                    while True:
                        await connection.execute("SELECT 1")
                        self.tunnels.append(self._clock())
                        await asyncio.sleep(0.02)
                finally:
                    connection.terminate()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self.cut += 1
                await asyncio.sleep(0.02)


async def test_refusals_are_quick_and_service_is_back_within_a_second(own_cluster: Cluster) -> None:
    clock = asyncio.get_running_loop().time
    database = Database(own_cluster.host, own_cluster.port, "postgres")
    port = free_port()
    async with running_app(
        database, pool={"max_size": 4, "wait_timeout": 20}, listen={"postgres": port}, auth={"proof_lifetime": 600}
    ) as app:
        load = Load(app, database, port)
        tasks = [asyncio.create_task(load.request()) for _ in range(PROGRAMS)]
        tasks += [asyncio.create_task(load.tunnel()) for _ in range(3)]
        try:
            await reached(lambda: len(load.answers) > 100 and len(load.tunnels) > 10)
            assert {status for *_, status in load.answers} == {200}
            stopped = clock()
            await asyncio.to_thread(own_cluster.stop)
            down = clock()
            await reached(lambda: sum(when > down for when, *_ in load.answers) > 300)
            ready = await app.get("/readyz")
            assert ready.status == 503
            assert "has been unreachable for" in ready.json()["reason"]
            starting = asyncio.create_task(asyncio.to_thread(own_cluster.start))
            accepted = await first_accept(database)
            await reached(lambda: load.tunnels[-1] > accepted and load.answers[-1][0] > accepted + BACK_WITHIN + 0.5)
            await starting
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    away = [(took, status) for when, took, status in load.answers if down < when < accepted]
    back = min(when for when, _, status in load.answers if status == 200 and when > accepted) - accepted
    tunnel_back = min(when for when in load.tunnels if when > accepted) - accepted
    slowest = max(took for when, took, _ in load.answers if when > stopped)
    print(
        f"\n{len(away)} requests while it was away: {dict(Counter(status for _, status in away))}, the slowest took "
        f"{slowest:.3f} s; after Postgres let somebody in, the first success came in {back:.3f} s, a tunnel's in "
        f"{tunnel_back:.3f} s"
    )
    assert {status for _, status in away} <= {500, 503}
    assert slowest < 10.0, "and not the 20 s that they may wait"
    assert back < BACK_WITHIN
    assert tunnel_back < BACK_WITHIN + 0.5
    assert {status for when, _, status in load.answers if when > accepted + BACK_WITHIN} == {200}
    changes = [event for event in app.events if isinstance(event, TargetChanged)]
    assert [change.is_up for change in changes] == [False, True]


async def test_swap_behind_a_pause_fails_no_request_and_no_tunnel_s_transaction(own_cluster: Cluster) -> None:
    """The server is stopped, for longer than anybody may wait for a connection, and another one started."""
    clock = asyncio.get_running_loop().time
    database = Database(own_cluster.host, own_cluster.port, "postgres")
    port = free_port()
    async with running_app(
        database, pool={"max_size": 4, "wait_timeout": 0.3}, listen={"postgres": port}, auth={"proof_lifetime": 0.05}
    ) as app:
        load = Load(app, database, port)
        tasks = [asyncio.create_task(load.request()) for _ in range(PROGRAMS)]
        tasks += [asyncio.create_task(load.tunnel()) for _ in range(3)]
        try:
            await reached(lambda: len(load.answers) > 100 and len(load.tunnels) > 10)
            registry = app.assembly._registry
            async with asyncio.timeout(10):
                await registry.pause(None)
            assert registry.connections == 0
            paused = clock()
            assert (await app.get("/readyz")).status == 200
            await asyncio.to_thread(own_cluster.stop)
            await asyncio.sleep(0.4)  # the subject is that this much time does not count
            await asyncio.to_thread(own_cluster.start)
            away = clock() - paused
            assert registry.resume(None)
            resumed = clock()
            await reached(lambda: load.answers[-1][0] > resumed + 0.5 and load.tunnels[-1] > resumed + 0.5)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    statuses = Counter(status for *_, status in load.answers)
    longest = max(took for _, took, _ in load.answers)
    print(f"\npaused for {away:.3f} s: {dict(statuses)}, the longest took {longest:.3f} s; tunnels cut: {load.cut}")
    assert set(statuses) == {200}
    assert longest >= away > 0.3
    assert load.cut == 0


async def reached(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - the load is not told
            await asyncio.sleep(0.005)


async def first_accept(database: Database) -> float:
    """The moment from which on Postgres lets somebody in."""
    async with asyncio.timeout(30):
        while True:
            try:
                connection = await database.connect()
            except Exception:
                await asyncio.sleep(0.005)
            else:
                moment = asyncio.get_running_loop().time()
                await connection.close()
                return moment
