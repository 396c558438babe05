"""`make faults-seen`: every check of this suite is seen to fail, against a gateway that is broken on purpose.

First each check is tried on the product as it is, which it must find nothing wrong with; then each breakage with the
check that must see it. Prints a table; the exit status is 1 when something was seen that is not there, or not seen.
"""

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.faults import clocks, crowd, followers, limits, probes
from tests.faults.breakages import BREAKAGES, Breakage
from tests.faults.cancels import keys_of_survivors, race
from tests.faults.episodes import QUICK
from tests.faults.flatness import judge
from tests.faults.killing import kill_again_and_again
from tests.faults.probes import Measured
from tests.faults.resources import files, gateway, log_on_a_full_disk, log_that_nobody_reads, memory
from tests.faults.run import run
from tests.faults.sampling import sampling
from tests.faults.troubles import MILD
from tests.faults.world import CANARY, World, made
from tests.support.gateway import Gateway

PATIENCE = 60.0
"""Seconds after which a breakage counts as not seen, once the round that runs is over."""
_EPISODES = 250
_ROUND = 15.0
"""Seconds in which a round of so many episodes has to be over; it takes a third of that."""
_KILLING_FOR = 12.0
_RACE_FOR = 4.0
_TRIES = 3
"""How often a time is taken that is too long: what is broken is slow every time."""
_FLAT_FOR = 30.0
_GROWTH = 1.3
"""What is growth in so short a time, in which caches fill."""
_CROWD = 500
"""Programs that ask nothing."""
SEED = 7


Check = Callable[[World, int], Awaitable[list[str]]]
"""From a world and a seed to what was found, one sentence each."""


async def _mixture(world: World, seed: int) -> list[str]:
    report = await run(world, seed=seed, episodes=_EPISODES, seconds=_ROUND)
    return report.faults + (["a secret in the log"] if CANARY in world.log.read_text() else [])


async def _quick(world: World, seed: int) -> list[str]:
    report = await run(world, seed=seed, episodes=4 * _EPISODES, seconds=_ROUND, kinds=QUICK, troubles=MILD)
    return report.faults


async def _killing(world: World, seed: int) -> list[str]:
    return (await kill_again_and_again(world, seed=seed, seconds=_KILLING_FOR)).faults


async def _race(world: World, seed: int) -> list[str]:
    return (await race(world, seed=seed, seconds=_RACE_FOR)).faults


async def _survivors(world: World, seed: int) -> list[str]:
    return await keys_of_survivors(world)


async def _full_log(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(log_on_a_full_disk, world)


async def _unread_log(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(log_that_nobody_reads, world)


async def _files(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(files, world)


async def _memory(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(memory, world)


async def _idle_sockets(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(crowd.idle, world, _CROWD)


async def _clocks(world: World, seed: int) -> list[str]:
    return await asyncio.to_thread(_jumps, world)


def _jumps(world: World) -> list[str]:
    """At a gateway of its own, since it needs another clock."""
    if not clocks.is_possible():
        return ["libfaketime is not installed"]
    with TemporaryDirectory() as folder, Path(os.devnull).open("wb") as log:
        offset = Path(folder, "offset")
        with gateway(world, log.fileno(), clocks.environment(offset)) as (_, port):
            there = Gateway(f"http://127.0.0.1:{port}", world.gateway.settings)
            return asyncio.run(clocks.jump(replace(world, gateways=(there,)), offset))


async def _flatness(world: World, seed: int) -> list[str]:
    async with sampling(world) as samples:
        report = await run(world, seed=seed, episodes=10**9, seconds=_FLAT_FOR)
    rows = [row for row in judge(samples, report.moments) if row.what.startswith("memory")]
    return [f"{row.what}: {row.early:.0f}, then {row.late:.0f}" for row in rows if row.late > row.early * _GROWTH]


def _probe(measure: Callable[[World], Awaitable[Measured]]) -> Check:
    async def probe(world: World, seed: int) -> list[str]:
        for _ in range(_TRIES):
            lag = await _lag(world)
            found = await measure(world)
            limit = found.limit + (2 * max(lag, await _lag(world)) if found.limit else 0.0)  # 0 is a limit of a count
            if found.worst <= limit:
                return []
        return [f"{found.what}: {found.worst:.3g}, at most {limit:.3g}"]

    return probe


async def _lag(world: World) -> float:
    """The longest of what takes no time: a machine that has other things to do is no fault of the gateway's."""
    times = []
    async with httpx.AsyncClient() as http:
        for _ in range(20):
            began = time.perf_counter()
            await http.get(f"{world.gateway.url}/livez")
            times.append(time.perf_counter() - began)
    return max(times)


CHECKS: dict[str, Check] = {
    "mixture": _mixture,
    "quick": _quick,
    "killing": _killing,
    "flatness": _flatness,
    "race": _race,
    "survivors": _survivors,
    "full log": _full_log,
    "unread log": _unread_log,
    "files": _files,
    "workers' memory": _memory,
    "idle sockets": _idle_sockets,
    "clocks": _clocks,
    "waits": _probe(probes.waits),
    "tunnels' waits": _probe(probes.waits_of_tunnels),
    "overflow": _probe(probes.overflow),
    "order": _probe(probes.order),
    "abort": _probe(probes.abort),
    "cancels": _probe(probes.cancels),
    "answers": _probe(probes.answers),
    "cut answers": _probe(probes.cut_answers),
    "recovery": _probe(probes.recovery),
    "hand-overs": _probe(followers.hand_overs),
    "run again": _probe(followers.run_again),
    "programs": _probe(limits.programs),
    "pauses": _probe(limits.pauses),
}

_WORKERS = {"survivors": 2, "workers' memory": 2}
"""Of the gateways that a check looks at, where they are not one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check made of a breakage."""

    breakage: Breakage
    after: float
    """Seconds."""
    finding: str
    """The one that tells; empty when there was none."""
    others: tuple[str, ...] = ()
    """What else was found."""


def look(breakage: Breakage, *, patience: float = PATIENCE) -> Seen:
    """Let its check look at a gateway that is broken so, again and again until it sees it."""
    others: list[str] = []
    with made(broken=breakage.name, workers=_WORKERS.get(breakage.check, 1)) as world:
        began = time.monotonic()
        seed = SEED
        while time.monotonic() - began < patience:
            found = _found(breakage.check, world, seed)
            finding = next((each for each in found if re.search(breakage.sign, each)), "")
            if finding:
                return Seen(breakage, time.monotonic() - began, finding)
            others += found
            seed += 1
        return Seen(breakage, time.monotonic() - began, "", tuple(others))


def unbroken(check: str) -> list[str]:
    """What a check finds in the product as it is."""
    with made(workers=_WORKERS.get(check, 1)) as world:
        return _found(check, world, SEED)


def _found(check: str, world: World, seed: int) -> list[str]:
    try:
        return asyncio.run(CHECKS[check](world, seed))
    except Exception as error:  # what is broken may break the check, which is no sight of it
        return [f"the check itself met {error!r}"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults-seen", description=__doc__)
    parser.add_argument("names", nargs="*", help="breakages whose names contain one of these; all")
    parser.add_argument("--patience", type=float, default=PATIENCE, help=f"seconds for each ({PATIENCE:g})")
    arguments = parser.parse_args()
    chosen = [
        breakage
        for breakage in BREAKAGES.values()
        if not arguments.names or any(name in breakage.name for name in arguments.names)
    ]
    failed = 0
    for check in sorted({breakage.check for breakage in chosen}):
        found = unbroken(check)
        failed += bool(found)
        print(f"{'nothing broken':<62}{check:<15}{'; '.join(found) or 'nothing found':<40}", flush=True)
    print()
    for breakage in chosen:
        seen = look(breakage, patience=arguments.patience)
        failed += not seen.finding
        what = seen.finding[:100].split("\n")[0] or f"NOT SEEN; found were {list(seen.others)[:5]}"
        print(f"{breakage.name:<62}{breakage.check:<15}{seen.after:6.1f} s  {what}", flush=True)
    print(f"\n{len(chosen)} breakages, {failed} not as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
