"""What waits to be sent to a program."""

import asyncio

from sqlhttp_gateway.tunnel.outbox import MAX_PIECE, Outbox
from tests.support.clock import fake_time, turns


class FakeFlow:
    """A transport that has room for so many pieces."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> bool:
        assert self.room > 0, "there was no room, and it was not waited for"
        self.room -= 1
        self.sent.append(data)
        return self.room > 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def stop(self) -> None: ...


def outbox(flow: FakeFlow, *, limit: int = 100, send_timeout: float = 10.0, told: list[str] | None = None) -> Outbox:
    heard = told if told is not None else []
    return Outbox(
        flow,
        limit=limit,
        send_timeout=send_timeout,
        on_full=lambda: heard.append("full"),
        on_room=lambda: heard.append("room"),
        on_stuck=lambda: heard.append("stuck"),
    )


def make_room(box: Outbox, flow: FakeFlow, pieces: int) -> None:
    flow.room = pieces
    box.go_on()


async def test_what_is_put_is_sent_at_once_where_there_is_room() -> None:
    flow = FakeFlow()
    box = outbox(flow)
    box.put(b"a")
    box.put(b"")
    box.put(b"b")
    assert (flow.sent, box.size) == ([b"a", b"b"], 0)


async def test_what_had_to_wait_travels_together() -> None:
    flow = FakeFlow(1)
    box = outbox(flow)
    for piece in (b"a", b"b", b"c"):
        box.put(piece)
    assert (flow.sent, box.size) == ([b"a"], 3)
    make_room(box, flow, 5)
    assert (flow.sent, box.size) == ([b"a", b"bc"], 0)


async def test_cut_keeps_apart_what_was_put_before_and_after() -> None:
    flow = FakeFlow(1)
    box = outbox(flow)
    box.put(b"first")
    for piece in (b"greeting", b"answer"):
        box.put(piece)
        box.cut()
    box.put(b"next")
    make_room(box, flow, 5)
    assert flow.sent == [b"first", b"greeting", b"answer", b"next"]


async def test_long_pieces_are_sent_in_parts_so_that_a_slow_way_is_no_dead_one() -> None:
    flow = FakeFlow(1)
    box = outbox(flow, limit=10 * MAX_PIECE)
    data = bytes(range(256)) * (MAX_PIECE // 100)
    box.put(data)
    while box.size:
        assert sum(map(len, flow.sent)) + box.size == len(data) + len(flow.sent[-1])
        make_room(box, flow, 1)
    assert b"".join(flow.sent) == data
    assert max(map(len, flow.sent)) == MAX_PIECE


async def test_whoever_fills_it_is_held_back_above_the_limit_and_let_go_below_half_of_it() -> None:
    told: list[str] = []
    flow = FakeFlow(1)
    box = outbox(flow, told=told)
    box.put(b"x" * 100)
    assert (told, box.is_full) == ([], False)
    box.put(b"x")
    box.put(b"x")
    assert (told, box.is_full) == (["full"], True)
    make_room(box, flow, 1)
    assert (told, box.is_full, box.size) == (["full", "room"], False, 2)


async def test_program_that_takes_nothing_for_too_long_is_told_of() -> None:
    told: list[str] = []
    with fake_time() as clock:
        box = outbox(FakeFlow(1), send_timeout=10, told=told)
        box.put(b"x")
        clock.advance(9)
        await turns()
        assert told == []
        clock.advance(2)
        await turns()
        assert told == ["stuck"]


async def test_program_that_takes_a_piece_in_time_may_go_on() -> None:
    told: list[str] = []
    flow = FakeFlow(1)
    with fake_time() as clock:
        box = outbox(flow, send_timeout=10, told=told)
        box.put(b"x")
        make_room(box, flow, 1)
        clock.advance(30)
        await turns()
        assert told == []


async def test_it_is_empty_only_when_everything_was_handed_over() -> None:
    flow = FakeFlow(1)
    box = outbox(flow)
    await box.wait_empty()
    box.put(b"x")
    box.put(b"y")
    waiting = asyncio.create_task(box.wait_empty())
    await turns()
    make_room(box, flow, 1)
    await turns()
    assert not waiting.done()
    make_room(box, flow, 1)
    await waiting


async def test_after_its_end_nothing_waits_and_nobody_is_told() -> None:
    told: list[str] = []
    flow = FakeFlow(1)
    with fake_time() as clock:
        box = outbox(flow, send_timeout=10, told=told)
        box.put(b"x")
        box.put(b"y")
        box.close()
        clock.advance(30)
        await turns()
        assert (told, box.size, flow.sent) == ([], 0, [b"x"])
