"""Requests that are ended while they run: too slow, or with nobody there any more. Nothing is kept of any."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from sqlhttp_gateway.endpoints import watch as watch_module
from sqlhttp_gateway.endpoints.watch import Verdict, Watch
from tests.support.clock import fake_time, turns

GONE: Message = {"type": "http.disconnect"}
LONG = 60.0  # seconds; never waited for
DEADLINE = 10.0  # seconds


class Program:
    """The other side: `leave` makes `receive` say that it has left."""

    def __init__(self) -> None:
        self.asked = 0
        self._left = asyncio.Event()

    async def receive(self) -> Message:
        self.asked += 1
        await self._left.wait()
        return GONE

    def leave(self) -> None:
        self._left.set()


async def watched(
    watch: Watch, program: Program | None, work: Callable[[], Awaitable[object]]
) -> tuple[object, Verdict | None]:
    """What `work` returned, None if it was ended, and why. Without a program the body has not arrived yet."""
    task = watch.begin()
    try:
        if program is not None:
            watch.listen_later(task, program.receive)
        return await work(), watch.verdict(task)
    except asyncio.CancelledError:
        verdict = watch.verdict(task)
        if verdict is None:
            raise
        return None, verdict
    finally:
        watch.end(task)


def kept(watch: Watch) -> list[int]:
    """How much it holds of requests."""
    return [len(watch._deadlines), len(watch._receives), len(watch._listeners), len(watch._verdicts)]


async def forever() -> None:
    await asyncio.Event().wait()


async def in_time(work: Awaitable[tuple[object, Verdict | None]]) -> tuple[object, Verdict | None]:
    async with asyncio.timeout(DEADLINE):
        return await asyncio.create_task(work)  # type: ignore[arg-type]


async def test_body_that_does_not_arrive_ends_its_request() -> None:
    watch = Watch(0.01)
    assert await in_time(watched(watch, None, forever)) == (None, Verdict.TOO_SLOW)
    assert kept(watch) == [0, 0, 0, 0]


async def test_program_that_leaves_ends_its_request() -> None:
    watch, program = Watch(LONG), Program()

    async def work() -> None:
        asyncio.get_running_loop().call_soon(program.leave)
        await forever()

    assert await in_time(watched(watch, program, work)) == (None, Verdict.GONE)
    assert kept(watch) == [0, 0, 0, 0]


async def test_time_for_the_body_is_over_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the body has a deadline here; a statement may take as long as its own."""
    monkeypatch.setattr(watch_module, "LISTEN_AFTER", 0.0)
    watch, program = Watch(1), Program()

    async def work() -> str:
        clock.advance(2)  # twice what the body had
        await turns()
        return "answered"

    with fake_time() as clock:
        assert await in_time(watched(watch, program, work)) == ("answered", None)


async def test_short_request_never_listens() -> None:
    watch, program = Watch(LONG), Program()

    async def work() -> str:
        await asyncio.sleep(0)
        return "answered"

    assert await in_time(watched(watch, program, work)) == ("answered", None)
    assert program.asked == 0
    assert kept(watch) == [0, 0, 0, 0]


async def test_listener_ends_with_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LISTEN_AFTER", 0.0)
    watch, program = Watch(LONG), Program()
    before = asyncio.all_tasks()

    async def work() -> str:
        while not program.asked:  # noqa: ASYNC110 - the listener begins by itself
            await asyncio.sleep(0)
        return "answered"

    assert await in_time(watched(watch, program, work)) == ("answered", None)
    assert kept(watch) == [0, 0, 0, 0]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    program.leave()
    await asyncio.sleep(0)
    assert kept(watch) == [0, 0, 0, 0]


async def test_what_is_no_leaving_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LISTEN_AFTER", 0.0)
    messages = iter([{"type": "http.request"}, {"type": "http.request"}, GONE])

    class Noisy(Program):
        async def receive(self) -> Message:
            self.asked += 1
            return next(messages)

    watch, program = Watch(LONG), Noisy()
    assert await in_time(watched(watch, program, forever)) == (None, Verdict.GONE)
    assert program.asked == 3


async def test_cancel_from_elsewhere_is_not_taken_for_one_of_its_own() -> None:
    watch, program = Watch(LONG), Program()
    task = asyncio.create_task(watched(watch, program, forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kept(watch) == [0, 0, 0, 0]


async def test_many_requests_are_each_ended_for_their_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LISTEN_AFTER", 0.0)
    watch = Watch(0.03)
    leaving, staying = Program(), Program()
    leaving.leave()
    others_are_over = asyncio.Event()

    async def work() -> str:
        await others_are_over.wait()
        return "answered"

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        kinds = (None, forever), (leaving, forever), (staying, work)
        late, gone, well = zip(
            *([group.create_task(watched(watch, *kind)) for kind in kinds] for _ in range(20)), strict=True
        )
        await asyncio.wait([*late, *gone])
        others_are_over.set()
    assert [task.result() for task in late] == [(None, Verdict.TOO_SLOW)] * 20
    assert [task.result() for task in gone] == [(None, Verdict.GONE)] * 20
    assert [task.result() for task in well] == [("answered", None)] * 20
    assert kept(watch) == [0, 0, 0, 0]
