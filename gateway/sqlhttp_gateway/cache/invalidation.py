"""What is invalidated by name: here at once and, where others share the cache, there too before it counts as done."""

from collections.abc import Awaitable, Callable, Sequence

from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.stamps import Place

Spread = Callable[[Sequence[int]], Awaitable[None]]
"""Tells the other gateways which buckets were stamped."""


class Invalidations:
    """Ends answers of one process's cache, of its siblings', and through `spread` of other gateways'."""

    def __init__(self, cache: ResultCache, spread: Spread | None = None) -> None:
        self._cache = cache
        self._spread = spread

    async def names(
        self, place: Place, *, tenant: str | None, tags: Sequence[str] = (), relations: Sequence[str] = ()
    ) -> None:
        """End answers with one of these tags, or that read one of these relations ("schema.name")."""
        await self._told(self._cache.invalidate(place, tenant=tenant, tags=tags, relations=relations))

    async def database(self, place: Place, *, tenant: str | None) -> None:
        """End all answers of a database: of all tenants, or of one."""
        await self._told(self._cache.invalidate_all(place, tenant=tenant))

    async def target(self, target: str) -> None:
        """End all answers of all databases of a target."""
        await self._told(self._cache.invalidate_target(target))

    async def _told(self, buckets: Sequence[int]) -> None:
        if self._spread is not None:
            await self._spread(buckets)
