"""A PgBouncer in transaction mode between the gateway and Postgres, which is killed, stands still, or is cut off.

Beside what holds anyway: PgBouncer lends another backend for each transaction, so what a request leaves behind must be
gone with its own transaction, and no statement may count on what one before it has prepared.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

import pytest

from sqlhttp import NeonDbError
from tests.faults import grants
from tests.faults.doors import client
from tests.faults.episodes import EPISODES, Caller, Outcome
from tests.faults.leaving import LEAVING
from tests.faults.shapes.shape import Shape, to_their_end
from tests.faults.troubles import TROUBLES, Weighted
from tests.faults.world import CANARY, GUEST, POOL, POSTGRES, TRACES, Ground, World
from tests.support.cluster import running_cluster
from tests.support.pgbouncer import PROGRAM, PgBouncer, running_pgbouncer

_AS_ELSEWHERE = (
    *("kill one", "kill idle", "kill in transaction", "kill twice", "change shape", "cut network", "spoil network"),
    *("restart", "silence"),
)
"""Of the troubles those that mean the same here; passwords are PgBouncer's to know."""
_TRACES = tuple(text for text in TRACES if not text.startswith("PREPARE"))
"""What SQL's PREPARE leaves is beyond a gateway's reach there, as deploy/README says."""


@contextmanager
def standing(options: Mapping[str, str]) -> Iterator[Shape]:
    """One Postgres behind one PgBouncer."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    accounts = {"app": f"{CANARY}-password", GUEST: f"{CANARY}-guest", **grants.PASSWORDS}
    with (
        running_cluster(POSTGRES | dict(options)) as cluster,
        running_pgbouncer(cluster.maintenance, size=POOL, accounts=accounts) as pooler,
    ):
        kinds = {name: each for name, each in (EPISODES | LEAVING).items() if name != "token"}
        place = (pooler.before.host, pooler.before.port)
        yield Shape(
            Ground((cluster,), at=(place,), query="?pgbouncer=true", traces=_TRACES, orphans=2 * POOL),
            troubles={name: TROUBLES[name] for name in _AS_ELSEWHERE} | to_their_end(_troubles(pooler)),
            kinds=kinds | {"token refused": (6, come_with_a_token)},
        )


async def come_with_a_token(caller: Caller) -> Outcome:
    """Claims are signed for one backend, and PgBouncer does not tell which it lends: no row comes, and why is told."""
    member = caller.world.database.as_role("member", grants.token("ann"))
    try:
        rows = await client(caller.world, member)("SELECT owner FROM notes")
    except NeonDbError as error:
        return "ok" if "transaction pooler" in str(error) else "refused"
    caller.world.ledger.strange.append(f"{caller.tag} was shown {rows} by way of a pooler")
    return "ok"


def _troubles(pooler: PgBouncer) -> Mapping[str, Weighted]:
    async def kill(world: World, luck: Random) -> None:
        """It ends at once, with all connections on both sides, and comes back."""
        pooler.kill()
        await asyncio.sleep(luck.random())
        await asyncio.to_thread(pooler.start)

    async def freeze(world: World, luck: Random) -> None:
        """It stands still: connections are made, and nothing goes through."""
        with pooler.frozen():
            await asyncio.sleep(0.5 + luck.random())

    return {"kill pgbouncer": (4, kill), "freeze pgbouncer": (3, freeze)}
