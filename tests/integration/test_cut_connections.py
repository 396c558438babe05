"""Connections that are cut in the middle of statements: what ran is stopped, and the bound holds again."""

import asyncio
import contextlib
import json
import signal
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.support.bad_network import bad_network
from tests.support.cluster import Database
from tests.support.gateway import GatewayProcess, free_port
from tests.support.running_app import running_app
from tests.support.watch import watching


async def test_statement_whose_connection_was_cut_does_not_go_on(database: Database) -> None:
    with bad_network(database.host, database.port) as network:
        through = Database("127.0.0.1", network.port, database.name)
        async with running_app(through, pool={"max_size": 2}) as app, watching(database) as watch:
            calls = [asyncio.create_task(app.post({"query": "SELECT pg_sleep(600)"})) for _ in range(2)]
            await watch.until(2, "wait_event = 'PgSleep'")
            network.cut_all()
            answers = await asyncio.gather(*calls)
            assert {call.status for call in answers} == {400}
            assert {call.json()["code"] for call in answers} == {"08006"}
            await watch.until(0, "wait_event = 'PgSleep'")
            assert (await app.post({"query": "SELECT 1"})).status == 200


async def test_statement_whose_gateway_was_killed_does_not_go_on(database: Database) -> None:
    """Nobody is left who could cancel it: Postgres itself has to look."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def sleep() -> None:
        body = json.dumps({"query": "SELECT pg_sleep(600)"}).encode()
        with contextlib.suppress(URLError, OSError):
            urlopen(Request(f"{url}/sql", body, {"Neon-Connection-String": database.url}), timeout=30)

    with GatewayProcess("serve", "--port", str(port), environment={"DATABASE_URL": database.url}) as gateway:
        gateway.wait_until_ready(url)
        async with watching(database) as watch:
            call = asyncio.create_task(asyncio.to_thread(sleep))
            await watch.until(1, "wait_event = 'PgSleep'")
            gateway.send(signal.SIGKILL)
            await watch.until(0)
            await call
