"""Permits and the queue for them, to the tick."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.errors import QueueFull, ShuttingDown, WaitTimeout
from sqlhttp_gateway.pools.gate import Gate
from tests.support.clock import fake_time, turns

LONG = 60.0  # seconds; never waited for
SHORT = 0.01


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """One permit. At the end of each test it must be back, and nobody may wait."""
    gate = Gate(1, max_waiting=3, name="database d, role r")
    yield gate
    assert gate.in_use == 0
    assert gate.waiting == 0
    assert gate.try_enter()


async def waiting(gate: Gate, timeout: float = LONG, *, tenant: str = "") -> "asyncio.Task[None]":
    """A task that stands in the queue."""
    before = gate.waiting
    task = asyncio.create_task(gate.enter(timeout, tenant))
    await asyncio.sleep(0)
    assert gate.waiting == before + 1
    return task


async def test_permits_are_counted(gate: Gate) -> None:
    assert (gate.in_use, gate.waiting, gate.waiting_since) == (0, 0, None)
    await gate.enter(LONG)
    assert gate.in_use == 1
    assert not gate.try_enter()
    gate.leave()


async def test_free_permit_is_taken_without_a_turn_of_the_loop(gate: Gate) -> None:
    with pytest.raises(StopIteration):
        gate.enter(LONG).send(None)
    gate.leave()


async def test_waiters_are_served_first_in_first_out() -> None:
    gate = Gate(2, max_waiting=100, name="n")
    served: list[int] = []

    async def visit(number: int) -> None:
        await gate.enter(LONG)
        served.append(number)
        await asyncio.sleep(0)
        gate.leave()

    await asyncio.gather(*(visit(number) for number in range(50)))
    assert served == list(range(50))
    assert gate.in_use == 0


async def test_permit_that_is_given_back_is_not_free_for_newcomers_while_others_wait(gate: Gate) -> None:
    await gate.enter(LONG)
    waiter = await waiting(gate)
    gate.leave()
    # The waiter has not run yet: whoever comes in this tick must not overtake it.
    assert not gate.try_enter()
    newcomer = asyncio.create_task(gate.enter(LONG))
    await waiter
    assert not newcomer.done()
    gate.leave()
    await newcomer
    gate.leave()


async def test_full_queue_refuses_at_once_and_says_how_full(gate: Gate) -> None:
    await gate.enter(LONG)
    waiters = [await waiting(gate) for _ in range(3)]
    with pytest.raises(QueueFull) as caught:
        gate.enter(LONG).send(None)  # without even one turn of the loop
    assert "database d, role r" in caught.value.message
    assert "3 requests wait for 1 connections (pool.max_waiting is 3)" in caught.value.message
    assert caught.value.retry_after == 1
    for waiter in waiters:
        gate.leave()
        await waiter
    gate.leave()


async def test_queue_of_no_places_refuses_whoever_would_wait() -> None:
    gate = Gate(1, max_waiting=0, name="n")
    await gate.enter(LONG)
    with pytest.raises(QueueFull):
        await gate.enter(LONG)


async def test_expired_wait_says_how_long_and_among_how_many(gate: Gate) -> None:
    await gate.enter(LONG)
    first, second, third = await waiting(gate), await waiting(gate, SHORT), await waiting(gate)
    with pytest.raises(WaitTimeout) as caught:
        await second
    assert "0.01 s" in caught.value.message
    assert "all 1 are in use, 1 requests were ahead and 1 behind" in caught.value.message
    assert caught.value.retry_after == 1
    for waiter in (first, third):
        gate.leave()
        await waiter
    gate.leave()


async def test_expired_waiter_frees_its_place_in_the_queue(gate: Gate) -> None:
    await gate.enter(LONG)
    tasks = [await waiting(gate, SHORT) for _ in range(3)]
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [WaitTimeout] * 3
    assert gate.waiting == 0
    gate.leave()


async def test_waiting_since_is_the_arrival_of_the_first(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    await gate.enter(LONG)
    before = loop.time()
    first = await waiting(gate)
    between = loop.time()
    second = await waiting(gate)
    assert gate.waiting_since is not None
    assert before <= gate.waiting_since <= between
    gate.leave()
    await first
    assert gate.waiting_since >= between
    gate.leave()
    await second
    assert gate.waiting_since is None
    gate.leave()


# ── tenants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tenants_are_served_in_turn() -> None:
    gate = Gate(1, max_waiting=100, name="n")
    await gate.enter(LONG)
    served: list[str] = []

    async def visit(tenant: str) -> None:
        await gate.enter(LONG, tenant)
        served.append(tenant)
        gate.leave()

    visits = [asyncio.create_task(visit(tenant)) for tenant in "aaaaab"]
    await asyncio.sleep(0)
    assert gate.waiting == len(visits)
    gate.leave()
    await asyncio.gather(*visits)
    assert served == list("abaaaa")


async def test_crowd_that_fills_the_line_gives_way_to_another_tenant(gate: Gate) -> None:
    await gate.enter(LONG)
    crowd = [await waiting(gate, tenant="a") for _ in range(3)]
    other = asyncio.create_task(gate.enter(LONG, "b"))
    with pytest.raises(QueueFull) as caught:
        await crowd[2]
    assert "3 requests wait for 1 connections" in caught.value.message
    with pytest.raises(QueueFull) as caught:
        gate.enter(LONG, "a").send(None)
    assert "3 requests wait (2 of them this tenant's) for 1 connections" in caught.value.message
    with pytest.raises(QueueFull):
        gate.enter(LONG, "b").send(None)  # it would have as many as the other
    for task in (crowd[0], other, crowd[1]):
        gate.leave()
        await task
    gate.leave()


async def test_expired_wait_counts_its_own_tenant_apart(gate: Gate) -> None:
    await gate.enter(LONG)
    others = [await waiting(gate, tenant="a") for _ in range(2)]
    with pytest.raises(WaitTimeout) as caught:
        await gate.enter(SHORT, "b")
    assert "0 requests were ahead and 0 behind; 2 of other tenants wait, too" in caught.value.message
    for task in others:
        gate.leave()
        await task
    gate.leave()


# ── a pause ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_paused_gate_serves_nobody_and_resumed_it_serves_in_order(gate: Gate) -> None:
    gate.pause()
    assert gate.is_paused
    assert not gate.try_enter()
    first = await waiting(gate)
    second = await waiting(gate)
    gate.resume()
    assert not gate.is_paused
    await first
    assert not second.done()
    gate.leave()
    await second
    gate.leave()


async def test_permit_that_comes_back_in_a_pause_is_for_nobody(gate: Gate) -> None:
    await gate.enter(LONG)
    waiter = await waiting(gate)
    gate.pause()
    gate.leave()
    assert (gate.in_use, gate.waiting) == (0, 1)
    gate.resume()
    await waiter
    gate.leave()


async def test_time_stands_still_for_those_who_wait_through_a_pause() -> None:
    with fake_time() as clock:
        gate = Gate(1, max_waiting=3, name="n", pause_limit=60.0)
        await gate.enter(LONG)
        before = await waiting(gate, 5.0)
        clock.advance(3.0)
        gate.pause()
        clock.advance(40.0)
        during = await waiting(gate, 5.0)
        clock.advance(10.0)
        await turns()
        assert not before.done()
        assert gate.stood_still == 50.0
        gate.resume()
        assert gate.waiting_since == clock.now - 3.0
        clock.advance(1.9)
        await turns()
        assert not before.done()
        clock.advance(0.2)
        with pytest.raises(WaitTimeout):
            await before
        clock.advance(2.8)
        await turns()
        assert not during.done()
        clock.advance(0.2)
        with pytest.raises(WaitTimeout):
            await during


async def test_pause_that_nobody_ends_is_told_after_its_limit() -> None:
    with fake_time() as clock:
        gate = Gate(1, max_waiting=3, name="database d, role r", pause_limit=60.0)
        await gate.enter(LONG)
        before = await waiting(gate, 5.0)
        gate.pause()
        clock.advance(30.0)
        during = await waiting(gate, 5.0)
        clock.advance(30.1)
        with pytest.raises(WaitTimeout) as caught:
            await before
        assert "database d, role r is paused, and was not resumed within 60 s (pool.pause_limit)" in str(caught.value)
        assert not during.done()
        clock.advance(30.0)
        with pytest.raises(WaitTimeout):
            await during


async def test_what_is_kept_behind_a_permit_can_be_closed_in_a_pause_and_not_while_somebody_waits(gate: Gate) -> None:
    assert gate.try_keep()
    assert not gate.try_keep()
    waiter = await waiting(gate)
    gate.leave()
    assert not gate.try_keep()
    await waiter
    other = await waiting(gate)
    gate.pause()
    gate.leave()
    assert gate.try_keep()
    gate.leave()
    gate.resume()
    await other
    gate.leave()


async def test_gate_that_was_stopped_in_a_pause_stays_stopped() -> None:
    gate = Gate(1, max_waiting=3, name="n")
    gate.pause()
    gate.stop()
    gate.resume()
    assert not gate.try_enter()
    assert not gate.try_keep()


# ── another number of permits ────────────────────────────────────────────────────────────────────────────────────────


async def test_more_permits_go_to_those_who_wait(gate: Gate) -> None:
    await gate.enter(LONG)
    tasks = [await waiting(gate) for _ in range(3)]
    gate.resize(3, max_waiting=3)
    await asyncio.gather(*tasks[:2])
    assert (gate.in_use, gate.waiting) == (3, 1)
    for _ in range(3):
        gate.leave()
    await tasks[2]
    gate.leave()


async def test_another_limit_of_pauses_holds_for_who_comes_after_it() -> None:
    with fake_time() as clock:
        gate = Gate(1, max_waiting=3, name="n", pause_limit=60.0)
        gate.pause()
        gate.resize(1, max_waiting=3, pause_limit=5.0)
        waiter = await waiting(gate)
        clock.advance(5.1)
        with pytest.raises(WaitTimeout, match="was not resumed within 5 s"):
            await waiter


async def test_fewer_permits_hold_as_those_in_use_come_back() -> None:
    gate = Gate(4, max_waiting=3, name="n")
    for _ in range(4):
        await gate.enter(LONG)
    waiter = await waiting(gate)
    gate.resize(2, max_waiting=1)
    assert gate.is_over
    for _ in range(2):
        gate.leave()
    assert not gate.is_over
    assert (gate.in_use, waiter.done()) == (2, False)
    with pytest.raises(QueueFull):
        await gate.enter(LONG)
    gate.leave()
    await waiter
    assert gate.in_use == 2


# ── giving up ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancelled_waiter_costs_nothing(gate: Gate) -> None:
    await gate.enter(LONG)
    first, second = await waiting(gate), await waiting(gate)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert gate.waiting == 1
    gate.leave()
    await second
    gate.leave()


async def test_permit_that_arrives_in_the_tick_of_the_cancellation_is_passed_on(gate: Gate) -> None:
    await gate.enter(LONG)
    first, second = await waiting(gate), await waiting(gate)
    gate.leave()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await second
    gate.leave()


async def test_permit_is_not_given_to_one_cancelled_in_the_same_tick(gate: Gate) -> None:
    await gate.enter(LONG)
    first, second = await waiting(gate), await waiting(gate)
    first.cancel()
    gate.leave()
    await second
    assert first.cancelled()
    gate.leave()


async def test_last_in_the_queue_that_gives_up_with_a_permit_leaves_it_free(gate: Gate) -> None:
    await gate.enter(LONG)
    only = await waiting(gate)
    gate.leave()
    only.cancel()
    await asyncio.wait([only])
    assert gate.in_use == 0


async def test_deadline_in_the_tick_of_the_cancellation_is_no_lost_exception(gate: Gate) -> None:
    await gate.enter(LONG)
    waiter = await waiting(gate)
    [turn] = gate._line
    gate._expire(turn)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    gate.leave()


async def test_deadline_after_the_permit_has_arrived_changes_nothing(gate: Gate) -> None:
    await gate.enter(LONG)
    waiter = await waiting(gate)
    [turn] = gate._line
    gate.leave()
    gate._expire(turn)
    await waiter
    assert (gate.in_use, gate.waiting) == (1, 0)
    gate.leave()
    assert gate.in_use == 0


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stop_refuses_those_who_wait_and_those_who_come() -> None:
    gate = Gate(1, max_waiting=9, name="n")
    await gate.enter(LONG)
    waiters = [await waiting(gate) for _ in range(3)]
    gate.stop()
    assert not gate.try_enter()
    with pytest.raises(ShuttingDown) as caught:
        await gate.enter(LONG)
    assert caught.value.retry_after == 1
    assert [type(error) for error in await asyncio.gather(*waiters, return_exceptions=True)] == [ShuttingDown] * 3
    assert gate.in_use == 1, "a permit that is held stays valid"
    gate.leave()
    assert gate.in_use == 0
    assert not gate.try_enter()


async def test_refusal_does_not_stop_the_gate(gate: Gate) -> None:
    await gate.enter(LONG)
    waiter = await waiting(gate)
    gate.refuse_waiters(WaitTimeout("no"))
    with pytest.raises(WaitTimeout):
        await waiter
    waiter = await waiting(gate)
    gate.leave()
    await waiter
    gate.leave()


async def test_no_permit_is_lost_or_doubled_whoever_gives_up_when() -> None:
    """Thousands of visitors, cancelled and expired at random; never more inside than permits, and all are back."""
    chance = random.Random(4)
    gate = Gate(3, max_waiting=50, name="n")
    inside = most = 0

    async def visit() -> None:
        nonlocal inside, most
        await gate.enter(chance.choice((0.0, 0.001, LONG)))
        inside += 1
        most = max(most, inside)
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            gate.leave()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(4000):
        tasks.append(asyncio.create_task(visit()))
        if chance.random() < 0.4:
            chance.choice(tasks[-10:]).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert gate.in_use == 0
    assert gate.waiting == 0
    seen = {type(outcome) for outcome in outcomes}
    assert {type(None), asyncio.CancelledError} <= seen
    assert seen <= {type(None), asyncio.CancelledError, QueueFull, WaitTimeout}


async def test_no_permit_is_lost_or_doubled_through_pauses_and_resizes_among_tenants() -> None:
    chance = random.Random(5)
    gate = Gate(3, max_waiting=60, name="n", pause_limit=60.0)
    inside = 0

    async def visit(tenant: str) -> None:
        nonlocal inside
        await gate.enter(chance.choice((0.0, 0.002, LONG)), tenant)
        inside += 1
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            gate.leave()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(4000):
        tasks.append(asyncio.create_task(visit(chance.choice("aaaaabbc"))))
        if chance.random() < 0.3:
            chance.choice(tasks[-10:]).cancel()
        if chance.random() < 0.05:
            chance.choice((gate.pause, gate.resume, gate.resume))()
        if chance.random() < 0.05:
            gate.resize(chance.randrange(1, 6), max_waiting=60)
        if chance.random() < 0.3:
            await asyncio.sleep(0)
            assert gate.in_use >= inside
    gate.resume()
    gate.resize(3, max_waiting=60)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.in_use, gate.waiting, gate._free) == (0, 0, 3)
    seen = {type(outcome) for outcome in outcomes}
    assert {type(None), asyncio.CancelledError, QueueFull} <= seen
    assert seen <= {type(None), asyncio.CancelledError, QueueFull, WaitTimeout}


# ── standing in line without waiting ─────────────────────────────────────────────────────────────────────────────────


class Told:
    """A turn that keeps what it is told."""

    def __init__(self) -> None:
        self.outcome: object = ()

    def done(self) -> bool:
        return self.outcome != ()

    def set_result(self, result: object, /) -> None:
        assert not self.done()
        self.outcome = result

    def set_exception(self, exception: BaseException, /) -> None:
        assert not self.done()
        self.outcome = exception


async def test_whoever_stands_without_waiting_is_told_at_once_where_there_is_room(gate: Gate) -> None:
    turn = Told()
    gate.stand(turn, LONG)
    assert turn.outcome is None
    assert gate.in_use == 1
    gate.leave()


async def test_those_who_stand_and_those_who_wait_share_one_line(gate: Gate) -> None:
    await gate.enter(LONG)
    first, third = Told(), Told()
    gate.stand(first, LONG)
    second = await waiting(gate)
    gate.stand(third, LONG)
    gate.leave()
    assert (first.done(), second.done(), third.done()) == (True, False, False)
    gate.leave()
    await second
    assert not third.done()
    gate.leave()
    assert third.outcome is None
    gate.leave()


async def test_whoever_gives_up_standing_is_told_nothing_more() -> None:
    with fake_time() as clock:
        gate = Gate(1, max_waiting=3, name="n")
        await gate.enter(LONG)
        turn = Told()
        gate.stand(turn, LONG)
        gate.give_up(turn)
        clock.advance(LONG + 1)
        await turns()
        gate.leave()
        assert not turn.done()
        assert gate.in_use == 0


async def test_one_who_stands_is_told_when_its_time_is_over() -> None:
    with fake_time() as clock:
        gate = Gate(1, max_waiting=3, name="n")
        await gate.enter(LONG)
        turn = Told()
        assert gate.stand(turn, LONG) == asyncio.get_running_loop().time() + LONG
        clock.advance(LONG + 1)
        await turns()
        assert isinstance(turn.outcome, WaitTimeout)
        assert gate.waiting == 0


async def test_one_who_was_told_has_no_deadline_left() -> None:
    with fake_time() as clock:
        gate: Gate[None] = Gate(1, max_waiting=3, name="n")
        await gate.enter(LONG)
        told, waiting = Told(), Told()
        gate.stand(told, LONG)
        gate.stand(waiting, 3 * LONG)
        gate.leave()
        clock.advance(LONG + 1)
        await turns()
        assert told.outcome is None
        assert not waiting.done()
        clock.advance(2 * LONG)
        await turns()
        assert isinstance(waiting.outcome, WaitTimeout), "although the first look was for another's deadline"


async def test_earlier_deadline_of_a_latecomer_is_kept() -> None:
    with fake_time() as clock:
        gate: Gate[None] = Gate(1, max_waiting=3, name="n")
        await gate.enter(LONG)
        patient, hasty = Told(), Told()
        gate.stand(patient, 2 * LONG)
        gate.stand(hasty, LONG)
        clock.advance(LONG + 1)
        await turns()
        assert isinstance(hasty.outcome, WaitTimeout)
        assert not patient.done()


async def test_what_is_given_along_goes_to_the_next_in_line() -> None:
    gate: Gate[str] = Gate(1, max_waiting=3, name="n")
    await gate.enter(LONG)
    waiter = await waiting(gate)
    turn = gate.pass_on()
    assert turn is not None
    turn.set_result("a gift")
    assert await waiter == "a gift"
    assert gate.in_use == 1
    assert gate.pass_on() is None
    assert gate.in_use == 0


async def test_what_is_given_along_to_one_cancelled_in_that_tick_is_taken_back() -> None:
    back: list[str] = []
    gate: Gate[str] = Gate(1, max_waiting=3, name="n", take_back=back.append)
    await gate.enter(LONG)
    waiter = await waiting(gate)
    turn = gate.pass_on()
    assert turn is not None
    turn.set_result("a gift")
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert back == ["a gift"]
    assert gate.in_use == 1, "the permit is given back by who took the gift back"


async def test_nothing_is_passed_on_in_a_pause_or_beyond_the_bound() -> None:
    gate: Gate[None] = Gate(2, max_waiting=3, name="n")
    await gate.enter(LONG)
    await gate.enter(LONG)
    turn = Told()
    gate.stand(turn, LONG)
    gate.resize(1, max_waiting=3)
    assert gate.pass_on() is None
    gate.pause()
    assert gate.pass_on() is None
    assert not turn.done()
    gate.resume()
    assert turn.outcome is None


async def test_one_who_cannot_stand_hears_so_by_the_exception_alone(gate: Gate) -> None:
    await gate.enter(LONG)
    gate.resize(1, max_waiting=0)
    turn = Told()
    with pytest.raises(QueueFull):
        gate.stand(turn, LONG)
    assert not turn.done()
    gate.leave()


async def test_permit_is_passed_on_to_one_of_a_kind_only_if_it_is_the_next() -> None:
    class Kind(asyncio.Future[None]):
        pass

    gate = Gate(1, max_waiting=3, name="n")
    assert gate.try_enter()
    assert gate.pass_on_to(Kind) is None
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gate.stand(other, LONG)
    fitting = Kind()
    gate.stand(fitting, LONG)
    assert (gate.pass_on_to(Kind), gate.waiting) == (None, 2)
    gate.give_up(other)
    gate.pause()
    assert gate.pass_on_to(Kind) is None
    gate.resume()
    assert gate.pass_on_to(Kind) is fitting
    assert (gate.in_use, gate.waiting) == (1, 0)
