"""Everything that runs is made of what was made before it, and settings that are read again reach all of it."""

import asyncio
from typing import Any

from sqlhttp_gateway.assembly import Assembly, cache_snapshot
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.cache.store import Entry, Store
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.standing import Standing

AWAY = "postgres://ada:hunter2@127.0.0.1:1/app"
"""Nobody is at this port."""


def settings_of(**sections: Any) -> Settings:
    return load_settings(database_url=AWAY, **sections)


def assembly_of(settings: Settings, place: Place | None = None) -> Assembly:
    return Assembly(Standing(settings, observe=unobserved, place=place), grace_left=lambda: 0.0)


async def test_nothing_runs_before_its_owners_are_started_or_after_they_are_stopped() -> None:
    before = asyncio.all_tasks()
    assembly = assembly_of(settings_of(watch={"interval": 0}))
    assert asyncio.all_tasks() == before
    async with assembly.owners().running():
        assert asyncio.all_tasks() > before
        assert not assembly.readiness.is_draining
    assert assembly.readiness.is_draining
    assert asyncio.all_tasks() == before


async def test_without_room_for_answers_there_is_no_cache_anywhere() -> None:
    assembly = assembly_of(settings_of(cache={"max_bytes": 0}))
    assert assembly._cached is assembly._changes is assembly._notified is None
    assert assembly._service._consulting is None
    assert assembly._quick._hits is None
    assert assembly.state["invalidate"]._invalidations is None


async def test_postgres_is_watched_by_the_first_worker_alone() -> None:
    slots = Slots(2)
    places = (None, Place(slots, 0), Place(slots, 1))
    watches = [assembly_of(settings_of(), place)._watch for place in places]
    assert [watch is not None for watch in watches] == [True, True, False]
    assert assembly_of(settings_of(watch={"interval": 0}))._watch is None


async def test_other_limits_reach_the_service_and_the_quick_way_alike() -> None:
    assembly = assembly_of(settings_of())
    assembly.owners().reconfigure(
        settings_of(response={"max_bytes": 1234}, statement={"timeout": 7}, request={"max_bytes": 4321})
    )
    assert assembly._service._carrier.limits == assembly._quick._errands.limits
    assert (assembly._quick._errands.limits.max_bytes, assembly._quick._errands.limits.statement_timeout) == (1234, 7)
    assert assembly.sql.max_bytes == 4321


async def test_several_workers_share_the_connections() -> None:
    settings = settings_of(listen={"workers": 2}, pool={"max_total": 20, "max_size": 10})
    assembly = assembly_of(settings)
    assert assembly._registry._budget._limit == 10
    assembly.owners().reconfigure(settings_of(listen={"workers": 2}, pool={"max_total": 30, "max_size": 10}))
    assert assembly._registry._budget._limit == 15


def entry(number: int) -> Entry:
    return Entry(
        key=bytes([number]),
        body=b"[]",
        row_count=0,
        began=0,
        ttl=1.0,
        swr=0.0,
        cost=0.0,
        buckets=(),
        place=("default", "app"),
        text=f"SELECT * FROM t{number} WHERE secret = 'hunter2'",
        hits=number,
    )


def test_status_shows_the_hottest_answers_without_the_values_of_their_statements() -> None:
    store = Store(1_000_000, Stamps())
    for number in range(20):
        assert store.put(entry(number))
    shown = cache_snapshot(store)
    assert (shown.bytes, shown.entries) == (store.size, 20)
    assert [each.hits for each in shown.hottest] == list(range(19, 9, -1))
    assert "t19" in shown.hottest[0].shape
    assert "hunter2" not in repr(shown)
