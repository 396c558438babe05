import asyncio
import sys
from collections import deque
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from sqlhttp_gateway.endpoints import lean
from sqlhttp_gateway.endpoints.lean import Flow, Line, shared


class _Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


@pytest.fixture
def transport() -> _Transport:
    return _Transport()


@pytest.fixture
def flow(transport: _Transport) -> Flow:
    return Flow(cast(asyncio.Transport, transport))


def test_line_serves_as_the_deque_that_uvicorn_has() -> None:
    line, theirs = cast(Any, Line()), deque[object]()
    for each in (line, theirs):
        for request in "abcd":
            each.appendleft(request)
    assert (line.pop(), line.popleft(), len(line), line[0]) == (theirs.pop(), theirs.popleft(), len(theirs), theirs[0])
    assert list(line) == list(theirs) == ["c", "b"]


def test_empty_line_takes_little_of_what_an_empty_deque_does() -> None:
    assert sys.getsizeof(Line()) < sys.getsizeof(deque()) / 6


def test_transport_is_told_once_to_pause_and_once_to_resume(flow: Flow, transport: _Transport) -> None:
    for step in (flow.resume_reading, flow.pause_reading, flow.pause_reading, flow.resume_reading, flow.resume_reading):
        step()
    assert transport.asked == ["pause", "resume"]


async def test_answer_with_room_does_not_wait(flow: Flow) -> None:
    async with asyncio.timeout(5):
        await flow.drain()
        flow.pause_writing()
        flow.resume_writing()
        await flow.drain()


async def test_all_that_wait_for_room_go_on_when_there_is_some_and_wait_again_when_there_is_none(flow: Flow) -> None:
    async with asyncio.timeout(5):
        for _ in range(2):
            flow.pause_writing()
            flow.pause_writing()
            waiting = [asyncio.ensure_future(flow.drain()) for _ in range(2)]
            await asyncio.sleep(0)
            assert not any(each.done() for each in waiting)
            flow.resume_writing()
            await asyncio.gather(*waiting)


def test_flow_has_nothing_of_its_own_until_somebody_waits(flow: Flow) -> None:
    assert flow._room is None
    assert not hasattr(flow, "__dict__")


def test_same_address_is_one_object_for_all_connections() -> None:
    first, second = (str.join(".", ["127", "0", "0", "1"]), int("4000")), (str.join(".", ["127", "0", "0", "1"]), 4000)
    assert first is not second
    assert shared(first) is shared(second)
    assert shared(None) is None


def test_flow_of_a_later_uvicorn_with_more_to_it_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lean.knows_uvicorn()
    monkeypatch.setattr(FlowControl, "pause_all", lambda self: None, raising=False)
    assert not lean.knows_uvicorn()
