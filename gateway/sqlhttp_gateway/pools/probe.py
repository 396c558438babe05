"""Looks at the servers of targets that have several, over connections of its own, for as long as the gateway runs.

A look is one statement every few hundred milliseconds. A server that did not do what a request asked of it is looked at
at once. Reads that wait for a replica to catch up share one connection there, whatever their number.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType

from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.events import Observer, unobserved
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.positions import REPLAYED
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.pools.view import Seen
from sqlhttp_gateway.wire.lsn import lsn_from_text, timeline_from_file

APPLICATION_NAME = "sqlhttp probe"
_CANCEL_TIMEOUT = 1.0
_LEAST_PAUSE = 0.02
"""Seconds between two looks at one server, however many requests ask for one."""
_ROUND_TRIPS = 10
"""Looks of which the quickest says how far away a server is: a busy machine only ever adds to that."""
_POLLS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.025)
"""Seconds between two questions how far a replica is; the last stays. Streaming takes about one millisecond."""

LOOK = """\
SELECT s.system_identifier::text, r.recovering::int::text,
  CASE WHEN r.recovering THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END::text,
  CASE WHEN NOT r.recovering THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END,
  c.timeline_id::text, w.received_tli::text,
  CASE WHEN NOT r.recovering THEN pg_catalog.pg_last_wal_replay_lsn() END::text,
  CASE WHEN r.recovering THEN
    extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END::text
FROM pg_catalog.pg_control_system() AS s, pg_catalog.pg_control_checkpoint() AS c,
  (SELECT pg_catalog.pg_is_in_recovery()) AS r(recovering)
LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true"""
_HISTORY = "SELECT pg_catalog.pg_read_file('pg_wal/' || $1 || '.history', true)"


class Probe:
    """Looks at one server."""

    def __init__(self, upstream: Upstream, group: Group, observe: Observer) -> None:
        admin = upstream.admin
        self.name = upstream.target.name
        self._group = group
        self._key = PoolKey(self.name, admin.database, admin.role)
        self._password = admin.password or b""
        self._upstream = replace(
            upstream,
            group=None,
            server_settings=upstream.server_settings | {"application_name": APPLICATION_NAME},
            pool=upstream.pool.model_copy(update={"max_size": 1, "min_size": 0, "max_waiting": 10}),
        )
        self._registry = PoolRegistry(max_total=1, cancel_timeout=_CANCEL_TIMEOUT, observe=observe)
        self._wake = asyncio.Event()
        self._followed = (0, 0)
        """System and timeline that the server was last seen on: where the log of a standby leads does not change."""
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._histories: dict[int, dict[int, int]] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._waiter: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    def inherit(self, other: "Probe") -> None:
        """Know what `other` has heard of the same server, which does not say it again while nothing streams to it."""
        if other._upstream.target == self._upstream.target:
            self._followed = other._followed

    def start(self) -> None:
        """Begin to look."""
        self._registry.start()
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more, and close the connection."""
        for task in (self._running, self._waiter):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._registry.drain(0.0)

    def hurry(self) -> None:
        """Look at once."""
        self._wake.set()

    async def replayed(self, position: int) -> None:
        """Return when the server has replayed as much; to be cancelled by whoever waits no longer."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = position
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_task(self._wait())
        try:
            await turn
        finally:
            self._waiting.pop(turn, None)

    async def look(self) -> Seen | str:
        """What the server says of itself, or why it says nothing."""
        timeout = self._group.settings.probe_timeout
        try:
            async with asyncio.timeout(timeout):
                began = perf_counter()
                rows = await self._ask(LOOK)
                seen = self._seen(rows[0], perf_counter() - began)
                return seen if seen.in_recovery else seen._replace(forks=await self._forks(seen.timeline))
        except TimeoutError:
            return f"no answer within {timeout:g} s"
        except GatewayError as error:
            return error.message
        except (ValueError, IndexError):
            return "its answer cannot be read"

    # ── inside ──

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            said = await self.look()
            self._group.note(self.name, said, now=loop.time())
            await asyncio.sleep(_LEAST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._group.settings.probe_interval):
                    await self._wake.wait()

    def _seen(self, row: tuple[str | None, ...], round_trip: float) -> Seen:
        system, recovering, position, file, checkpoint, received, fork, age = row
        in_recovery = recovering == "1"
        if file is not None:
            timeline = timeline_from_file(file)
        elif received is not None:
            timeline = int(received)
        else:
            # Without pg_monitor, or while nothing streams: what the last checkpoint says, and what was known before.
            known = self._followed[1] if self._followed[0] == int(system or 0) else 0
            timeline = max(int(checkpoint or 0), known)
        self._followed = (int(system or 0), timeline)
        self._round_trips.append(round_trip)
        return Seen(
            system=int(system or 0),
            in_recovery=in_recovery,
            position=lsn_from_text(position or "0/0"),
            timeline=timeline,
            fork=lsn_from_text(fork) if fork is not None else None,
            replay_age=float(age) if age is not None else None,
            round_trip=min(self._round_trips),
        )

    async def _forks(self, timeline: int) -> MappingProxyType[int, int]:
        """Where the timelines before this one were left, from its history file; empty where that may not be read."""
        known = self._histories.get(timeline)
        if known is None:
            known = {}
            if timeline > 1:
                try:
                    [(text,)] = await self._ask(_HISTORY, (b"%08X" % timeline,))
                    known = forks_from_history(text or "")
                except PostgresError:
                    pass  # the role may not, or there is none
            self._histories = {timeline: known}
        return MappingProxyType(known)

    async def _wait(self) -> None:
        """Ask how far the server is until nobody waits any more."""
        pauses = iter(_POLLS)
        pause = _POLLS[0]
        while self._waiting:
            with contextlib.suppress(GatewayError, ValueError, IndexError):
                recovering, position = (await self._ask(REPLAYED))[0]
                reached = lsn_from_text(position or "0/0") if recovering == "1" else 0
                for turn, wanted in list(self._waiting.items()):
                    if wanted <= reached and not turn.done():
                        turn.set_result(None)
                        del self._waiting[turn]
                        pauses = iter(_POLLS)
            if self._waiting:
                pause = next(pauses, _POLLS[-1])
                await asyncio.sleep(pause)

    async def _ask(self, text: str, params: tuple[bytes, ...] = ()) -> list[tuple[str | None, ...]]:
        pool = self._registry.server_pool(self._key, self._upstream)
        lease = self._registry.try_lease(pool) or await self._registry.lease(pool, lambda: self._password)
        try:
            rows = await ask(lease, text, params)
        finally:
            lease.release()
        return [tuple(value.decode() if value is not None else None for value in row) for row in rows]


class Probes:
    """All of them."""

    def __init__(self, groups: Sequence[Group], observe: Observer) -> None:
        self.groups = groups
        """The targets that are looked at."""
        self._observe = observe
        self._probes: dict[str, Probe] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to look, at every server at once."""
        for group in self.groups:
            for name, upstream in group.upstreams.items():
                self._probes[name] = Probe(upstream, group, self._observe)
                self._probes[name].start()

    def follow(self, groups: Sequence[Group]) -> None:
        """Look at these from now on, and forget nothing of those that stay."""
        known = {group.name: group for group in self.groups}
        for group in groups:
            if group.name in known:
                group.inherit(known[group.name])
        for probe in self._probes.values():
            stopping = asyncio.get_running_loop().create_task(probe.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)
        before, self._probes = self._probes, {}
        self.groups = groups
        self.start()
        for name, probe in self._probes.items():
            if name in before:
                probe.inherit(before[name])

    async def stop(self) -> None:
        """Look no more."""
        await asyncio.gather(*self._stopping, *(probe.stop() for probe in self._probes.values()))

    def hurry(self, group: Group) -> None:
        """Look at all servers of a target at once: something was not as it should be."""
        for name in group.upstreams:
            if (probe := self._probes.get(name)) is not None:
                probe.hurry()

    async def replayed(self, names: Iterable[str], position: int, *, timeout: float) -> str | None:
        """The first of these servers that has replayed as much; None if none has within `timeout` seconds."""
        probes = [self._probes[name] for name in names if name in self._probes]
        if timeout <= 0 or not probes:
            return None
        waits = {asyncio.ensure_future(probe.replayed(position)): probe.name for probe in probes}
        try:
            done, _ = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return next((waits[each] for each in done), None)


async def look_once(groups: Iterable[Group]) -> None:
    """One look at every server, for what does not run for long."""

    async def look(group: Group, upstream: Upstream) -> None:
        probe = Probe(upstream, group, unobserved)
        group.note(probe.name, await probe.look(), now=asyncio.get_running_loop().time())
        await probe.stop()

    await asyncio.gather(*(look(group, upstream) for group in groups for upstream in group.upstreams.values()))


def forks_from_history(text: str) -> dict[int, int]:
    """Timelines and where each was left, from a file of the form that Postgres's manual gives under "Timelines"."""
    forks = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[0].isdecimal():
            forks[int(parts[0])] = lsn_from_text(parts[1])
    return forks
