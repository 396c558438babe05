"""NOTIFY sqlhttp_invalidate: what a database itself says of answers that rest on it.

A payload is a tag, several with commas between them, `relation SCHEMA.NAME` (or NAME, in public), or empty for every
answer of the database.
One connection listens for each database of which answers are kept, as the gateway's own role. Answers fetched before it
listened, or while it could not, may have missed something: they end once it listens again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.stamps import Place
from sqlhttp_gateway.errors import BadRequest, GatewayError
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.neon.caching import checked_tags
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.tunnel.listeners import Listeners

CHANNEL = b"sqlhttp_invalidate"
_RELATION = "relation "
_NOTIFICATION = ord("A")
_SWEEP_EVERY = 5.0
_RETRY_AFTER = 2.0


class Notified:
    """Listens where answers are kept."""

    def __init__(
        self,
        cache: ResultCache,
        listeners: Listeners,
        registry: PoolRegistry,
        targets: Targets,
        *,
        tell: Callable[[Sequence[int]], None] = lambda buckets: None,
    ) -> None:
        """`tell` is told which buckets a notification has ended, for whoever shares the answers."""
        self._cache = cache
        self._tell = tell
        self._listeners = listeners
        self._registry = registry
        self._targets = targets
        self._ears: dict[Place, _Ear] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to stop listening where nothing is kept any more."""
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """Listen nowhere."""
        tasks = [*self._tasks.values(), *([self._sweeping] if self._sweeping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for place in list(self._ears):
            self._leave(place)

    def want(self, place: Place) -> asyncio.Task[None] | None:
        """Answers of this database are about to be kept. What is done once somebody listens; None: somebody does."""
        if place not in self._ears:
            upstream = self._targets.by_name.get(place[0])
            if upstream is None or upstream.is_pooler:  # a pooler lends another backend each time, which hears nothing
                return None
            self._ears[place] = ear = _Ear(self._cache, place, self._tell)
            self._tasks[place] = asyncio.get_running_loop().create_task(self._listen(place, ear))
        task = self._tasks.get(place)
        return None if task is None or task.done() else task

    def reconfigure(self) -> None:
        """Go by the targets as they are now: the gateway's own password may be another, also where it is not let in."""
        for place, ear in self._ears.items():
            way = self._way(place)
            if way is not None:
                self._listeners.lead(ear, pool=way[0], password=way[1])

    def _way(self, place: Place) -> tuple[Pool, bytes] | None:
        """How the gateway's own role connects there; None: the target is there no more."""
        upstream = self._targets.by_name.get(place[0])
        if upstream is None:
            return None
        admin = upstream.admin
        return self._registry.pool(PoolKey(*place, admin.role), upstream), admin.password or b""

    async def _listen(self, place: Place, ear: "_Ear") -> None:
        while (way := self._way(place)) is not None:
            with contextlib.suppress(GatewayError):
                await self._listeners.listen(ear, (CHANNEL,), pool=way[0], password=way[1])
                ear.missed()
                return
            self._listeners.unlisten(ear)
            await asyncio.sleep(_RETRY_AFTER)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            for place in list(self._ears):
                if not self._cache.is_kept(place):
                    self._leave(place)

    def _leave(self, place: Place) -> None:
        task = self._tasks.pop(place, None)
        if task is not None:
            task.cancel()
        self._listeners.unlisten(self._ears.pop(place))


class _Ear:
    """What is heard of one database."""

    def __init__(self, cache: ResultCache, place: Place, tell: Callable[[Sequence[int]], None]) -> None:
        self._cache = cache
        self._tell = tell
        self._place = place

    def hear(self, frame: bytes) -> None:
        """A NotificationResponse, or the notice that some may have been missed."""
        if frame[0] != _NOTIFICATION:
            self.missed()
            return
        payload = frame[9:].split(b"\0")[1].decode(errors="replace").strip()
        if not payload:
            self._tell(self._cache.invalidate_all(self._place, tenant=None))
        elif payload.startswith(_RELATION):
            relation = payload.removeprefix(_RELATION)
            relation = relation if "." in relation else f"public.{relation}"  # as POST /cache/invalidate has it
            self._tell(self._cache.invalidate(self._place, tenant=None, relations=[relation]))
        else:
            try:
                tags = checked_tags(payload.split(","), "NOTIFY")
                self._tell(self._cache.invalidate(self._place, tenant=None, tags=tags))
            except BadRequest:
                self.missed()  # whatever it means, it wants something to end

    def deafen(self, error: GatewayError) -> None:
        """It is the gateway's own password, which a reload may put right: that is waited for."""

    def missed(self) -> None:
        """Something may have been said that was not heard."""
        self._cache.invalidate_all(self._place, tenant=None)
