"""A program's traffic, from what arrives to why it ends."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from sqlhttp_gateway.errors import SendTimeout
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, TERMINATE, encode_bind, encode_parse, encode_query
from tests.support.lending import FakeLease
from tests.support.tunnel_scene import (
    BEGUN,
    DONE,
    GREETING,
    READY,
    SELECT,
    Scene,
    lingering,
    scene,
    turns,
)


async def test_greeting_is_one_message_and_the_first_answer_another() -> None:
    async with scene(rest=SELECT) as it:
        lease = it.registry.add()
        await it.until(lambda: lease.backend.written == SELECT)
        lease.say(DONE + READY)
        await it.until(lambda: len(it.stream.sent) == 2)
        assert it.stream.sent[0].startswith(GREETING)
        assert it.stream.sent[0].endswith(b"<key>" + READY)
        assert it.stream.sent[1] == DONE + READY
        await it.until(lambda: lease.ends == ["take_back", "release"])


async def test_nothing_of_what_it_moved_is_held_when_it_has_ended() -> None:
    """Until the next collection of garbage, that would be, and of that there is none for as long as there is little."""
    row, text = b"D\0\0\x40\x0a\0\x01\0\0\x40\0" + bytes(0x4000), encode_query(b"SELECT '" + b"x" * 9999 + b"'")
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(row)
        await it.until(lambda: it.stream.sent[-1].endswith(row))
        it.stream.hang_up()
        it.stream.put(text)
        await it.ended()
        holders = [*gc.get_referrers(row), *gc.get_referrers(text)]
        tunnel = [vars(it.traffic), it.traffic._held, it.traffic._inbox.pieces]
        assert not any(each is part for each in holders for part in tunnel)


async def test_what_was_not_taken_apart_is_not_held_when_it_has_ended() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT)
        await it.until(lambda: it.traffic._inbox.pieces)
        it.stream.hang_up()
        await it.ended()
        assert it.traffic._inbox.pieces == []


PREPARE = encode_parse(b"s", b"SELECT $1") + SYNC
QUESTION = encode_bind(b"s", (b"7",)) + EXECUTE + SYNC
BOUND = b"2\0\0\0\x04"


@asynccontextmanager
async def prepared(**given: Any) -> AsyncIterator[tuple[Scene, FakeLease]]:
    """A program that lingers on a backend which knows its statement `s`."""
    async with lingering(**given) as (it, lease):
        it.stream.put(PREPARE)
        await it.until(lambda: lease.backend.written.endswith(SYNC))
        lease.say(b"1\0\0\0\x04" + b"t\0\0\0\x0a\0\x01\0\0\0\x19" + b"n\0\0\0\x04" + READY)
        assert len(it.registry.pool.lingering) == 1
        yield it, lease


def _has_sent(it: Scene, number: int) -> bool:
    return it.stream.all_sent.count(BOUND + DONE + READY) == number


@pytest.mark.parametrize("cut", [len(QUESTION), len(QUESTION) - 1, 3])
async def test_question_that_is_known_at_sight_goes_the_way_of_any_other(cut: int) -> None:
    async with prepared(transaction_timeout=10) as (it, lease):
        for number in (1, 2):
            lease.backend.written = b""
            it.stream.put(*filter(None, (QUESTION[:cut], QUESTION[cut:])))
            await it.until(lambda: lease.backend.written.endswith(EXECUTE + SYNC))
            assert (len(it.registry.pool.lingering), it.traffic.state) == (0, "active")
            assert it.traffic._clocks.deadline() is not None
            assert it.traffic._clocks.passed(it.traffic._loop.time() + 10) is not None
            assert (it.traffic._inbox.pieces, it.traffic._fed) == ([], 0)
            lease.say(BOUND + DONE + READY)
            assert (len(it.registry.pool.lingering), it.traffic.state) == (1, "idle")
            await it.until(partial(_has_sent, it, number))
            assert it.traffic._clocks.deadline() is None


async def test_question_that_is_known_at_sight_waits_while_postgres_takes_nothing() -> None:
    async with prepared() as (it, lease):
        before = lease.backend.written
        lease.backend.is_backed_up = True
        it.traffic.take(QUESTION)
        assert lease.backend.written == before
        lease.backend.is_backed_up = False
        it.traffic._advance()
        assert lease.backend.written.endswith(EXECUTE + SYNC, len(before))
        lease.say(BOUND + DONE + READY)


async def test_what_fails_on_the_way_of_a_question_is_raised_where_the_tunnel_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with prepared() as (it, lease):
        monkeypatch.setattr(lease.backend, "write", lambda data: 1 // 0)
        it.traffic.take(QUESTION)
        with pytest.raises(ZeroDivisionError):
            await it.ended()
        assert lease.ends
        it.running = asyncio.create_task(asyncio.sleep(0))  # which has been seen to fail


async def test_goodbye_ends_it_without_an_error() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(TERMINATE)
        assert await it.ended() is None


async def test_goodbye_before_the_greeting_needs_no_backend() -> None:
    async with scene() as it:
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert it.registry.leases == []
        assert it.registry.waiting == 0


async def test_what_breaks_the_protocol_is_told_and_ends_it() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(b"?\0\0\0\x04")
        error = await it.ended()
        assert error is not None
        assert (error.kind, it.error["C"]) == ("client", "08P01")


async def test_program_that_does_not_read_holds_the_backend_back_and_is_asked_for_no_more() -> None:
    async with scene(buffer_bytes=100) as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.stream.is_reading = False
        lease.say(b"D\0\0\x10\0" + b"x" * (0x1000 - 4))
        assert lease.backend.is_paused
        it.stream.put(SELECT, SELECT)
        await turns()
        assert lease.backend.written == SELECT
        it.stream.is_reading = True
        await it.until(lambda: not lease.backend.is_paused)
        await it.until(lambda: lease.backend.written == SELECT * 3)


async def test_program_that_reads_nothing_for_too_long_is_cut_off() -> None:
    async with scene(send_timeout=0.01) as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        it.stream.is_reading = False
        lease.say(BEGUN)
        assert isinstance(await it.ended(), SendTimeout)
        assert it.stream.aborted
        assert lease.ends == ["take_back in_transaction deep", "release"]


async def test_postgres_that_takes_nothing_holds_the_program_back() -> None:
    async with scene(buffer_bytes=100) as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT, SELECT, *[b"Q\0\0\0\x40" + b"x" * 60] * 20)
        await turns()
        assert lease.backend.written == SELECT
        assert it.stream._arriving.qsize() >= 15  # not even fetched
        lease.backend.is_backed_up = False
        lease.backend.room.set()
        await it.until(lambda: lease.backend.written.startswith(SELECT * 3))


async def test_time_limit_ends_it() -> None:
    async with scene(idle_in_transaction_timeout=0.01) as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, it.error["S"]) == ("25P03", "FATAL")
        assert lease.ends == ["take_back in_transaction deep", "release"]


async def test_draining_waits_for_the_end_of_the_transaction() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.traffic.drain()
        await turns()
        assert it.running is not None
        assert not it.running.done()
        it.stream.put(encode_query(b"COMMIT"))
        await it.until(lambda: lease.backend.written.endswith(b"COMMIT\0"))
        lease.say(b"C\0\0\0\x0bCOMMIT\0" + READY)
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["take_back", "release"])


async def test_abort_waits_for_nothing() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.abort()
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["drop abandoned"])


async def test_what_the_pipeline_keeps_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs before the session's parameters are set; meanwhile a program may send what it likes."""
    monkeypatch.setattr("sqlhttp_gateway.tunnel.traffic.MAX_MESSAGE", 1000)
    async with scene(buffer_bytes=1000, parameters={"search_path": "mine"}) as it:
        lease = await it.sends(*[SELECT] * 1000)
        await turns(2000)
        assert it.stream._arriving.qsize() > 800
        assert b"SELECT 1" not in lease.backend.written
        it.traffic.abort()
