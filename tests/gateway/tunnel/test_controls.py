"""What an operator does reaches every worker."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from sqlhttp_gateway.errors import UnsupportedStatement
from sqlhttp_gateway.siblings import Siblings
from sqlhttp_gateway.tunnel import controls
from sqlhttp_gateway.tunnel.controls import Controls
from tests.support.reports import pool, report


class Registry:
    def __init__(self) -> None:
        self.did: list[tuple[str, str | None]] = []
        self.paused: list[str | None] = []

    async def pause(self, database: str | None) -> None:
        self.did.append(("pause", database))
        self.paused.append(database)

    def resume(self, database: str | None) -> bool:
        self.did.append(("resume", database))
        was_paused, self.paused = bool(self.paused), []
        return was_paused

    def reconnect(self, database: str | None) -> None:
        self.did.append(("reconnect", database))

    def is_paused(self, database: str) -> bool:
        return bool(self.paused)


class TwoWorkers(Siblings):
    """What is told is kept; `hear` is what the other says."""

    count = 2

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []

    def tell_all(self, kind: str, *words: str) -> None:
        self.told.append((kind, *words))

    def tell(self, number: int, kind: str, *words: str) -> None:
        self.told.append((str(number), kind, *words))

    def hear(self, kind: str, *words: str) -> None:
        self._handlers[kind](*words)


def some(siblings: Siblings, pools: Callable[[], Any] = tuple) -> tuple[Controls, Registry]:
    registry: Any = Registry()
    return Controls(registry, siblings, lambda: report(pools=pools())), registry


async def test_alone_only_its_own_pools_are_asked() -> None:
    it, registry = some(Siblings())
    await it.pause("app")
    assert it.resume("app")
    assert not it.resume(None)
    it.reconnect(None)
    assert registry.did == [("pause", "app"), ("resume", "app"), ("resume", None), ("reconnect", None)]


async def test_pause_returns_when_no_worker_has_a_connection_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "PUBLISH_EVERY", 0)
    monkeypatch.setattr(controls, "_POLL", 0)
    siblings, others = TwoWorkers(), [pool()]
    it, registry = some(siblings, lambda: tuple(others))
    pausing = asyncio.create_task(it.pause("main"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not pausing.done()
    others.clear()
    await pausing
    assert siblings.told == [("pause", "main")]
    assert registry.did == [("pause", "main")]


async def test_pause_that_nobody_waits_for_any_more_is_off_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "PUBLISH_EVERY", 0)
    siblings = TwoWorkers()
    it, registry = some(siblings, lambda: (pool(),))
    pausing = asyncio.create_task(it.pause(None))
    for _ in range(5):
        await asyncio.sleep(0)
    pausing.cancel()
    await asyncio.gather(pausing, return_exceptions=True)
    assert siblings.told == [("pause", ""), ("resume", "")]
    assert registry.did == [("pause", None), ("resume", None)]


async def test_what_another_worker_was_asked_is_done_here_too() -> None:
    siblings = TwoWorkers()
    it, registry = some(siblings)
    siblings.hear("pause", "")
    await asyncio.sleep(0)
    siblings.hear("resume", "app")
    siblings.hear("reconnect", "app")
    assert registry.did == [("pause", None), ("resume", "app"), ("reconnect", "app")]
    await it.stop()


async def test_worker_that_takes_anothers_place_learns_what_is_paused() -> None:
    siblings = TwoWorkers()
    it, registry = some(siblings)
    it.take_over()
    assert siblings.told == [("arrived", "0")]
    siblings.told.clear()
    siblings.hear("arrived", "1")
    assert siblings.told == [], "nothing is"
    registry.paused = [None, "app"]
    siblings.hear("arrived", "1")
    assert siblings.told == [("1", "pause", ""), ("1", "pause", "app")]


async def test_reload_is_refused_where_nothing_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    it, _ = some(Siblings())
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    with pytest.raises(UnsupportedStatement):
        it.reload()


async def test_reload_is_the_signal_that_an_operator_could_send(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: lambda *_: None)
    monkeypatch.setattr("os.getpid", lambda: 1)
    monkeypatch.setattr("os.getppid", lambda: 2)
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    for siblings in (Siblings(), TwoWorkers()):
        some(siblings)[0].reload()
    assert sent == [(1, signal.SIGHUP), (2, signal.SIGHUP)]
