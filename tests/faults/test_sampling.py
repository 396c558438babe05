"""What is looked at once a second, beside what `test_endurance` says of a whole run."""

import asyncio
import socket
from dataclasses import replace

from tests.faults.sampling import sampling
from tests.faults.world import CANARY, made
from tests.support.leases import until
from tests.support.processes import open_connections


def test_connection_that_one_side_has_closed_is_no_open_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = listening.getsockname()
        first, second = (socket.create_connection(where, timeout=10) for _ in range(2))
        accepted = [listening.accept()[0] for _ in range(2)]
        assert open_connections(where[1]) == 2
        first.close()
        assert accepted[0].recv(1) == b""  # the end has come through
        assert open_connections(where[1]) == 1
        for each in (second, *accepted):
            each.close()
        assert open_connections(where[1]) == 0


def test_probe_is_answered_after_the_password_has_changed() -> None:
    with made(settings={"SQLHTTP_AUTH__PROOF_LIFETIME": "0.1"}) as world:

        async def probed() -> None:
            async with asyncio.timeout(60), sampling(world) as samples:
                await until(lambda: any(sample.p50 for sample in samples))
                password = f"{CANARY}-other"
                connection = await world.cluster.maintenance.connect()
                await connection.execute(f"ALTER ROLE app PASSWORD '{password}'")
                await connection.close()
                world.database = replace(world.database, password=password)
                before = len(samples) + 2  # of these seconds the first may have begun with the old one
                await until(lambda: any(sample.p50 for sample in samples[before:]))

        asyncio.run(probed())
