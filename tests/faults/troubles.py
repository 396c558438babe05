"""What happens to Postgres, to the network and to the schema meanwhile, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import asyncpg

from tests.faults.grants import ROLES
from tests.faults.world import World
from tests.support.bad_network import Fault, Kind, Way

OURS = f"application_name = 'sqlhttp' OR usename IN {ROLES}"


async def kill_backend(world: World, luck: Random) -> None:
    """One backend of the gateway, whatever it does."""
    await _beside(
        world,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ({OURS}) AND pid <> pg_backend_pid()"
        " ORDER BY random() LIMIT 1",
    )


async def kill_idle(world: World, luck: Random) -> None:
    """Every one that is idle."""
    await _beside(world, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ({OURS}) AND state = 'idle'")


async def kill_in_transaction(world: World, luck: Random) -> None:
    """Every one that is in a transaction."""
    await _beside(
        world, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ({OURS}) AND state LIKE 'idle in%'"
    )


async def kill_twice(world: World, luck: Random) -> None:
    """All, and all that replace them."""
    for _ in range(2):
        await _beside(
            world, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ({OURS}) AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.05)


async def cancel_something(world: World, luck: Random) -> None:
    """A statement is cancelled by somebody else."""
    await _beside(
        world, f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE ({OURS}) AND pid <> pg_backend_pid()"
    )


async def change_shape(world: World, luck: Random) -> None:
    """DDL under prepared statements."""
    column = f"c{luck.randrange(10**9)}"
    await _beside(world, f"ALTER TABLE shape ADD COLUMN {column} int; ALTER TABLE shape DROP COLUMN {column}")


async def take_slots(world: World, luck: Random) -> None:
    """All connections of Postgres are taken by others, for a moment."""
    taken = []
    try:
        for _ in range(40):
            taken.append(await world.cluster.maintenance.connect())
    except (asyncpg.PostgresError, OSError):
        pass
    try:
        await asyncio.sleep(luck.random())
    finally:
        for connection in taken:
            connection.terminate()


async def cut_network(world: World, luck: Random) -> None:
    """Every connection to Postgres is reset."""
    world.network.cut_all()


async def spoil_network(world: World, luck: Random) -> None:
    """New connections to Postgres meet a fault, for a while."""
    kinds = [kind for kind in Kind if kind is not Kind.NONE]

    def plan(number: int) -> Fault:
        if luck.random() < 0.5:
            return Fault()
        return Fault(luck.choice(kinds), luck.choice(list(Way)), luck.randrange(3000), 0.002)

    world.network.plan = plan
    world.network.cut_all()
    await asyncio.sleep(1 + luck.random())
    world.network.plan = lambda number: Fault()
    world.network.cut_all()


async def restart(world: World, luck: Random) -> None:
    """Postgres is stopped in order and started again."""
    await asyncio.to_thread(world.cluster.restart)


async def crash(world: World, luck: Random) -> None:
    """Postgres ends at once and recovers."""
    await asyncio.to_thread(world.cluster.crash)
    await asyncio.sleep(luck.random())
    await asyncio.to_thread(world.cluster.start)


async def _beside(world: World, sql: str) -> None:
    try:
        connection = await world.cluster.maintenance.connect()
    except (asyncpg.PostgresError, OSError):
        return  # no slot is left, or it is starting: trouble enough
    try:
        await connection.execute(sql)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        pass
    finally:
        connection.terminate()


Trouble = Callable[[World, Random], Awaitable[None]]
TROUBLES: dict[str, tuple[int, Trouble]] = {
    "kill one": (4, kill_backend),
    "kill idle": (3, kill_idle),
    "kill in transaction": (3, kill_in_transaction),
    "kill twice": (2, kill_twice),
    "cancel": (2, cancel_something),
    "change shape": (2, change_shape),
    "take slots": (1, take_slots),
    "cut network": (3, cut_network),
    "spoil network": (2, spoil_network),
    "restart": (1, restart),
    "crash": (1, crash),
}
"""By name: how often among the others, and what happens."""
