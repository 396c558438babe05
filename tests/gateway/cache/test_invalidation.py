from collections.abc import Sequence

from sqlhttp_gateway.cache.invalidation import Invalidations
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.settings import CacheSettings
from tests.gateway.cache.test_results import PLACE, put, question
from tests.gateway.cache.test_store import Clock


async def test_what_is_ended_here_is_told_to_the_others_before_it_counts_as_done() -> None:
    cache = ResultCache(CacheSettings(), Clock())
    told: list[int] = []

    async def spread(buckets: Sequence[int]) -> None:
        told.extend(buckets)

    everywhere = Invalidations(cache, spread)
    asked = question("u")
    entry = put(cache, asked, ["public.users"])
    for work in (
        everywhere.names(PLACE, tenant=None, tags=["u"]),
        everywhere.names(PLACE, tenant="key:1", relations=["public.users"]),
        everywhere.database(PLACE, tenant=None),
        everywhere.database(PLACE, tenant="key:1"),
        everywhere.target("default"),
    ):
        told.clear()
        await work
        assert set(told) & set(entry.buckets)


async def test_without_others_it_is_ended_here() -> None:
    cache = ResultCache(CacheSettings(), Clock())
    put(cache, question("u"), [])
    await Invalidations(cache).names(PLACE, tenant=None, tags=["u"])
    assert cache.find(question("u")) is None
