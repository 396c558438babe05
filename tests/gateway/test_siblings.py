"""Messages between workers; here both are in one process, which makes no difference to the sockets."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from sqlhttp_gateway.siblings import Lines, Siblings


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines(3)
    yield lines
    lines.close()


def listening(lines: Lines, number: int) -> tuple[Siblings, "asyncio.Queue[tuple[str, ...]]"]:
    siblings = Siblings(lines, number)
    heard: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    siblings.on("pause", lambda *words: heard.put_nowait(words))
    siblings.start()
    return siblings, heard


async def test_all_others_are_told_and_nobody_else(lines: Lines) -> None:
    workers = [listening(lines, number) for number in range(3)]
    workers[1][0].tell_all("pause", "app", "é")
    async with asyncio.timeout(5):
        assert await workers[0][1].get() == ("app", "é")
        assert await workers[2][1].get() == ("app", "é")
        workers[0][0].tell(1, "pause", "back")
        assert await workers[1][1].get() == ("back",)  # and nothing of its own before that
    for siblings, _ in workers:
        siblings.stop()


async def test_worker_that_does_not_read_loses_its_copy_and_holds_up_nobody(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    siblings, heard = listening(lines, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):
            Siblings(lines, 0).tell(1, "pause", "x" * 1000)
            if caplog.records:
                break
    assert "worker 1 was not told to pause" in caplog.text
    Siblings(lines, 0).tell(2, "pause", "app")
    async with asyncio.timeout(5):
        assert await heard.get() == ("app",)
    siblings.stop()


async def test_message_that_is_too_long_is_not_sent(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Siblings(lines, 0).tell(1, "pause", "x" * 5000)
    assert "too many" in caplog.text


async def test_single_worker_has_nobody_to_tell() -> None:
    siblings = Siblings()
    siblings.start()
    siblings.tell_all("pause", "app")
    siblings.stop()
    assert (siblings.count, siblings.number) == (1, 0)
