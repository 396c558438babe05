"""What waits to be sent to a program."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sqlhttp_gateway.tunnel.outbox import MAX_PIECE, Outbox
from sqlhttp_gateway.tunnel.stream import StreamClosed
from tests.support.streams import FakeStream


def outbox(
    stream: FakeStream, *, limit: int = 100, send_timeout: float = 10.0, told: list[str] | None = None
) -> Outbox:
    heard = told if told is not None else []
    return Outbox(
        stream,
        limit=limit,
        send_timeout=send_timeout,
        on_full=lambda: heard.append("full"),
        on_room=lambda: heard.append("room"),
    )


@asynccontextmanager
async def running(box: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(box.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_put_in_one_turn_travels_together() -> None:
    stream = FakeStream()
    box = outbox(stream)
    async with running(box):
        box.put(b"a")
        box.put(b"")
        box.put(b"b")
        await box.wait_empty()
        box.put(b"c")
        await box.wait_empty()
    assert stream.sent == [b"ab", b"c"]


async def test_cut_keeps_apart_what_was_put_before_and_after() -> None:
    stream = FakeStream()
    box = outbox(stream)
    box.put(b"greeting")
    box.cut()
    box.put(b"answer")
    box.cut()
    async with running(box):
        await box.wait_empty()
    assert stream.sent == [b"greeting", b"answer"]


async def test_long_pieces_are_sent_in_parts_so_that_a_slow_way_is_no_dead_one() -> None:
    stream = FakeStream()
    box = outbox(stream, limit=10 * MAX_PIECE)
    data = bytes(range(256)) * (MAX_PIECE // 100)
    box.put(data)
    async with running(box):
        await box.wait_empty()
    assert stream.all_sent == data
    assert max(map(len, stream.sent)) == MAX_PIECE


async def test_whoever_fills_it_is_held_back_above_the_limit_and_let_go_below_half_of_it() -> None:
    told: list[str] = []
    stream = FakeStream()
    box = outbox(stream, told=told)
    box.put(b"x" * 100)
    assert (told, box.is_full) == ([], False)
    box.put(b"x")
    box.put(b"x")
    assert (told, box.is_full) == (["full"], True)
    async with running(box):
        await box.wait_empty()
    assert (told, box.is_full) == (["full", "room"], False)


async def test_program_that_takes_nothing_for_too_long_is_given_up() -> None:
    stream = FakeStream()
    stream.is_reading = False
    box = outbox(stream, send_timeout=0.01)
    box.put(b"x")
    with pytest.raises(TimeoutError):
        await box.run()


async def test_program_that_has_gone_ends_it() -> None:
    stream = FakeStream()
    await stream.close(1000, "")
    box = outbox(stream)
    box.put(b"x")
    with pytest.raises(StreamClosed):
        await box.run()


async def test_it_is_empty_only_when_everything_was_handed_over() -> None:
    stream = FakeStream()
    stream.is_reading = False
    box = outbox(stream)
    await box.wait_empty()
    box.put(b"x")
    waiting = asyncio.create_task(box.wait_empty())
    async with running(box):
        await turns()
        assert not waiting.done()
        stream.is_reading = True
        await waiting


async def turns() -> None:
    """Let the loop turn a few times."""
    for _ in range(5):
        await asyncio.sleep(0)
