"""How a program gets its backends."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import PinsExhausted, RequestCancelled, TargetUnavailable, WaitTimeout
from sqlhttp_gateway.events import Event, TunnelPinned
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.model import Allowance, PoolKey
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.startup import Startup
from tests.support.lending import FakeRegistry


class Scene:
    def __init__(self, *, allowance: Allowance | None = None, max_pinned: int = 5, **more: Any) -> None:
        self.pins = Pins(max_pinned)
        self.events: list[Event] = []
        self.registry: Any = FakeRegistry()
        caller: Any = SimpleNamespace(pool=self.registry.pool, grant=None, allowance=allowance, tenant="t")
        logged_in = LoggedIn(caller, Startup("ada", "app", {}), b"sesam", b"", b"", renew=_never)
        self.borrowing = Borrowing(
            logged_in,
            registry=self.registry,
            quotas=Quotas(self.registry),
            pins=self.pins,
            observe=self.events.append,
            **more,
        )
        self.found: list[Lease | BaseException] = []

    def wait(self) -> None:
        self.borrowing.wait(self.found.append)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nobody tells the test
                await asyncio.sleep(0)


async def _never() -> bytes:
    raise AssertionError


async def test_backend_that_is_free_is_had_at_once() -> None:
    scene = Scene()
    assert scene.borrowing.at_once() is None
    lease = scene.registry.add()
    assert scene.borrowing.at_once() is lease


async def test_backend_that_is_waited_for_is_told() -> None:
    scene = Scene()
    scene.wait()
    await scene.until(lambda: scene.registry.waiting)
    lease = scene.registry.add()
    await scene.until(lambda: scene.found)
    assert scene.found == [lease]
    assert not scene.borrowing.is_waiting


async def test_why_there_is_none_is_told() -> None:
    scene = Scene()
    scene.wait()
    await scene.until(lambda: scene.registry.waiting)
    scene.registry.refuse(WaitTimeout("no connection within 5 s"))
    await scene.until(lambda: scene.found)
    assert [type(each) for each in scene.found] == [WaitTimeout]


async def test_program_that_cancels_its_statement_waits_no_longer() -> None:
    scene = Scene()
    scene.borrowing.interrupt()
    scene.wait()
    await scene.until(lambda: scene.registry.waiting)
    scene.borrowing.interrupt()
    await scene.until(lambda: scene.found)
    assert [type(each) for each in scene.found] == [RequestCancelled]


async def test_end_of_the_program_ends_the_waiting_and_tells_nobody() -> None:
    scene = Scene()
    scene.wait()
    await scene.borrowing.stop()
    await scene.until(lambda: not scene.registry.waiting)
    await asyncio.sleep(0)
    assert (scene.found, scene.borrowing.is_waiting) == ([], False)


async def test_whoever_has_limits_takes_nothing_at_once_and_keeps_nothing() -> None:
    scene = Scene(allowance=Allowance(max_concurrent=1))
    scene.registry.add()
    assert scene.borrowing.at_once() is None
    assert not scene.borrowing.may_linger
    assert Scene().borrowing.may_linger


async def test_pool_is_chosen_anew_for_every_backend() -> None:
    pools: list[Any] = ["first", "second"]

    class Servers:
        def pool(self) -> Any:
            if not pools:
                raise TargetUnavailable("no standby can be used now")
            return pools.pop(0)

    scene = Scene(servers=Servers())
    scene.registry.add()
    scene.borrowing.at_once()
    chosen: list[Any] = [scene.borrowing.pool]
    scene.borrowing.at_once()
    chosen.append(scene.borrowing.pool)
    assert chosen == ["first", "second"]
    with pytest.raises(TargetUnavailable):
        scene.borrowing.at_once()


class Servers:
    """Leads to each of these in turn, and then to the last."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def pool(self) -> Any:
        name = self.names.pop(0) if len(self.names) > 1 else self.names[0]
        return SimpleNamespace(key=PoolKey(name, "app", "ada"))


LOST = TargetUnavailable("cannot connect")


async def test_another_server_is_tried_once_in_the_place_of_one_that_cannot_be_reached() -> None:
    scene = Scene(servers=Servers("default", "default-2", "default-2", "default"))
    scene.borrowing.at_once()
    assert scene.borrowing.moves_on(LOST)
    scene.borrowing.at_once()
    assert scene.borrowing.pool.key.target == "default-2"
    assert not scene.borrowing.moves_on(LOST), "two in a row are enough"
    assert scene.borrowing.moves_on(LOST), "and the next transaction may move again"


async def test_program_that_has_moved_and_got_a_backend_may_move_again() -> None:
    scene = Scene(servers=Servers("default", "default-2", "default-2", "default"))
    scene.borrowing.at_once()
    assert scene.borrowing.moves_on(LOST)
    scene.borrowing.at_once()
    scene.registry.add()
    scene.wait()
    await scene.until(lambda: scene.found)
    assert scene.borrowing.moves_on(LOST)


async def test_program_stays_where_nothing_else_serves_and_with_any_other_error() -> None:
    for servers, error in (
        (Servers("default"), LOST),
        (Servers("default", "default-2"), WaitTimeout("no connection within 5 s")),
        (None, LOST),
    ):
        scene = Scene(servers=servers)
        scene.borrowing.at_once()
        assert not scene.borrowing.moves_on(error)


async def test_program_without_limits_may_take_a_backend_that_is_not_clean() -> None:
    scene = Scene()
    scene.borrowing.wait(scene.found.append, takes_unclean=True)
    assert scene.borrowing.is_waiting
    await scene.until(lambda: scene.registry.waiting)
    lease = scene.registry.add()
    await scene.until(lambda: scene.found)
    assert (scene.found, scene.borrowing.is_waiting) == ([lease], False)


async def test_program_that_cancels_or_ends_takes_nothing() -> None:
    scene = Scene()
    scene.borrowing.wait(scene.found.append, takes_unclean=True)
    scene.borrowing.interrupt()
    assert [type(each) for each in scene.found] == [RequestCancelled]
    scene.borrowing.wait(scene.found.append, takes_unclean=True)
    await scene.borrowing.stop()
    scene.registry.add()
    await scene.until(lambda: not scene.registry.waiting)
    assert (len(scene.found), scene.borrowing.is_waiting) == (1, False)


async def test_backend_that_is_cleaned_is_the_one_that_is_had() -> None:
    scene = Scene()
    lease = scene.registry.add()
    lease.cleansing.set_result(True)
    scene.borrowing.cleanse(lease, scene.found.append)
    assert scene.borrowing.is_waiting
    await scene.until(lambda: scene.found)
    assert (scene.found, lease.ends) == ([lease], ["cleanse"])


async def test_backend_that_cannot_be_cleaned_is_dropped_for_another() -> None:
    scene = Scene()
    lease, other = scene.registry.add(), scene.registry.add()
    assert scene.borrowing.at_once() is lease
    lease.cleansing.set_result(False)
    scene.borrowing.cleanse(lease, scene.found.append)
    await scene.until(lambda: scene.found)
    assert (scene.found, lease.ends) == ([other], ["cleanse", "drop unclean"])


async def test_backend_whose_cleaning_has_not_begun_is_dropped_by_whoever_leaves() -> None:
    scene = Scene()
    lease = scene.registry.add()
    assert scene.borrowing.at_once() is lease
    scene.borrowing.cleanse(lease, scene.found.append)
    await scene.borrowing.stop()
    assert (scene.found, lease.ends) == ([], ["cleanse", "drop unclean"])


async def test_backend_that_stays_counts_once_whatever_it_stays_for() -> None:
    scene = Scene()
    for pin in (Pin.LOAD, Pin.SEQUENCE):
        scene.borrowing.pin(pin)
    assert (scene.pins.pinned(scene.registry.pool), scene.borrowing.is_pinned) == (1, True)
    assert scene.events == [TunnelPinned("default/app/ada", Pin.LOAD)]
    scene.borrowing.unpin()
    scene.borrowing.unpin()
    assert (scene.pins.pinned(scene.registry.pool), scene.borrowing.is_pinned) == (0, False)


async def test_backend_too_many_does_not_stay_and_is_told_as_one_that_wanted_to() -> None:
    scene = Scene(max_pinned=0)
    with pytest.raises(PinsExhausted):
        scene.borrowing.pin(Pin.LOAD)
    assert not scene.borrowing.is_pinned
    assert len(scene.events) == 1
    scene.borrowing.unpin()
    assert scene.pins.pinned(scene.registry.pool) == 0


async def test_pin_is_counted_where_the_backend_is_and_nowhere_once_it_is_taken_off() -> None:
    """While a statement that pins waits for a backend another server may become the primary."""
    scene = Scene()
    before, after = scene.registry.pool, FakeRegistry().pool
    scene.borrowing.pin(Pin.LOAD)
    scene.borrowing.pool = after
    scene.borrowing.pin(Pin.LOAD)
    assert (scene.pins.pinned(before), scene.pins.pinned(after)) == (0, 1)
    assert len(scene.events) == 1
    scene.borrowing.pool = before
    scene.borrowing.unpin()
    assert (scene.pins.pinned(before), scene.pins.pinned(after)) == (0, 0)
