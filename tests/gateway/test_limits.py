"""What one tenant may take, without a database: the pool is played."""

import asyncio
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConcurrencyLimited, RateLimited, WaitTimeout
from sqlhttp_gateway.limits import Quota, Quotas
from sqlhttp_gateway.model import Allowance
from tests.support.clock import fake_time, turns
from tests.support.lent import FakeLease, FakeRegistry

NAME = "key:0123"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def quotas(registry: FakeRegistry, clock: Clock) -> Quotas:
    return Quotas(registry, clock)  # type: ignore[arg-type]


def lease(quota: Quota, registry: FakeRegistry) -> "asyncio.Task[Any]":
    return asyncio.create_task(quota.lease(registry.pool, lambda: b""))  # type: ignore[arg-type]


# ── rate ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_burst_is_let_in_and_the_next_is_told_when_to_come(quotas: Quotas, clock: Clock) -> None:
    allowance = Allowance(rate=0.5, burst=3)
    for _ in range(3):
        quotas.admit(NAME, allowance)
    with pytest.raises(RateLimited) as caught:
        quotas.admit(NAME, allowance)
    assert caught.value.message == (
        "key:0123 may send 0.5 requests a second here, 3 of them at once (limits.rate, limits.burst); "
        "the next one in 2.00 s"
    )
    assert caught.value.retry_after == 2
    clock.now += 1.99
    with pytest.raises(RateLimited):
        quotas.admit(NAME, allowance)
    clock.now += 0.02
    quotas.admit(NAME, allowance)


async def test_bucket_holds_no_more_than_a_burst_however_long_nobody_came(quotas: Quotas, clock: Clock) -> None:
    allowance = Allowance(rate=10.0, burst=2)
    quotas.admit(NAME, allowance)
    clock.now += 3600
    for _ in range(2):
        quotas.admit(NAME, allowance)
    with pytest.raises(RateLimited):
        quotas.admit(NAME, allowance)


async def test_without_a_burst_a_second_s_worth_may_come_at_once(quotas: Quotas) -> None:
    for _ in range(3):
        quotas.admit(NAME, Allowance(rate=2.5))
    with pytest.raises(RateLimited):
        quotas.admit(NAME, Allowance(rate=2.5))


async def test_tenants_have_buckets_of_their_own(quotas: Quotas) -> None:
    allowance = Allowance(rate=1.0)
    quotas.admit("a", allowance)
    quotas.admit("b", allowance)
    with pytest.raises(RateLimited):
        quotas.admit("a", allowance)


async def test_changed_allowance_holds_from_the_next_request_on(quotas: Quotas) -> None:
    quotas.admit(NAME, Allowance(rate=100.0))
    quotas.admit(NAME, Allowance(rate=1.0))
    with pytest.raises(RateLimited):
        quotas.admit(NAME, Allowance(rate=1.0))


async def test_no_rate_is_no_limit(quotas: Quotas, clock: Clock) -> None:
    for _ in range(1000):
        quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    assert quota.is_quiet(clock()), "there is nothing to remember of so many"


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tenants_are_forgotten_once_their_buckets_are_full_again(
    quotas: Quotas, registry: FakeRegistry, clock: Clock
) -> None:
    allowance = Allowance(rate=1.0, burst=1)
    busy = quotas.admit("busy", allowance)
    registry.idle.append(FakeLease())
    held = await busy.lease(registry.pool, lambda: b"")  # type: ignore[arg-type]
    for number in range(20_000):
        quotas.admit(f"jwt:mine:{number}", allowance)
        clock.now += 0.01
    assert len(quotas) < 1200, "those of the last 100 s at most, and up to a thousand that nobody looked at"
    assert quotas.admit("busy", allowance) is busy
    held.release()


async def test_tenant_that_is_forgotten_while_a_request_of_it_is_here_is_the_same_when_it_comes_back(
    quotas: Quotas, registry: FakeRegistry
) -> None:
    """Else there would be a second set of permits beside the one that the request is about to use."""
    in_hand = quotas.admit(NAME, Allowance(max_concurrent=1))
    for number in range(1000):
        quotas.admit(f"key:{number}", Allowance(max_concurrent=1))
    assert len(quotas) < 10, "all of them are quiet"
    assert quotas.admit(NAME, Allowance(max_concurrent=1)) is in_hand


# ── at once ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_permit_is_held_until_the_lease_is_released(quotas: Quotas, registry: FakeRegistry) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    registry.idle += [FakeLease(), FakeLease()]
    first = await lease(quota, registry)
    second = lease(quota, registry)
    await turns()
    assert not second.done(), "a connection is idle, and not for this tenant"
    first.release()
    await second
    assert registry.asked == [NAME], "whoever waits, waits by its own name"


async def test_more_than_may_wait_are_refused_at_once_with_the_numbers(quotas: Quotas, registry: FakeRegistry) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=1, max_waiting=1))
    registry.idle.append(FakeLease())
    first = await lease(quota, registry)
    second = lease(quota, registry)
    await turns()
    with pytest.raises(ConcurrencyLimited) as caught:
        await lease(quota, registry)
    assert caught.value.message == (
        "1 requests of key:0123 run, of 1 that may at once (limits.max_concurrent), "
        "and 1 of its requests wait, which is all that may (limits.max_waiting)"
    )
    assert caught.value.retry_after == 1
    registry.idle.append(FakeLease())
    first.release()
    (await second).release()


async def test_those_who_wait_for_the_pool_count_as_waiting_and_are_refused_without_a_permit_lost(
    quotas: Quotas, registry: FakeRegistry
) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=5, max_waiting=1))
    waiting = lease(quota, registry)
    await turns()
    with pytest.raises(ConcurrencyLimited):
        await lease(quota, registry)
    registry.come(FakeLease())
    (await waiting).release()
    assert quota.is_quiet(0.0)


async def test_turn_that_does_not_come_is_told_with_the_time(quotas: Quotas, registry: FakeRegistry) -> None:
    registry.pool.upstream.pool.wait_timeout = 0.01
    quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    registry.idle.append(FakeLease())
    first = await lease(quota, registry)
    with pytest.raises(ConcurrencyLimited, match=r"none of them ended within 0\.01 s \(pool\.wait_timeout\)"):
        await lease(quota, registry)
    first.release()
    assert quota.is_quiet(0.0)


async def test_pause_of_the_pool_is_no_reason_to_refuse(quotas: Quotas, registry: FakeRegistry) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    registry.idle.append(FakeLease())
    first = await lease(quota, registry)
    with fake_time() as time:
        second = lease(quota, registry)
        await turns()
        registry.pool.gate.stood_still = 5.0
        time.advance(registry.pool.upstream.pool.wait_timeout)
        await turns()
        assert registry.was_asked_to_resume.is_set()
        registry.idle.append(FakeLease())
        first.release()
        (await second).release()
    assert quota.is_quiet(0.0)


async def test_time_of_a_pause_counts_neither_before_nor_behind_the_tenants_own_permit(
    quotas: Quotas, registry: FakeRegistry
) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    registry.idle.append(FakeLease())
    first = await lease(quota, registry)
    with fake_time() as time:
        second, third = lease(quota, registry), lease(quota, registry)
        await turns()
        registry.pool.gate.stood_still = 7.0
        time.advance(60.0)
        await turns(10)
        time.advance(2.0)
        first.release()
        await turns()
        [left] = registry.timeouts
        assert left == pytest.approx(5.0)
        assert not third.done()
        time.advance(5.5)
        await turns()
        assert isinstance(third.exception(), ConcurrencyLimited)
        registry.come(FakeLease())
        (await second).release()
    assert quota.is_quiet(0.0)


@pytest.mark.parametrize("how", ["cancelled", "refused"])
async def test_whoever_gives_up_or_is_refused_by_the_pool_leaves_the_permit(
    quotas: Quotas, registry: FakeRegistry, how: str
) -> None:
    quota = quotas.admit(NAME, Allowance(max_concurrent=1))
    for _ in range(5):
        waiting = lease(quota, registry)
        await turns()
        if how == "cancelled":
            waiting.cancel()
        else:
            registry.refuse(WaitTimeout("no"))
        await asyncio.wait({waiting})
    assert quota.is_quiet(0.0)
    registry.idle.append(FakeLease())
    (await lease(quota, registry)).release()


async def test_request_for_which_a_connection_is_only_opened_does_not_count_as_waiting(
    quotas: Quotas, registry: FakeRegistry
) -> None:
    registry.pool.gate.has_room = True
    quota = quotas.admit(NAME, Allowance(max_waiting=0))
    opening = lease(quota, registry)
    await turns()
    registry.come(FakeLease())
    (await opening).release()
    registry.pool.gate.has_room = False
    with pytest.raises(ConcurrencyLimited):
        await lease(quota, registry)
