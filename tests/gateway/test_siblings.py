"""Messages between workers; here both are in one process, which makes no difference to the sockets."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

import sqlhttp_gateway.siblings as siblings_module
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
        await siblings.stop()


async def test_worker_that_does_not_read_for_a_while_misses_nothing_and_holds_up_nobody(lines: Lines) -> None:
    teller = Siblings(lines, 0)
    words = [str(number).ljust(1000) for number in range(2000)]
    for word in words:
        teller.tell(1, "pause", word)
    assert teller._held[1], "more than the kernel takes"
    other, other_heard = listening(lines, 2)
    teller.tell(2, "pause", "app")
    async with asyncio.timeout(10):
        assert await other_heard.get() == ("app",)
        late, heard = listening(lines, 1)
        assert [await heard.get() for _ in words] == [(word,) for word in words], "all of it, in order"
        await teller.stop()
    assert not teller._held
    await late.stop()
    await other.stop()


async def test_what_is_said_again_while_it_is_held_is_told_once_and_last(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = Siblings(lines, 0)
    while 1 not in teller._held:
        teller.tell(1, "pause", "x" * 1000)
    told = len(teller._held[1])
    for word in ("one", "two", "one"):
        teller.tell(1, "pause", word)
    assert [data[-7:] for data in list(teller._held[1])[told:]] == [b' "two"]', b' "one"]']
    await stopped_late(teller, monkeypatch)


async def test_worker_that_never_reads_costs_a_bounded_number_of_messages_and_a_warning(
    lines: Lines, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "MAX_HELD", 3)
    teller = Siblings(lines, 0)
    while 1 not in teller._held:
        teller.tell(1, "pause", "x" * 1000)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            teller.tell(1, "cancel", str(number))
    assert list(teller._held[1]) == [b'["cancel", "%d"]' % number for number in (2, 3, 4)], "the latest"
    assert "worker 1 has read nothing for long" in caplog.text
    await stopped_late(teller, monkeypatch)


async def test_worker_that_ends_has_its_last_words_in_bounded_time(lines: Lines) -> None:
    teller = Siblings(lines, 0)
    while 1 not in teller._held:
        teller.tell(1, "pause", "x" * 1000)
    teller.tell(1, "resume", "app")
    listener, _ = listening(lines, 1)
    resumed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listener.on("resume", resumed.set_result)
    async with asyncio.timeout(10):
        await teller.stop()
        assert await resumed == "app"
    await listener.stop()


async def stopped_late(teller: Siblings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nobody who never reads."""
    monkeypatch.setattr(siblings_module, "LAST_WORDS", 0.02)
    async with asyncio.timeout(5):
        await teller.stop()
    assert not teller._held


async def test_message_that_is_too_long_is_not_sent(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Siblings(lines, 0).tell(1, "pause", "x" * 5000)
    assert "too many" in caplog.text


async def test_single_worker_has_nobody_to_tell() -> None:
    siblings = Siblings()
    siblings.start()
    siblings.tell_all("pause", "app")
    await siblings.stop()
    assert (siblings.count, siblings.number) == (1, 0)
