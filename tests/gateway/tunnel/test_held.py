"""The backend that a program has for now, lent by a registry that the test plays."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, TargetUnavailable, WaitTimeout
from sqlhttp_gateway.events import TunnelPinned
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.scrub import AHEAD
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.frontend import TERMINATE, encode_query
from tests.support.lending import FakeLease
from tests.support.tunnel_scene import (
    BEGUN,
    DONE,
    FATAL,
    GREETING,
    IN_TRANSACTION,
    READY,
    SELECT,
    Scene,
    lingering,
    scene,
    turns,
)


async def test_backend_is_lent_for_a_transaction_and_given_back_after_it() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(DONE + IN_TRANSACTION)
        it.stream.put(encode_query(b"COMMIT"))
        await it.until(lambda: lease.backend.written.endswith(b"COMMIT\0"))
        assert lease.ends == []
        lease.say(b"C\0\0\0\x0bCOMMIT\0" + READY)
        await it.until(lambda: lease.ends == ["take_back", "release"])
        assert len(it.registry.leases) == 2


async def test_backend_that_nobody_wants_stays_for_the_next_transaction() -> None:
    async with lingering() as (it, lease):
        assert (lease.ends, it.traffic.state, it.traffic.backend_pid) == ([], "idle", 0)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written == SELECT * 2)
        assert len(it.registry.pool.lingering) == 0
        assert not it.registry.pool.lingering.reclaim()
        lease.say(DONE + READY)
        assert len(it.registry.pool.lingering) == 1
        assert lease.ends == []


async def test_backend_that_lingers_is_given_back_when_somebody_wants_it() -> None:
    async with lingering() as (it, lease):
        assert it.registry.pool.lingering.reclaim()
        assert lease.ends == ["take_back", "release"]
        second = await it.sends(SELECT)
        assert second.backend.written == SELECT


async def test_backend_that_lingers_is_given_back_after_a_while() -> None:
    async with lingering(linger=0.01) as (it, lease):
        await it.until(lambda: lease.ends == ["take_back", "release"])
        assert len(it.registry.pool.lingering) == 0


async def test_program_that_goes_while_it_lingers_leaves_the_backend_as_usable_as_before() -> None:
    async with lingering() as (it, lease):
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert (lease.ends, len(it.registry.pool.lingering)) == (["take_back", "release"], 0)


async def test_backend_that_is_lost_while_it_lingers_is_nobodys_loss() -> None:
    async with lingering() as (it, lease):
        lease.say(FATAL)
        lease.break_off()
        assert (lease.ends, len(it.registry.pool.lingering)) == (["drop lost"], 0)
        second = await it.sends(SELECT)
        second.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))
        assert FATAL not in it.stream.all_sent


async def test_backend_that_vanishes_without_a_word_while_it_lingers_is_nobodys_loss_either() -> None:
    async with lingering() as (it, lease):
        lease.break_off()
        assert (lease.ends, len(it.registry.pool.lingering)) == (["drop lost"], 0)
        second = await it.sends(SELECT)
        second.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))


@pytest.mark.parametrize("serving", ["default-2", "default"])
async def test_program_that_waits_for_a_server_which_is_gone_goes_to_the_one_in_its_place(serving: str) -> None:
    names = ["default"]
    servers = SimpleNamespace(pool=lambda: SimpleNamespace(key=PoolKey(names[-1], "app", "ada")))
    async with scene(servers=servers) as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        names.append(serving)
        lease = it.registry.add()
        it.registry.refuse(TargetUnavailable("cannot connect"))
        if serving == "default":
            await it.until(lambda: b"cannot connect" in it.stream.all_sent)
            assert lease not in it.registry.leases
            return
        await it.until(lambda: lease.backend.written == SELECT)
        lease.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))
        assert b"cannot connect" not in it.stream.all_sent


async def test_drain_does_not_wait_for_what_lingers() -> None:
    async with lingering() as (it, lease):
        it.traffic.drain()
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["take_back", "release"])


async def test_cancel_while_it_lingers_cancels_nothing() -> None:
    async with lingering() as (it, lease):
        it.traffic.cancel()
        await turns()
        assert lease.cancels == 0


async def test_nothing_lingers_where_the_settings_want_none() -> None:
    async with scene(linger=0) as it:
        it.registry.pool.lets_linger = True
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(DONE + READY)
        assert lease.ends == ["take_back", "release"], "at once"
        assert len(it.registry.pool.lingering) == 0


async def test_no_backend_for_the_greeting_is_the_end() -> None:
    async with scene() as it:
        await it.until(lambda: it.registry.waiting)
        it.registry.refuse(WaitTimeout("all are in use"))
        assert isinstance(await it.ended(), WaitTimeout)
        assert (it.error["C"], it.error["M"]) == ("53300", "all are in use")
        assert it.stream.all_sent.startswith(GREETING)


async def test_no_backend_for_a_transaction_is_an_error_and_not_the_end() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        it.registry.refuse(WaitTimeout("all are in use"))
        await it.until(lambda: it.stream.all_sent.endswith(READY) and b"53300" in it.stream.all_sent)
        it.stream.put(TERMINATE)
        assert await it.ended() is None


async def test_program_that_leaves_while_it_waits_leaves_the_queue() -> None:
    async with scene() as it:
        await it.until(lambda: it.registry.waiting)
        it.stream.hang_up()
        assert await it.ended() is None
        assert it.registry.waiting == 0


async def test_cancel_while_it_waits_is_an_answer() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        it.traffic.cancel()
        await it.until(lambda: b"57014" in it.stream.all_sent)
        assert it.registry.waiting == 0


async def test_cancel_of_what_runs_is_passed_on_once() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.cancel()
        it.traffic.cancel()
        await it.until(lambda: lease.cancels)
        lease.say(DONE + READY)
        await turns()
        assert lease.ends == []  # the signal may still come
        lease.cancel_result.set_result(True)
        await it.until(lambda: lease.ends)
        assert (lease.cancels, lease.ends) == (1, ["take_back", "release"])


async def test_every_query_of_a_transaction_can_be_cancelled() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        lease.cancel_result.set_result(True)
        for number in (1, 2, 3):
            it.stream.put(SELECT)
            await it.until(lambda number=number: lease.backend.written.count(SELECT) == number)  # type: ignore[misc]
            it.traffic.cancel()
            await turns()
            assert lease.cancels == number
            lease.say(DONE + IN_TRANSACTION)


async def test_backend_to_which_a_signal_may_still_come_is_not_given_to_others() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.cancel()
        lease.say(DONE + READY)
        lease.cancel_result.set_result(False)
        await it.until(lambda: lease.ends)
        assert lease.ends == ["drop unclean"]


async def test_backend_is_not_given_up_before_the_signal_to_it_is_through() -> None:
    """It would meet whoever has that backend's number next."""
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.cancel()
        await it.until(lambda: lease.cancels)
        it.stream.hang_up()
        await turns()
        assert lease.ends == []
        lease.cancel_result.set_result(True)
        assert await it.ended() is None
        assert lease.ends == ["drop abandoned"]


async def test_cancel_of_nothing_does_nothing() -> None:
    async with scene() as it:
        lease = await it.greeted()
        it.traffic.cancel()
        await turns()
        assert lease.cancels == 0


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"", ["drop abandoned"]),
        (BEGUN, ["take_back in_transaction deep", "release"]),
    ],
    ids=["in a query", "in a transaction"],
)
async def test_program_that_vanishes_leaves_nothing_behind(said: bytes, end: list[str]) -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(said)
        it.stream.hang_up()
        assert await it.ended() is None
        assert lease.ends == end


async def test_backend_that_breaks_the_protocol_is_dropped() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(READY + DONE)
        error = await it.ended()
        assert error is not None
        assert error.kind == "backend"
        assert lease.ends == ["drop abandoned"]


async def test_what_the_backend_says_after_the_end_is_not_passed_on() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.abort()
        lease.say(DONE + READY)
        await it.ended()
        assert DONE not in it.stream.all_sent
        assert lease.ends == ["drop abandoned"]


async def test_room_is_waited_for_once_however_much_comes_meanwhile() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT, SELECT, SELECT)
        await it.until(lambda: len(it.traffic._inbox.pieces) == 3)
        await turns()
        assert lease.backend.drains == 1
        lease.backend.is_backed_up = False
        lease.backend.room.set()
        await it.until(lambda: lease.backend.written == SELECT * 4)


@asynccontextmanager
async def ended_while_it_waits() -> AsyncIterator[Scene]:
    """A program that waits for a backend, and does not read that its tunnel has ended."""
    async with scene() as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        it.stream.is_reading = False
        it.traffic.abort()
        await turns()
        yield it
        it.stream.is_reading = True
        await it.ended()


async def test_backend_that_comes_after_the_end_goes_back_as_it_came() -> None:
    async with ended_while_it_waits() as it:
        lease = it.registry.add()
        await it.until(lambda: lease.ends)
        assert (lease.ends, lease.backend.written) == (["release"], b"")


async def test_why_no_backend_came_after_the_end_is_not_told() -> None:
    async with ended_while_it_waits() as it:
        it.registry.refuse(WaitTimeout("all are in use"))
        await it.until(lambda: not it.registry.waiting)
        await turns()
    assert b"all are in use" not in it.stream.all_sent
    assert it.error["C"] == "57P01"


async def test_lost_backend_is_told_by_us_if_postgres_said_nothing() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
        assert it.error["C"] == "08006"


async def test_lost_backend_is_told_once_if_postgres_said_why() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(FATAL)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
        assert it.stream.all_sent.endswith(FATAL)


async def test_new_backend_is_held_back_if_what_another_said_still_waits() -> None:
    async with scene(buffer_bytes=10) as it:
        await it.greeted()
        it.stream.is_reading = False
        first = await it.sends(SELECT)
        it.stream.put(SELECT)
        first.say(b"D\0\0\0\x40" + b"x" * 60 + DONE + READY)
        await it.until(lambda: first.ends)
        second = it.registry.add()
        await turns()
        assert second.backend.written == b""
        it.stream.is_reading = True
        await it.until(lambda: second.backend.written)


async def test_backend_that_comes_while_notifications_are_not_read_is_held_back_at_once() -> None:
    async with scene(buffer_bytes=1000) as it:
        await it.greeted()
        it.stream.is_reading = False
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        for _ in range(2):
            it.traffic.hear(b"A\0\0\x03\xef\0\0\0\x01jobs\0" + b"x" * 993 + b"\0")
        lease = it.registry.add()
        await it.until(lambda: lease.backend.written)
        assert lease.backend.is_paused
        it.stream.is_reading = True
        await it.until(lambda: not lease.backend.is_paused)


async def test_program_that_vanishes_while_postgres_takes_nothing_is_noticed() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT)
        await turns()
        it.stream.hang_up()
        await it.ended()
        assert lease.ends == ["drop abandoned"]


async def test_session_mode_keeps_the_backend_and_counts_as_pinned() -> None:
    async with scene(pins=(Pin.SESSION,), max_pinned=1) as it:
        lease = it.registry.add()
        await it.until(lambda: it.stream.sent)
        await turns()
        assert lease.ends == []
        assert it.pins.pinned(it.registry.pool) == 1
        assert [event.reason for event in it.events if isinstance(event, TunnelPinned)] == [Pin.SESSION]
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert lease.ends == ["take_back deep", "release"]
        assert it.pins.pinned(it.registry.pool) == 0


async def test_statement_that_needs_a_session_pins_and_says_so() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"LOAD 'x'"))
        lease.say(b"C\0\0\0\x09LOAD\0" + READY)
        await turns()
        assert [event.reason for event in it.events if isinstance(event, TunnelPinned)] == [Pin.LOAD]
        assert lease.ends == []
        it.stream.put(TERMINATE)
        await it.ended()
        assert lease.ends == ["drop unclean"]


async def test_pin_too_many_is_refused() -> None:
    async with scene(max_pinned=0) as it:
        await it.greeted()
        it.registry.add()
        it.stream.put(encode_query(b"LOAD 'x'"))
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, error.kind) == ("53400", "pool")
        assert "tunnel.max_pinned" in it.error["M"]


# ── a backend that is not clean ──────────────────────────────────────────────────────────────────────────────────────

CLEAN = AHEAD.scrubbed + AHEAD.committed
REFUSED = b"E\0\0\0\x20SERROR\0VERROR\0C57014\0Mgone\0\0"


async def takes(it: Scene, data: bytes) -> FakeLease:
    """The program sends something, and gets a backend as its last holder left it."""
    await it.greeted()
    lease = it.registry.add(AHEAD)
    it.stream.put(data)
    await it.until(lambda: lease.backend.written)
    assert lease.backend.written == AHEAD.scrub + AHEAD.commit + data
    return lease


async def test_backend_is_known_to_be_clean_by_the_same_answer() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(CLEAN + DONE + READY)
        assert lease.ends == ["was_cleansed", "take_back", "release"]
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))


async def test_backend_that_refuses_to_be_clean_is_cleaned_and_then_used() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED)
        lease.say(READY)
        await it.until(lambda: "cleanse" in lease.ends)
        assert lease.ends == ["take_back in_transaction deep", "cleanse"]
        assert lease.backend.written.endswith(SELECT + b"S\0\0\0\4")
        lease.cleansing.set_result(True)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))
        assert REFUSED not in it.stream.all_sent


async def test_another_backend_is_waited_for_where_it_cannot_be_cleaned() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED + READY)
        lease.cleansing.set_result(False)
        await it.until(lambda: it.registry.waiting)
        assert lease.ends[-1] == "drop unclean"
        other = it.registry.add()
        await it.until(lambda: other.backend.written)
        assert other.backend.written == SELECT


async def test_program_that_leaves_while_its_backend_is_cleaned_keeps_nothing() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED + READY)
        await it.until(lambda: "cleanse" in lease.ends)
        it.stream.hang_up()
        await it.ended()
        assert lease.ends[-1] == "drop unclean"


async def test_cancel_that_meets_what_goes_ahead_is_the_answer_and_nothing_is_sent_again() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        it.traffic.cancel()
        await it.until(lambda: lease.cancels)
        lease.say(REFUSED + READY)
        assert lease.ends == ["take_back in_transaction deep", "drop unclean"]
        await it.until(lambda: b"C57014" in it.stream.all_sent and it.stream.all_sent.endswith(READY))
        lease.cancel_result.set_result(False)
        again = await it.sends(SELECT)
        again.say(DONE + READY)
        await it.until(lambda: again.ends)
        assert again.ends == ["take_back", "release"]  # the doubt was about the other


async def test_end_of_a_backend_that_has_said_why_it_cannot_be_clean_is_no_end_of_the_program() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(FATAL)
        lease.cleansing.set_result(False)
        lease.break_off()
        await it.until(lambda: it.registry.waiting)
        other = it.registry.add()
        await it.until(lambda: other.backend.written == SELECT)
        assert FATAL not in it.stream.all_sent


async def test_end_of_a_backend_without_a_word_is_told_since_the_statement_may_have_run() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
