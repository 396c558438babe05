"""A network that cuts connections in the middle of statements: what ran is stopped, and the bound holds again."""

import asyncio

from tests.support.bad_network import bad_network
from tests.support.cluster import Database
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
