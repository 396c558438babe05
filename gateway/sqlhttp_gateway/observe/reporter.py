"""Makes this worker's report, tells it to the other workers every second, and puts together what all of them say.

Whoever asks any worker gets the whole: its own part as of now, the others' at most a second old.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlhttp_gateway.observe.counts import Counts
from sqlhttp_gateway.observe.metrics import Metrics
from sqlhttp_gateway.observe.report import CacheSnapshot, Report, decode_report, encode_report, merged
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.observe.watch import Watch
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.snapshot import PoolSnapshot, server_snapshots, snapshot
from sqlhttp_gateway.siblings import Lines

PUBLISH_EVERY = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the workers this is, and where they tell each other what they know."""

    slots: Slots
    number: int
    lines: Lines | None = None

    def before(self) -> Counts | None:
        """What the worker counted that had this place before."""
        data = self.slots.read(self.number)
        return decode_report(data).counts if data is not None else None


class Reporter:
    """This worker's report, and everyone's."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        registry: PoolRegistry,
        connections_limit: int,
        watch: Watch | None = None,
        probes: Probes | None = None,
        place: Place | None = None,
        certificate_expires_at: Callable[[], float] = lambda: 0.0,
        cache: Callable[[], CacheSnapshot] = CacheSnapshot,
        tunnels: Callable[[], int] = int,
        programs: Callable[[], tuple[Mapping[str, int], int]] = lambda: ({}, 0),
    ) -> None:
        """`connections_limit` is that of all workers together. Without a `place` this is the only worker.

        `watch` is what looks at Postgres's sessions, in the worker that does; `probes` look at servers and their roles;
        `cache` looks at the result cache, `tunnels` counts the open ones; `programs` counts connections by door, and
        says how many there may be.
        """
        self._metrics = metrics
        self._registry = registry
        self._connections_limit = connections_limit
        self._watch = watch
        self._probes = probes
        self._place = place
        self._certificate_expires_at = certificate_expires_at
        self._cache = cache
        self._tunnels = tunnels
        self._programs = programs
        self._started = self._settings_at = time.time()
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell the others, if there are any."""
        if self._place is not None:
            self._publishing = asyncio.get_running_loop().create_task(self._publish(self._place))

    async def stop(self) -> None:
        """Tell them for the last time."""
        if self._publishing is not None and self._place is not None:
            self._publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._publishing
            self._tell(self._place)

    def reconfigure(self, connections_limit: int) -> None:
        """The settings were read again, and this is the limit that they set."""
        self._connections_limit = connections_limit
        self._settings_at = time.time()

    def own(self) -> Report:
        """This worker, now. Pools in which nothing is and nobody waits are left out, while their server is up."""
        now = asyncio.get_running_loop().time()
        pools = (snapshot(pool, now) for pool in self._registry.pools)
        programs, programs_limit = self._programs()
        return Report(
            at=time.monotonic(),
            started=self._started,
            workers=1,
            counts=self._metrics.counts(),
            pools=tuple(self._of_all(pool) for pool in pools if pool.connections or pool.waiting or pool.is_down),
            connections=self._registry.connections,
            connections_limit=self._connections_limit,
            resident_bytes=_resident_bytes(),
            open_files=_open_files(),
            settings_at=self._settings_at,
            certificate_expires_at=self._certificate_expires_at(),
            sample=self._watch.sample if self._watch else None,
            firing=self._watch.firing if self._watch else (),
            servers=tuple(each for group in self._groups for each in server_snapshots(group)),
            cache=self._cache(),
            tunnels=self._tunnels(),
            programs=programs,
            programs_limit=programs_limit,
        )

    def whole(self) -> Report:
        """All workers."""
        own = self.own()
        if self._place is None:
            return own
        slots = self._place.slots
        others = [slots.read(number) for number in range(slots.count) if number != self._place.number]
        reports = [own, *(decode_report(data) for data in others if data is not None)]
        return merged(reports, now=time.monotonic())

    @property
    def _groups(self) -> Sequence[Group]:
        return self._probes.groups if self._probes is not None else ()

    def _of_all(self, pool: PoolSnapshot) -> PoolSnapshot:
        """A pool is as large as its parts in all workers together, whether they have met it yet or not."""
        return pool if self._place is None else replace(pool, max_size=pool.max_size * self._place.slots.count)

    async def _publish(self, place: Place) -> None:
        while True:
            self._tell(place)
            await asyncio.sleep(PUBLISH_EVERY)

    def _tell(self, place: Place) -> None:
        if not place.slots.write(place.number, encode_report(self.own())):
            _LOG.error("the report of worker %d is too large to be told: lower metrics.max_labels", place.number)


def _resident_bytes() -> int:
    """0 where the system has no /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _open_files() -> int:
    """0 where the system has no /proc."""
    try:
        # Linux says it from 6.2 on; before, it takes a millisecond a thousand, in which no request is answered.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1  # less the one that lists them
    except OSError:
        return 0
