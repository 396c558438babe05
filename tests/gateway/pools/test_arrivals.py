"""Who has a permit gets a connection that comes back or a new one, and no permit is lost where there is none."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import GatewayError, PasswordFailed, ShuttingDown, TargetDown, WaitTimeout
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools import arrivals as arrivals_module
from sqlhttp_gateway.pools.arrivals import Arrivals
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.opener import Password
from tests.support.clock import fake_time, turns

KEY = PoolKey("default", "app", "ada")
LONG = 60.0  # seconds; never waited for


class FakeRoster:
    """Opens what the test says, when it says so."""

    def __init__(self) -> None:
        self.secret = b"proven"
        self.asked: list[tuple[bytes, asyncio.Future[Backend]]] = []

    async def open(self, password: Password) -> Backend:
        answer: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()
        self.asked.append((password(), answer))
        return await answer


class Scene:
    """The arrivals of a pool of three, and one permit that is held."""

    def __init__(self, *, room: int = 1) -> None:
        self.roster = FakeRoster()
        self.gate: Gate[Backend] = Gate(3, max_waiting=9, name="test")
        self.budget = Budget(room, lambda: False)
        self.breaker = SimpleNamespace(is_open=False, refusal=lambda: TargetDown("down"))
        self.returning: dict[Backend, float] = {}
        self.released: list[Backend] = []
        self.arrivals = Arrivals(
            KEY,
            self.roster,  # type: ignore[arg-type]
            self.gate,
            budget=self.budget,
            breaker=self.breaker,  # type: ignore[arg-type]
            returning=self.returning,
            release=self.released.append,
        )
        assert self.gate.try_enter()

    def open(self, **how: Any) -> "asyncio.Task[Backend]":
        return begun(self.arrivals.open(lambda: b"shown", LONG, **how))

    def opened(self) -> Backend:
        """The log-in that was asked for first is over."""
        backend = a_backend()
        self.roster.asked.pop(0)[1].set_result(backend)
        return backend

    def give(self, backend: Backend) -> None:
        """It comes back, for whoever expects one; the permit that it had is free."""
        turn = self.arrivals.expecting.next()
        assert turn is not None
        turn.set_result(backend)


def a_backend() -> Any:
    """Nothing is asked of it here."""
    return object()


def begun(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(work)


async def refused(task: "asyncio.Task[Any]") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await task
    return caught.value


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_new_one_is_opened_with_the_callers_password(scene: Scene) -> None:
    opening = scene.open()
    await turns()
    assert [secret for secret, _ in scene.roster.asked] == [b"shown"]
    backend = scene.opened()
    assert await opening is backend
    assert (scene.gate.in_use, scene.budget.used) == (1, 1)


async def test_log_in_whose_caller_has_gone_ends_in_the_pool(scene: Scene) -> None:
    opening = scene.open()
    await turns()
    opening.cancel()
    await turns()
    backend = scene.opened()
    await turns()
    assert scene.released == [backend]


async def test_log_in_that_fails_behind_its_caller_gives_the_permit_back(scene: Scene) -> None:
    opening = scene.open()
    await turns()
    opening.cancel()
    await turns()
    assert scene.gate.in_use == 1
    scene.roster.asked[0][1].set_exception(PasswordFailed("no"))
    await turns()
    assert (scene.gate.in_use, scene.released) == (0, [])


async def test_log_in_that_fails_gives_the_permit_back(scene: Scene) -> None:
    opening = scene.open()
    await turns()
    scene.roster.asked[0][1].set_exception(PasswordFailed("no"))
    assert isinstance(await refused(opening), PasswordFailed)
    assert scene.gate.in_use == 0


async def test_none_is_opened_where_the_server_is_down_or_the_pool_at_its_end(scene: Scene) -> None:
    scene.breaker.is_open = True
    assert isinstance(await refused(scene.open()), TargetDown)
    scene.breaker.is_open = False
    assert scene.gate.try_enter()
    scene.arrivals.stop()
    assert isinstance(await refused(scene.open()), ShuttingDown)
    assert (scene.gate.in_use, scene.roster.asked) == (0, [])


async def test_one_that_comes_back_will_do_while_the_budget_has_no_room() -> None:
    scene = Scene(room=0)
    opening = scene.open()
    await turns()
    assert len(scene.arrivals.reserving) == 1
    backend = a_backend()
    scene.give(backend)
    assert await opening is backend
    assert (len(scene.arrivals.reserving), len(scene.arrivals.expecting), scene.roster.asked) == (0, 0, [])


async def test_log_in_to_prove_a_password_takes_no_other() -> None:
    scene = Scene(room=0)
    opening = scene.open(takes_returned=False)
    await turns()
    assert len(scene.arrivals.expecting) == 0
    scene.budget.resize(1)
    await turns()
    backend = scene.opened()
    assert await opening is backend


@pytest.mark.parametrize("takes_returned", [True, False])
async def test_budget_that_has_no_room_in_time_gives_the_permit_back(takes_returned: bool) -> None:
    with fake_time() as clock:
        scene = Scene(room=0)
        opening = scene.open(takes_returned=takes_returned)
        await turns()
        clock.advance(LONG + 1)
        await turns()
        assert isinstance(await refused(opening), WaitTimeout)
    assert (scene.gate.in_use, len(scene.arrivals.reserving)) == (0, 0)


@pytest.mark.parametrize("takes_returned", [True, False])
async def test_unit_that_comes_in_the_tick_of_a_cancellation_is_not_lost(takes_returned: bool) -> None:
    scene = Scene(room=0)
    opening = scene.open(takes_returned=takes_returned)
    await turns()
    scene.budget.resize(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (scene.gate.in_use, scene.budget.used) == (0, 0)


async def test_connection_that_comes_in_the_tick_of_a_cancellation_goes_on_with_its_permit() -> None:
    scene = Scene(room=0)
    opening = scene.open()
    await turns()
    backend = a_backend()
    scene.give(backend)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (scene.released, scene.gate.in_use) == ([backend], 1)


async def test_those_who_wait_for_the_budget_are_told_of_the_end() -> None:
    scene = Scene(room=0)
    opening = scene.open()
    await turns()
    scene.arrivals.stop()
    assert isinstance(await refused(opening), ShuttingDown)
    assert scene.gate.in_use == 0


async def test_scrub_that_is_under_way_is_waited_for_a_moment(scene: Scene) -> None:
    assert await scene.arrivals.returned("") is None, "none is on its way"
    scene.returning[a_backend()] = 0.0
    with fake_time() as clock:
        waiting = begun(scene.arrivals.returned(""))
        await turns()
        second = begun(scene.arrivals.returned(""))
        await turns()
        assert second.done(), "the one that is on its way is for another"
        assert second.result() is None
        clock.advance(arrivals_module._RETURNING_WAIT + 0.01)
        await turns()
        assert await waiting is None
    assert scene.gate.in_use == 1
    waiting = begun(scene.arrivals.returned(""))
    await turns()
    backend = a_backend()
    scene.give(backend)
    assert await waiting is backend


async def test_one_opened_ahead_of_need_has_the_proven_password_which_a_refusal_ends(scene: Scene) -> None:
    warming = begun(scene.arrivals.warm())
    await turns()
    assert scene.roster.asked[0][0] == b"proven"
    backend = scene.opened()
    await warming
    assert scene.released == [backend]
    warming = begun(scene.arrivals.warm())
    await turns()
    scene.roster.asked[0][1].set_exception(PasswordFailed("changed"))
    await warming
    assert scene.roster.secret == b""
