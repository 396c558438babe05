"""Two gateways that share their answers in a Redis, which dies, stands still, is slow, or loses all that it had.

Through the gateway that it wrote by, nobody reads less than its own acknowledged write. Through the other, an answer is
never older than it says it is, nor than its ttl; without the Redis they go on alone. What is written past the
gateways is seen when the ttl is over.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

import asyncpg
import httpx

from tests.faults.episodes import EPISODES, Caller, Outcome
from tests.faults.shapes.shape import Shape, to_their_end
from tests.faults.troubles import Weighted, cut_network, kill_idle, restart
from tests.faults.world import POSTGRES, Ground, World
from tests.support.bad_network import BadNetwork, Fault, Kind, Way, bad_network
from tests.support.cluster import running_cluster
from tests.support.redis_server import RedisServer, running_redis

TTL = 1
"""Seconds that an answer may be old which is asked for."""
MARGIN = 0.25
"""Seconds between a clock of ours and the gateway's, which counts from before its query."""
_TURNS = 12
_READ = {"query": "SELECT n FROM counted WHERE tag = $1"}


@contextmanager
def standing(options: Mapping[str, str]) -> Iterator[Shape]:
    """One Postgres, and the Redis behind a network of its own."""
    with (
        running_cluster(POSTGRES | dict(options)) as cluster,
        running_redis() as redis,
        bad_network("127.0.0.1", redis.port) as network,
    ):
        settings = {
            "SQLHTTP_CACHE__SHARED_URL": f"redis://127.0.0.1:{network.port}/0",
            "SQLHTTP_CACHE__SHARED_STALENESS": "0.5",
        }
        yield Shape(
            Ground((cluster,), settings=settings, gateways=2),
            troubles=to_their_end(_troubles(redis, network)),
            kinds=EPISODES | {"shared": (12, shared)},
        )


def _troubles(redis: RedisServer, network: BadNetwork) -> Mapping[str, Weighted]:
    async def kill(world: World, luck: Random) -> None:
        """It ends, and comes back with nothing."""
        redis.kill()
        await asyncio.sleep(luck.random())
        await asyncio.to_thread(redis.start)

    async def freeze(world: World, luck: Random) -> None:
        """It takes everything and says nothing, for longer than anybody waits for it or not."""
        with redis.frozen():
            await asyncio.sleep(luck.choice((0.05, 0.3, 1.0)))

    async def forget(world: World, luck: Random) -> None:
        """It loses everything while all go on to hear it, as one that is short of memory does."""
        await asyncio.to_thread(redis.flush)

    async def spoil(world: World, luck: Random) -> None:
        """New connections to it are slow, cut at any byte, or swallow what is sent."""
        kinds = [Kind.RESET, Kind.CLOSE, Kind.SWALLOW, Kind.DELAY, Kind.TRICKLE]
        network.plan = lambda number: Fault(luck.choice(kinds), luck.choice(list(Way)), luck.randrange(2000), 0.002)
        network.cut_all()
        await asyncio.sleep(0.5 + luck.random())
        network.plan = lambda number: Fault()
        network.cut_all()

    async def cut(world: World, luck: Random) -> None:
        """Every connection to it is reset."""
        network.cut_all()

    return {
        "kill redis": (3, kill),
        "freeze redis": (3, freeze),
        "empty redis": (2, forget),
        "spoil way to redis": (3, spoil),
        "cut way to redis": (3, cut),
        "kill idle": (2, kill_idle),
        "cut network": (1, cut_network),
        "restart": (1, restart),
    }


async def shared(caller: Caller) -> Outcome:
    """A number that grows: written by one gateway or past both, read by both through the cache."""
    world, luck = caller.world, caller.luck
    gateways = world.gateways
    told: list[tuple[float, int]] = [(time.monotonic(), 0)]
    """When it was known that a number is there, in order."""
    own = dict.fromkeys(range(len(gateways)), 0)
    """The latest that was acknowledged by each gateway."""
    past: asyncpg.Connection[asyncpg.Record] | None = None
    try:
        async with httpx.AsyncClient(timeout=30) as http:

            async def post(number: int, body: object, **headers: str) -> httpx.Response:
                given = {"Neon-Connection-String": world.database.url, **headers}
                return await http.post(gateways[number].sql, json=body, headers=given)

            made = {"query": "INSERT INTO counted VALUES ($1, 0)", "params": [caller.tag]}
            if (await post(0, made)).status_code != 200:
                return "refused"
            for turn in range(1, _TURNS):
                writer = luck.randrange(len(gateways) + 1)
                update = "UPDATE counted SET n = $1 WHERE tag = $2"
                if writer < len(gateways):
                    answer = await post(writer, {"query": update, "params": [turn, caller.tag]})
                    if answer.status_code != 200:
                        return "refused"
                    own[writer] = turn
                else:
                    past = past or await world.cluster.maintenance.connect()
                    await past.execute(update, turn, caller.tag)
                told.append((time.monotonic(), turn))
                for _ in range(luck.randrange(1, 5)):
                    await asyncio.sleep(luck.choice((0.0, 0.01, 0.2)))
                    number = luck.randrange(len(gateways))
                    asked = time.monotonic()
                    wish = {"cache-control": f"max-age={TTL}"}
                    answer = await post(number, _READ | {"params": [caller.tag]}, **wish)
                    if answer.status_code != 200:
                        return "refused"
                    found = answer.json()["rows"][0]["n"]
                    age = int(answer.headers.get("age", 0)) + 1 if "hit" in answer.headers["cache-status"] else 0
                    least = max(own[number], *[n for at, n in told if at <= asked - min(age, TTL) - MARGIN], 0)
                    if found < least:
                        world.ledger.strange.append(
                            f"{caller.tag} read {found} where {least} was there, by gateway {number},"
                            f" {answer.headers['cache-status']}, age {answer.headers.get('age')}"
                        )
    except (httpx.HTTPError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return "refused"
    finally:
        if past is not None:
            with contextlib.suppress(Exception):
                past.terminate()
    return "ok"
