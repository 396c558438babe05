"""A request's way among servers, with a view made by hand and no server behind it."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from sqlhttp_gateway.errors import (
    BookmarkAhead,
    BookmarkLost,
    ConnectionBroken,
    DatabaseMissing,
    GatewayError,
    PasswordFailed,
    PostgresError,
    TargetUnavailable,
    WaitTimeout,
)
from sqlhttp_gateway.events import Event, Routed, unobserved
from sqlhttp_gateway.model import Bookmark, PoolKey
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.pools.view import Seen
from sqlhttp_gateway.settings import load_settings
from tests.support.clock import fake_time, turns

SYSTEM = 7
PRIMARY, REPLICA = Seen(SYSTEM, False, 100, 1), Seen(SYSTEM, True, 100, 1)
LOST = TargetUnavailable("cannot connect")
BROKEN = ConnectionBroken("the connection was lost")


def postgres_error(code: str) -> PostgresError:
    return PostgresError({"C": code, "M": "no"})


class ScriptedProbes(Probes):
    """What looks would find, as the test says; `reached` are replicas that get to any bookmark."""

    def __init__(self, group: Group) -> None:
        super().__init__([group], unobserved)
        self.group = group
        self.next: dict[str, Seen | str] = {}
        self.reached: set[str] = set()
        self.asked: list[list[str]] = []

    def hurry(self, group: Group) -> None:
        for name in self.group.upstreams:
            said = self.next.get(name, self.group._said.get(name, "gone"))
            self.group.note(name, said, now=0.0)
        asyncio.get_running_loop().call_soon(lambda: self.group.note("default", self._of("default"), now=0.0))

    async def replayed(self, names: Iterable[str], position: int, *, timeout: float) -> str | None:
        self.asked.append(list(names))
        return next((name for name in self.asked[-1] if name in self.reached), None)

    def _of(self, name: str) -> Seen | str:
        return self.next.get(name, self.group._said.get(name, "gone"))


class Scene:
    """A target with a primary and two replicas."""

    def __init__(self, url: str = "postgres://a:b@one,two,three/main") -> None:
        settings = load_settings(database_url=url, pool={"wait_timeout": 0.2}, replica={"bookmark_wait": 0.5})
        targets = Targets(settings)
        self.group = targets.groups[0]
        self.look(default=PRIMARY, default_2=REPLICA, default_3=REPLICA)
        self.probes = ScriptedProbes(self.group)
        self.registry = PoolRegistry(max_total=5, cancel_timeout=1.0, observe=unobserved)
        self.anchor = self.registry.pool(PoolKey("default", "main", "a"), targets.default)

    def look(self, **said: Seen | str) -> None:
        for name, each in said.items():
            self.group.note(name.replace("_", "-"), each, now=0.0)

    def route(self, **more: Any) -> Route:
        given = {"registry": self.registry, "probes": self.probes, "reads": True, "bookmark": None} | more
        return Route(self.anchor, **given)

    async def server(self, route: Route) -> str:
        return (await route.pool()).key.target


@pytest.fixture
async def scene() -> Scene:
    return Scene()


def bookmark(position: int = 100, timeline: int = 1) -> Bookmark:
    return Bookmark(SYSTEM, timeline, position)


async def test_read_has_a_pool_at_a_replica_and_a_write_at_the_primary(scene: Scene) -> None:
    pool = await scene.route().pool()
    assert pool.key == PoolKey("default-2", "main", "a")
    assert pool.upstream.target.host == "two"
    assert await scene.server(scene.route(reads=False)) == "default"
    assert await scene.server(scene.route(needs_primary=True)) == "default"


async def test_answer_names_the_server_and_the_end_is_told_once(scene: Scene) -> None:
    told: list[Event] = []
    route = scene.route()
    await scene.server(route)
    assert scene.group.loads["default-2"].outstanding == 1
    assert (b"sqlhttp-served-by", b"default-2") in route.headers()
    route.close(told.append)
    assert scene.group.loads["default-2"].outstanding == 0
    assert told == [Routed("default", "default-2", "read")]


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "ran"),
    [
        (LOST, False),
        (BROKEN, True),
        (postgres_error("57P01"), True),
        (postgres_error("57P03"), False),
        (postgres_error("40001"), True),
    ],
)
async def test_read_whose_replica_fails_goes_on_elsewhere(scene: Scene, error: GatewayError, ran: bool) -> None:
    route = scene.route()
    tried = []
    for _ in range(3):
        tried.append(await scene.server(route))
        assert await route.failed(error, ran=ran)
    assert tried == ["default-2", "default-3", "default"]


@pytest.mark.parametrize("error", [PasswordFailed("no"), DatabaseMissing({"C": "3D000", "M": "no"})])
async def test_role_or_database_that_a_replica_does_not_know_yet_is_looked_for_at_the_primary(
    scene: Scene, error: GatewayError
) -> None:
    route = scene.route()
    await scene.server(route)
    assert await route.failed(error, ran=False)
    assert await scene.server(route) == "default"
    assert not await route.failed(error, ran=False)


@pytest.mark.parametrize(("error", "ran"), [(postgres_error("42P01"), True), (WaitTimeout("full"), False)])
async def test_what_is_no_fault_of_the_server_is_final(scene: Scene, error: GatewayError, ran: bool) -> None:
    route = scene.route()
    await scene.server(route)
    assert not await route.failed(error, ran=ran)
    assert scene.group.loads["default-2"].failures == 0


async def test_read_of_what_only_the_primary_has_goes_there(scene: Scene) -> None:
    route = scene.route()
    await scene.server(route)
    assert await route.failed(postgres_error("0A000"), ran=True)
    assert await scene.server(route) == "default"
    assert not await route.failed(postgres_error("0A000"), ran=True)


async def test_statement_that_was_wrongly_found_to_read_runs_as_if_nobody_had_looked(scene: Scene) -> None:
    route = scene.route(is_found=True)
    assert await scene.server(route) == "default-2"
    assert route.reads
    assert await route.failed(postgres_error("25006"), ran=True)
    assert not route.reads
    assert await scene.server(route) == "default"


async def test_write_that_may_have_run_is_not_tried_again(scene: Scene) -> None:
    route = scene.route(reads=False)
    await scene.server(route)
    assert not await route.failed(BROKEN, ran=True)


async def test_write_that_did_not_run_waits_for_the_next_primary(scene: Scene) -> None:
    route = scene.route(reads=False)
    assert await scene.server(route) == "default"
    scene.probes.next = {"default": "gone", "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    assert await route.failed(LOST, ran=False)
    assert await scene.server(route) == "default-2"


async def test_without_a_primary_a_write_ends_in_time_and_says_why(scene: Scene) -> None:
    scene.look(default="connection refused")
    with pytest.raises(TargetUnavailable, match=r"no server takes writes now.*default: connection refused"):
        await scene.route(reads=False).pool()


# ── 25006 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refused_write_follows_the_primary_once(scene: Scene) -> None:
    route = scene.route(reads=False)
    await scene.server(route)
    scene.probes.next = {"default": REPLICA._replace(timeline=2), "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    assert await route.failed(postgres_error("25006"), ran=True)
    assert await scene.server(route) == "default-2"
    assert not await route.failed(postgres_error("25006"), ran=True)


async def test_callers_own_read_only_transaction_is_told_apart(scene: Scene) -> None:
    route = scene.route(reads=False)
    await scene.server(route)
    assert not await route.failed(postgres_error("25006"), ran=True)


async def test_what_may_have_committed_on_the_way_is_not_run_twice(scene: Scene) -> None:
    route = scene.route(reads=False, is_repeatable=False)
    await scene.server(route)
    scene.probes.next = {"default": REPLICA._replace(timeline=2), "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    assert not await route.failed(postgres_error("25006"), ran=True)


# ── bookmarks ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_replica_that_has_the_bookmark_is_used_at_once_and_says_so_again(scene: Scene) -> None:
    route = scene.route(bookmark=bookmark(100))
    assert await scene.server(route) == "default-2"
    assert scene.probes.asked == []
    assert route.positions is not None
    assert route.positions.asks_before
    assert route.is_behind(), "until the replica itself has said that it has replayed as much"


async def test_read_waits_for_its_replica_and_then_for_any(scene: Scene) -> None:
    scene.probes.reached = {"default-3"}
    assert await scene.server(scene.route(bookmark=bookmark(150))) == "default-3"
    assert scene.probes.asked == [["default-2"], ["default-2", "default-3"]]


async def test_bookmark_that_no_replica_reaches_is_for_the_primary(scene: Scene) -> None:
    told: list[Event] = []
    route = scene.route(bookmark=bookmark(150))
    assert await scene.server(route) == "default"
    assert not route.is_behind()
    route.close(told.append)
    assert told == [Routed("default", "default", "behind")]


async def test_lost_bookmark_is_refused_for_reads_and_writes(scene: Scene) -> None:
    scene.look(default="gone", default_2=Seen(SYSTEM, False, 120, 2, fork=100))
    for reads in (True, False):
        with pytest.raises(BookmarkLost, match="timeline 2 began without it"):
            await scene.route(reads=reads, bookmark=bookmark(101)).pool()
        await scene.route(reads=reads, bookmark=bookmark(100)).pool()


async def test_bookmark_of_an_unseen_promotion_waits_for_it(scene: Scene) -> None:
    with pytest.raises(BookmarkAhead, match="timeline 2"):
        await scene.route(bookmark=bookmark(timeline=2)).pool()
    scene.probes.next = {"default": "gone", "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    assert await scene.server(scene.route(bookmark=bookmark(timeline=2))) == "default-2"


# ── settings that are read again, and a database that is paused ──────────────────────────────────────────────────────


class Reread:
    """The target's settings are read again while somebody waits: the servers that are looked at are another group's."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.before = scene, scene.group

    def begin(self) -> None:
        scene = self.scene
        [group] = Targets(load_settings(database_url="postgres://a:b@one,two,three/main")).groups
        group.inherit(self.before)
        scene.group = scene.probes.group = group


async def test_write_that_waits_for_a_primary_hears_of_it_through_settings_that_were_read_again(scene: Scene) -> None:
    scene.look(default="gone")
    asking = asyncio.create_task(scene.server(scene.route(reads=False)))
    await asyncio.sleep(0)
    Reread(scene).begin()
    scene.probes.next = {"default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    scene.look(default_2=scene.probes.next["default-2"])
    assert await asking == "default-2"


async def test_request_under_way_is_counted_where_it_began_when_the_settings_are_read_again(scene: Scene) -> None:
    route, before = scene.route(reads=False), scene.group
    assert await scene.server(route) == "default"
    Reread(scene).begin()
    scene.probes.next = {"default": "gone", "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
    assert await route.failed(LOST, ran=False)
    assert await scene.server(route) == "default-2"
    assert {name: load.outstanding for name, load in before.loads.items() if load.outstanding} == {}
    assert scene.group.loads["default-2"].outstanding == 1
    route.close(unobserved)
    assert scene.group.loads["default-2"].outstanding == 0


async def test_time_for_which_the_database_is_paused_does_not_count(scene: Scene) -> None:
    with fake_time() as clock:
        route = scene.route(reads=False)
        pool = await route.pool()
        pool.pause()
        clock.advance(30.0)
        pool.resume()
        scene.probes.next = {"default": "gone", "default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
        assert await route.failed(LOST, ran=False)
        assert await scene.server(route) == "default-2"
        clock.advance(0.3)
        assert not await route.failed(LOST, ran=False)


async def test_write_waits_through_a_pause_for_the_server_that_takes_the_place_of_another(scene: Scene) -> None:
    with fake_time() as clock:
        scene.look(default="gone")
        pausing = asyncio.create_task(scene.registry.pause("main"))
        await turns()
        asking = asyncio.create_task(scene.server(scene.route(reads=False)))
        for _ in range(3):
            await turns()
            clock.advance(1.0)
            scene.look(default="gone")
        await turns()
        assert not asking.done()
        scene.look(default_2=Seen(SYSTEM, False, 120, 2, fork=100))
        assert await asking == "default-2"
        await pausing


async def test_who_waits_for_a_server_during_a_pause_sees_its_end_without_news_of_a_server(scene: Scene) -> None:
    with fake_time() as clock:
        scene.look(default="gone")
        pausing = asyncio.create_task(scene.registry.pause("main"))
        await turns()
        asking = asyncio.create_task(scene.server(scene.route(reads=False)))
        await turns()
        clock.advance(10.0)
        scene.registry.resume("main")
        scene.probes.next = {"default-2": Seen(SYSTEM, False, 120, 2, fork=100)}
        await turns(20)
        await pausing
    assert asking.done()
    assert asking.result() == "default-2", "the probes were asked to hurry"


async def test_nobody_waits_for_a_server_longer_than_a_pause_may_last(scene: Scene) -> None:
    with fake_time() as clock:
        scene.look(default="gone")
        pausing = asyncio.create_task(scene.registry.pause("main"))
        await turns()
        asking = asyncio.create_task(scene.server(scene.route(reads=False)))
        await turns()
        clock.advance(61.0)
        scene.look(default="gone")
        await turns()
        clock.advance(1.0)
        scene.look(default="gone")
        with pytest.raises(TargetUnavailable, match="no server takes writes now"):
            await asking
        await pausing
