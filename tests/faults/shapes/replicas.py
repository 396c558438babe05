"""A primary with two replicas: one lags, stands still, is stopped or killed, or takes the place of a primary that dies.

What was acknowledged is on whoever is the primary now, since a write is acknowledged only when a replica has it.
Whoever brings a bookmark reads nothing older than it, from whichever server; and no read that may go to a replica goes
back in time for a program that keeps its bookmarks.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

from sqlhttp import BookmarkLost, NeonDbError
from tests.faults.doors import client
from tests.faults.episodes import EPISODES, Caller, Outcome
from tests.faults.leaving import LEAVING
from tests.faults.shapes.shape import Shape, to_their_end
from tests.faults.troubles import Weighted, cut_network, kill_backend, kill_idle, kill_in_transaction, spoil_network
from tests.faults.world import Ground, World
from tests.support.cluster import Cluster
from tests.support.fleet import Fleet, most_advanced, running_fleet
from tests.support.processes import children

REPLICAS = 2
PROBES = 1 + REPLICAS
"""Connections by which the gateway looks at servers, one each."""
_NAMES = ", ".join(f"server{number}" for number in range(1 + REPLICAS))
_SYNCHRONOUS = {"synchronous_standby_names": f"ANY 1 ({_NAMES})"}
_COUNTED = "SELECT n FROM counted WHERE tag = $1"


@contextmanager
def standing(options: Mapping[str, str]) -> Iterator[Shape]:
    """Three servers, of which the gateway knows nothing but where they are."""
    with running_fleet(REPLICAS, _SYNCHRONOUS | dict(options)) as fleet:
        yield Shape(
            Ground(fleet.servers, more=PROBES),
            troubles=to_their_end(_troubles(fleet)),
            kinds=EPISODES | LEAVING | {"bookmarks": (12, bookmarks)},
        )


def _troubles(fleet: Fleet) -> Mapping[str, Weighted]:
    def replicas(world: World) -> list[Cluster]:
        return [server for server in fleet.servers if server is not world.cluster]

    async def lag(world: World, luck: Random) -> None:
        """One replays nothing for a while, and receives everything."""
        late = luck.choice(replicas(world)).maintenance
        await asyncio.to_thread(late.psql, "SELECT pg_wal_replay_pause()")
        await asyncio.sleep(0.5 + luck.random())
        await asyncio.to_thread(late.psql, "SELECT pg_wal_replay_resume()")

    async def freeze(world: World, luck: Random) -> None:
        """One stands still, all of its processes: connections to it are made, and nothing is answered."""
        still = luck.choice(replicas(world))
        pids = [still.pid, *children(still.pid)]
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        await asyncio.sleep(0.5 + luck.random())
        for pid in pids:
            _send(pid, signal.SIGCONT)

    async def stop(world: World, luck: Random) -> None:
        """One is stopped in order and started again."""
        await asyncio.to_thread(luck.choice(replicas(world)).restart)

    async def kill(world: World, luck: Random) -> None:
        """One ends at once, is away for a while, and recovers."""
        gone = luck.choice(replicas(world))
        await asyncio.to_thread(gone.crash)
        await asyncio.sleep(luck.random())
        await asyncio.to_thread(gone.start)

    async def fail_over(world: World, luck: Random) -> None:
        """The primary ends at once, the replica that has the most becomes the primary, and the old one follows it."""
        before = world.cluster
        await asyncio.to_thread(before.crash)
        heir, *_ = await asyncio.to_thread(most_advanced, *replicas(world))
        await asyncio.to_thread(fleet.promote, heir)
        world.cluster = heir
        await asyncio.to_thread(fleet.rejoin, before, heir)

    return {
        "lagging replica": (4, lag),
        "frozen replica": (3, freeze),
        "stopped replica": (2, stop),
        "killed replica": (2, kill),
        "fail over": (3, fail_over),
        "kill one": (2, kill_backend),
        "kill idle": (2, kill_idle),
        "kill in transaction": (1, kill_in_transaction),
        "cut network": (2, cut_network),
        "spoil network": (1, spoil_network),
    }


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, number)


async def bookmarks(caller: Caller) -> Outcome:
    """Writes and reads by one program that keeps its bookmarks, the reads on any server."""
    sql = client(caller.world)
    anywhere = sql.with_(consistency="replica")
    seen = 0
    try:
        await sql("INSERT INTO counted VALUES ($1, 0)", caller.tag)
        for number in range(1, 6):
            await sql("UPDATE counted SET n = $1 WHERE tag = $2", number, caller.tag)
            seen = number
            for _ in range(caller.luck.randrange(1, 4)):
                rows = await anywhere(_COUNTED, caller.tag)
                found = rows[0]["n"] if rows else None
                if found is None or found < seen:
                    caller.world.ledger.strange.append(f"{caller.tag} wrote {seen} and read {found}")
    except BookmarkLost:  # a position behind the last write, of which no replica had heard when the primary died
        return "lost"
    except NeonDbError as error:
        caller.look_at(error)
        return "unknown" if error.may_have_run else "refused"
    return "ok"
