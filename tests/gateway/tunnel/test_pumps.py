"""A flow over a stream that has to be waited for."""

import asyncio
from collections.abc import Callable

from sqlhttp_gateway.tunnel.pumps import Pumps
from sqlhttp_gateway.tunnel.stream import StreamMisused
from tests.support.streams import FakeStream


class Told:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.left: list[StreamMisused | None] = []
        self.rooms = 0

    def take(self, data: bytes) -> None:
        self.taken.append(data)

    def leave(self, error: StreamMisused | None) -> None:
        self.left.append(error)

    def go_on(self) -> None:
        self.rooms += 1


def pumps(stream: FakeStream) -> tuple[Pumps, Told]:
    told = Told()
    return Pumps(told, receive=stream.receive, send=stream.send), told


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nobody tells the test
            await asyncio.sleep(0)


async def test_what_comes_is_pushed_and_its_end_is_told_once() -> None:
    stream = FakeStream()
    flow, told = pumps(stream)
    stream.put(b"a", b"", b"b")
    stream.hang_up()
    await until(lambda: told.left)
    assert (told.taken, told.left) == ([b"a", b"b"], [None])
    await flow.stop()


async def test_what_is_no_part_of_a_stream_is_told_as_such() -> None:
    stream = FakeStream()
    flow, told = pumps(stream)
    stream.misuse()
    await until(lambda: told.left)
    assert isinstance(told.left[0], StreamMisused)
    flow.write(b"why")
    await until(lambda: stream.sent == [b"why"])
    await flow.stop()


async def test_nothing_is_fetched_while_reading_is_paused() -> None:
    stream = FakeStream()
    flow, told = pumps(stream)
    stream.put(b"a")
    await until(lambda: told.taken)
    flow.pause_reading()
    stream.put(b"b", b"c", b"d")
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(told.taken) <= 2  # one was being waited for
    flow.resume_reading()
    await until(lambda: told.taken == [b"a", b"b", b"c", b"d"])
    await flow.stop()


async def test_room_is_told_of_when_a_piece_was_sent() -> None:
    stream = FakeStream()
    stream.is_reading = False
    flow, told = pumps(stream)
    assert not flow.write(b"a")
    for _ in range(20):
        await asyncio.sleep(0)
    assert (stream.sent, told.rooms) == ([], 0)
    stream.is_reading = True
    await until(lambda: told.rooms)
    assert stream.sent == [b"a"]
    await flow.stop()


async def test_program_that_has_gone_is_noticed_when_it_is_sent_to() -> None:
    stream = FakeStream()
    await stream.close(1000, "")
    flow, told = pumps(stream)
    flow.write(b"a")
    await until(lambda: told.left)
    flow.write(b"b")  # to nobody
    assert told.left == [None]
    await flow.stop()


async def test_after_the_end_nothing_is_told() -> None:
    stream = FakeStream()
    flow, told = pumps(stream)
    await flow.stop()
    stream.put(b"a")
    stream.hang_up()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (told.taken, told.left) == ([], [])
