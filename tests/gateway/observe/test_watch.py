import asyncio
import json

import pytest

from sqlhttp_gateway.events import AlertChanged, Bug, Event
from sqlhttp_gateway.observe.activity import Activity
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.observe.watch import Watch
from sqlhttp_gateway.observe.webhook import Webhook
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import WatchSettings, load_settings
from tests.support.reports import pool, sample


class Scripted(Activity):
    """Answers with samples that were written down."""

    def __init__(self, *samples: Sample | Exception) -> None:
        upstream = Targets(load_settings(database_url="postgres://app@127.0.0.1/main")).default
        super().__init__(lambda: upstream, long_query=30.0, keep=10.0, observe=lambda _: None)
        self._samples = list(samples)
        self.looks = 0

    async def look(self) -> Sample:
        self.looks += 1
        found = self._samples.pop(0) if len(self._samples) > 1 else self._samples[0]
        if isinstance(found, Exception):
            raise found
        return found


FULL = sample(by_state={"idle": 90})


@pytest.fixture
def events() -> list[Event]:
    return []


async def test_alert_is_told_to_the_observer_and_the_webhook_once(events: list[Event]) -> None:
    posted: list[dict[str, str]] = []

    def post(body: bytes) -> int:
        posted.append(json.loads(body))
        return 200

    webhook = Webhook(post)
    watch = Watch(WatchSettings(), Scripted(FULL), webhook=webhook, observe=events.append)
    webhook.start()
    for _ in range(3):
        await watch.look([])
    await webhook.sent()
    await watch.stop()
    [event] = events
    assert isinstance(event, AlertChanged)
    assert (event.name, event.severity, event.state) == ("connections", "critical", "firing")
    assert [(post["alert"], post["state"]) for post in posted] == [("connections", "firing")]
    assert [change.alert.name for change in watch.firing] == ["connections"]
    assert watch.sample == FULL


async def test_pools_are_judged_too(events: list[Event]) -> None:
    watch = Watch(WatchSettings(), Scripted(sample()), webhook=None, observe=events.append)
    await watch.look([pool(longest_wait=3.0, waiting=2)])
    assert [event.name for event in events if isinstance(event, AlertChanged)] == ["pool_wait"]
    await watch.stop()


async def test_looking_goes_on_after_something_unforeseen(events: list[Event]) -> None:
    activity = Scripted(RuntimeError("unforeseen"), sample())
    watch = Watch(WatchSettings(interval=0.001), activity, webhook=None, observe=events.append)
    watch.start(lambda: [])
    async with asyncio.timeout(5):
        while activity.looks < 3:  # noqa: ASYNC110 - it is a timer that is waited for
            await asyncio.sleep(0.001)
    await watch.stop()
    [bug] = events
    assert isinstance(bug, Bug)
    assert "unforeseen" in str(bug.error)
