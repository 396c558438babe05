"""What happens to Postgres, to the network and to the schema meanwhile, one at a time."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import asyncpg

from tests.faults.grants import ROLES
from tests.faults.world import CANARY, GUEST, World
from tests.support.bad_network import Fault, Kind, Plan, Way

_PATIENCE = 60.0
"""Seconds after which what has to come back is missed."""
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
    _cut(world)


async def spoil_network(world: World, luck: Random) -> None:
    """New connections to Postgres meet a fault, for a while."""
    # Behind bytes that trickle, the end of a TLS connection that the gateway has given up comes seconds late, and its
    # backend is there as long, of which nobody can know.
    none = {Kind.NONE, Kind.TRICKLE} if world.ground.encrypts else {Kind.NONE}
    kinds = [kind for kind in Kind if kind not in none]

    def plan(number: int) -> Fault:
        if luck.random() < 0.5:
            return Fault()
        return Fault(luck.choice(kinds), luck.choice(list(Way)), luck.randrange(3000), 0.002)

    await _meet(world, plan, 1 + luck.random())


async def restart(world: World, luck: Random) -> None:
    """Postgres is stopped in order and started again."""
    await asyncio.to_thread(world.cluster.restart)


async def crash(world: World, luck: Random) -> None:
    """Postgres ends at once and recovers."""
    await asyncio.to_thread(world.cluster.crash)
    await asyncio.sleep(luck.random())
    await asyncio.to_thread(world.cluster.start)


async def smart_stop(world: World, luck: Random) -> None:
    """Postgres takes no more connections and waits for those that are there, which the gateway keeps; then it ends."""
    os.kill(world.cluster.pid, signal.SIGTERM)
    await asyncio.sleep(0.5 + luck.random())
    await asyncio.to_thread(world.cluster.restart)


async def silence(world: World, luck: Random) -> None:
    """A server that accepts and never answers."""
    fault = Fault(Kind.SWALLOW, luck.choice(list(Way)))
    await _meet(world, lambda number: fault, 1 + luck.random())


async def black_hole(world: World, luck: Random) -> None:
    """A server that falls silent during log-in."""
    fault = Fault(Kind.SWALLOW, luck.choice(list(Way)), luck.randrange(1, 500))
    await _meet(world, lambda number: fault, 1 + luck.random())


async def full_backlog(world: World, luck: Random) -> None:
    """A server that does not even accept, for a while."""
    for network in world.networks:
        network.stop_accepting()
    try:
        _cut(world)
        await asyncio.sleep(1 + luck.random())
    finally:  # also where the run ends in the middle
        for network in world.networks:
            network.accept_again()


async def change_password(world: World, luck: Random) -> None:
    """That of the role as which most come; who is on the way has the old one."""
    password = f"{CANARY}-{secrets.token_hex(4)}"
    if await _beside(world, f"ALTER ROLE app PASSWORD '{password}'"):
        world.database = replace(world.database, password=password)
        world.door = replace(world.door, password=password)


async def shut_out_guest(world: World, luck: Random) -> None:
    """A role may not log in any more, or is no more, while its callers go on calling."""
    gone, back = luck.choice(
        (
            (f"ALTER ROLE {GUEST} NOLOGIN", f"ALTER ROLE {GUEST} LOGIN"),
            (f"DROP ROLE {GUEST}", f"CREATE ROLE {GUEST} LOGIN PASSWORD '{CANARY}-guest'"),
            (f"ALTER ROLE {GUEST} VALID UNTIL 'yesterday'", f"ALTER ROLE {GUEST} VALID UNTIL 'infinity'"),
        )
    )
    if await _beside(world, gone):
        await asyncio.sleep(luck.random())
        deadline = time.monotonic() + _PATIENCE
        while not await _beside(world, back):
            assert time.monotonic() < deadline, "the guest did not come back"
            await asyncio.sleep(0.1)


async def kill_worker(world: World, luck: Random) -> None:
    """One of the gateway's workers ends at once, in the middle of whatever it does."""
    await _end_worker(world, luck, signal.SIGKILL)


async def stop_worker(world: World, luck: Random) -> None:
    """One of them is told to end, and finishes what it does."""
    await _end_worker(world, luck, signal.SIGTERM)


async def _end_worker(world: World, luck: Random, how: signal.Signals) -> None:
    victim = luck.choice(world.serving)
    os.kill(victim, how)
    deadline = time.monotonic() + _PATIENCE
    while len(set(world.serving) - {victim}) < world.workers:
        assert time.monotonic() < deadline, "nobody took the place of a worker"
        await asyncio.sleep(0.05)


async def _meet(world: World, plan: Plan, seconds: float) -> None:
    """Every new connection meets its fault, and there are only new ones; none does where the run ends."""
    for network in world.networks:
        network.plan = plan
    try:
        _cut(world)
        await asyncio.sleep(seconds)
    finally:
        for network in world.networks:
            network.plan = lambda number: Fault()
        _cut(world)


def _cut(world: World) -> None:
    for network in world.networks:
        network.cut_all()


async def _beside(world: World, sql: str) -> bool:
    """Whether it could be done."""
    try:
        connection = await world.cluster.maintenance.connect()
    except (asyncpg.PostgresError, OSError):
        return False  # no slot is left, or it is starting: trouble enough
    try:
        await connection.execute(sql)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        return False
    finally:
        connection.terminate()
    return True


Trouble = Callable[[World, Random], Awaitable[None]]
Weighted = tuple[int, Trouble]
TROUBLES: dict[str, Weighted] = {
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
    "smart stop": (1, smart_stop),
    "silence": (1, silence),
    "black hole at log-in": (1, black_hole),
    "full backlog": (1, full_backlog),
    "change password": (2, change_password),
    "shut out guest": (2, shut_out_guest),
}
"""By name: how often among the others, and what happens."""
MILD: dict[str, Weighted] = {name: TROUBLES[name] for name in ("kill one", "kill idle", "cancel", "change shape")}
"""Those that leave most connections as they are."""
OF_WORKERS: dict[str, Weighted] = {"kill worker": (8, kill_worker), "stop worker": (4, stop_worker)}
"""The same, where there are several."""
