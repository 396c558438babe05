"""Episodes and troubles mixed from a seed, and what was found of them afterwards."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.faults.doors import close_clients
from tests.faults.episodes import EPISODES, LONG, Caller, Episode
from tests.faults.flatness import Moment
from tests.faults.grants import ROLES
from tests.faults.leaving import LEAVING
from tests.faults.ledger import Ledger
from tests.faults.troubles import OF_WORKERS, TROUBLES, Weighted
from tests.faults.watcher import watching
from tests.faults.world import ASLEEP, CANARY, LISTENING, TOTAL, World
from tests.support import watch as activity
from tests.support.bad_network import Fault
from tests.support.gateway import Gateway

SETTLE = 5.0
"""Seconds after the last episode in which everything has to be as it was."""
_MANY = 10
"""Statements for each permit, where there are several workers: none of them is left with fewer than it has permits."""
_WARM = 0.3
"""The part of the time after which memory should not grow any more: caches are full then."""
ALL = EPISODES | LEAVING
"""All that any gateway can be asked."""
_ZERO_AT_REST = ("sqlhttp_pool_connections{", "sqlhttp_pool_waiting{", "sqlhttp_leases_leaked", "sqlhttp_bugs")
"""What the names of metrics begin with that are 0 when nothing happens."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much happens at a time, and how soon after one another. Times are in seconds, the least and the most."""

    callers: int = 12
    """Episodes at a time, more than twice the pool."""
    rest: tuple[float, float] = (0.0, 0.0)
    """Between two episodes of one caller."""
    peace: tuple[float, float] = (0.2, 1.0)
    """Between two troubles."""
    stayers: int = 0
    """Callers beside these who keep a tunnel for long."""


BRISK = Pace()
"""As much as there is time for."""
STEADY = Pace(callers=8, rest=(0.1, 0.5), peace=(15.0, 45.0), stayers=4)
"""A load under which one can look at how things develop."""


@dataclass(slots=True)
class Report:
    """What happened and what was found."""

    seed: int
    seconds: float = 0.0
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    """When these were, from the beginning of the episodes."""
    faults: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def episodes(self) -> int:
        return sum(self.outcomes.values())


async def run(
    world: World,
    *,
    seed: int,
    episodes: int,
    seconds: float,
    pace: Pace = BRISK,
    troubles: Mapping[str, Weighted] | None = None,
    kinds: Mapping[str, tuple[int, Episode]] = ALL,
) -> Report:
    """Let so many episodes happen, or as many as begin in so many seconds, and look at what they left.

    Of `troubles` there are all where nothing else is said. `kinds` are the episodes.
    """
    report = Report(seed)
    luck = Random(seed)
    await _warm(world, kinds)
    descriptors, memory = world.descriptors(), world.memory()
    began = time.monotonic()
    async with watching(world) as seen:
        happening = _trouble(world, Random(luck.random()), report, pace, troubles or _troubles(world))
        troubling = asyncio.create_task(happening)
        numbers = iter(range(episodes))

        async def call(own: Random) -> None:
            nonlocal memory
            for number in numbers:
                passed = time.monotonic() - began
                if passed > seconds:
                    return
                if passed < seconds * _WARM:
                    memory = max(memory, world.memory())
                await _episode(Caller(world, own, f"{seed}-{number}"), report, kinds)
                if pace.rest[1]:
                    await asyncio.sleep(own.uniform(*pace.rest))

        async def remain(own: Random) -> None:
            while True:
                await _episode(Caller(world, own, f"{seed}-stays-{own.random()}"), report, LONG)

        staying = [asyncio.create_task(remain(Random(luck.random()))) for _ in range(pace.stayers)]
        try:
            await asyncio.gather(*(call(Random(luck.random())) for _ in range(pace.callers)))
        finally:
            for task in (troubling, *staying):
                task.cancel()
            await asyncio.gather(troubling, *staying, return_exceptions=True)
        report.seconds = time.monotonic() - began
        await _mend(world)
        await close_clients(world)
        await _settle(world, report, descriptors)
        for each in world.gateways:
            report.faults += await _permits(world, each)
    report.figures |= {
        "backends, most": seen.most,
        "backends, bound": world.bound,
        "of the callers' pool": seen.most_of_callers,
        "looks": seen.looks,
        "memory when warm, MiB": memory / 2**20,
        "memory after, MiB": world.memory() / 2**20,
        "descriptors before": descriptors,
        "descriptors after": world.descriptors(),
    }
    pools = world.pool * len(world.gateways)
    if seen.most_of_callers > pools + LISTENING * world.workers * len(world.gateways) + world.ground.orphans:
        report.faults.append(f"{seen.most_of_callers} backends of pools whose bound is {pools}")
    if seen.most > world.bound:
        report.faults.append(f"{seen.most} backends, and the bound is {world.bound}")
    report.faults += seen.faults
    report.faults += world.ledger.faults(await present(world, f"{seed}-%"))
    return report


async def _episode(caller: Caller, report: Report, table: Mapping[str, tuple[int, Episode]]) -> None:
    name = caller.luck.choices(list(table), [weight for weight, _ in table.values()])[0]
    try:
        async with asyncio.timeout(60):
            outcome = await table[name][1](caller)
    except TimeoutError:
        outcome = "hung"
        report.faults.append(f"{name} {caller.tag} was not over in 60 s")
    except Exception as error:
        outcome = "broken"
        report.faults.append(f"{name} {caller.tag} met what it did not expect: {error!r}")
    report.outcomes[name, outcome] = report.outcomes.get((name, outcome), 0) + 1


def _troubles(world: World) -> Mapping[str, Weighted]:
    return TROUBLES if world.workers == 1 else {**TROUBLES, **OF_WORKERS}


async def _trouble(world: World, luck: Random, report: Report, pace: Pace, troubles: Mapping[str, Weighted]) -> None:
    start = time.monotonic()
    while True:
        await asyncio.sleep(luck.uniform(*pace.peace))
        began = time.monotonic() - start
        name = luck.choices(list(troubles), [weight for weight, _ in troubles.values()])[0]
        try:
            await troubles[name][1](world, luck)
        except Exception as error:
            report.faults.append(f"{name} could not be made: {error!r}")
        report.troubles[name] = report.troubles.get(name, 0) + 1
        report.moments.append(Moment(name, began, time.monotonic() - start))


async def _warm(world: World, kinds: Mapping[str, tuple[int, Episode]]) -> None:
    """Requests of every kind once, so that what is kept for all is there before the baseline is taken."""
    report = Report(0)
    for name in kinds:
        await kinds[name][1](Caller(world, Random(1), f"warm-{name}"))
    await close_clients(world)
    world.ledger = Ledger()
    await _settle(world, report, 10**9)


async def _mend(world: World) -> None:
    """Postgres runs and the network is whole."""
    for network in world.networks:
        network.plan = lambda number: Fault()
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = await world.cluster.maintenance.connect()
        except Exception:
            if time.monotonic() > deadline:
                await asyncio.to_thread(world.cluster.start)
            await asyncio.sleep(0.1)
            continue
        connection.terminate()
        return


async def _settle(world: World, report: Report, descriptors: int) -> None:
    """Wait until nothing is left of the episodes, and say what is when the time is over."""
    deadline = time.monotonic() + SETTLE
    left: list[str] = []
    while True:
        left = await _left(world, descriptors)
        if not left or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    report.faults += [f"after {SETTLE:g} s: {what}" for what in left]
    report.figures["settled after, s"] = time.monotonic() - deadline + SETTLE


async def _left(world: World, descriptors: int) -> list[str]:
    left, urls = [], [each.url for each in world.gateways]
    async with httpx.AsyncClient(verify=world.tls or True) as http:
        text = "\n".join([(await http.get(f"{url}/metrics")).text for url in urls])
    if CANARY in text:
        left.append("a secret in the metrics")
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if not name.startswith(_ZERO_AT_REST) or 'state="idle"' in name:
            continue
        # It hears what ends cached answers.
        allowed = LISTENING * world.workers if 'role="postgres",state="leased"' in name else 0
        if float(value) > allowed:
            left.append(f"{name} is {value}")
    pooled = (TOTAL + 4) * len(world.gateways)  # those that the baseline had not got yet
    if world.descriptors() > descriptors + pooled:
        left.append(f"{world.descriptors()} descriptors, and {descriptors} at the beginning")
    connection = await world.cluster.maintenance.connect()
    busy_backends = await connection.fetch(
        f"SELECT pid, state, left(query, 60) FROM pg_stat_activity WHERE usename IN {ROLES} AND state <> 'idle'"
    )
    await connection.close()
    left += [f"backend {tuple(row)}" for row in busy_backends]
    return left


async def _permits(world: World, gateway: Gateway) -> list[str]:
    """The pool's bound is reached still: a permit that was lost is seen by nobody until there is none.

    To which of several workers a connection comes is the kernel's choice, so that more are made than there are permits.
    """
    asked = world.pool if world.workers == 1 else world.pool * _MANY
    headers = {"Neon-Connection-String": world.database.url}
    body = {"query": f"SELECT pg_sleep({SETTLE + 5})::text"}
    async with (
        activity.watching(world.cluster.maintenance) as beside,
        httpx.AsyncClient(timeout=SETTLE + 10, limits=httpx.Limits(), verify=world.tls or True) as http,
    ):
        asking = [asyncio.create_task(http.post(gateway.sql, json=body, headers=headers)) for _ in range(asked)]
        deadline = time.monotonic() + SETTLE
        most = 0
        while most < world.pool and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            most = max(most, await beside.backends(ASLEEP))
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        while await beside.backends(ASLEEP) and time.monotonic() < deadline + SETTLE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return [] if most == world.pool else [f"{most} statements at once, and the pool has {world.pool} permits"]


async def present(world: World, like: str) -> list[str]:
    """The tags in the database, each as often as it is there."""
    connection = await world.cluster.maintenance.connect()
    rows = await connection.fetch(
        "SELECT tag FROM written WHERE tag LIKE $1 UNION ALL SELECT tag FROM promised WHERE tag LIKE $1", like
    )
    await connection.close()
    return [row[0] for row in rows]
