"""A table that is read again: shared, bounded in what a failure does, and ended without a trace."""

import asyncio

import pytest

from sqlhttp_gateway.auth.reread import Reread
from sqlhttp_gateway.errors import TargetUnavailable
from tests.support.clock import turns


class Source:
    def __init__(self) -> None:
        self.reads = 0
        self.fault: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> int:
        self.reads += 1
        await self.may_answer.wait()
        if self.fault is not None:
            raise self.fault
        return self.reads


def reread(source: Source, taken: list[int], *, every: float = 3600.0) -> Reread[int]:
    return Reread(source, taken.append, what="things", every=every, clock=lambda: 1000.0)


async def test_many_who_want_it_at_once_share_one_look() -> None:
    source, taken = Source(), list[int]()
    subject = reread(source, taken)
    assert subject.age is None
    await asyncio.gather(*(subject.read() for _ in range(5)))
    assert (source.reads, taken, subject.age) == (1, [1], 0.0)


async def test_failure_is_told_to_who_waits_and_leaves_what_is_known() -> None:
    source, taken = Source(), list[int]()
    subject = reread(source, taken)
    source.fault = TargetUnavailable("down")
    with pytest.raises(TargetUnavailable):
        await subject.read()
    assert (taken, subject.age) == ([], None)


async def test_one_who_leaves_while_it_is_read_takes_nothing_from_the_others() -> None:
    source, taken = Source(), list[int]()
    subject = reread(source, taken)
    source.may_answer.clear()
    leaving, staying = asyncio.create_task(subject.read()), asyncio.create_task(subject.read())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    source.may_answer.set()
    await staying
    assert taken == [1]


async def test_failure_that_nobody_waits_for_any_more_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    source, taken = Source(), list[int]()
    subject = reread(source, taken)
    source.may_answer.clear()
    source.fault = TargetUnavailable("down")
    leaving = asyncio.create_task(subject.read())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    source.may_answer.set()
    await turns()
    assert subject._reading is None
    del leaving, subject
    assert caplog.records == []


@pytest.mark.parametrize("fault", [TargetUnavailable("down"), KeyError("hosts")])
async def test_look_that_fails_is_logged_and_the_next_one_is_due(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    source, taken = Source(), list[int]()
    source.fault = fault
    subject = reread(source, taken, every=0.0)
    subject.start()
    async with asyncio.timeout(10):
        while source.reads < 2:  # noqa: ASYNC110 - it goes by itself
            await asyncio.sleep(0)
        source.fault = None
        while not taken:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await subject.stop()
    assert "the table of things" in caplog.text


async def test_stopped_in_the_middle_it_ends() -> None:
    source, taken = Source(), list[int]()
    subject = reread(source, taken, every=0.0)
    source.may_answer.clear()
    subject.start()
    await turns()
    assert source.reads == 1
    await subject.stop()
    source.may_answer.set()
    await turns()
    assert (source.reads, taken) == (1, [])
    assert asyncio.all_tasks() == {asyncio.current_task()}
