"""Looks at Postgres and at the pools every few seconds, and tells when something is too much or no longer so.

One worker looks for all: the first. What it saw goes into its report, so that every worker can show it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sqlhttp_gateway.events import AlertChanged, Bug, Observer
from sqlhttp_gateway.observe.activity import Activity
from sqlhttp_gateway.observe.alerts import Alarms, Change, alerts_of
from sqlhttp_gateway.observe.sample import Sample
from sqlhttp_gateway.pools.snapshot import PoolSnapshot
from sqlhttp_gateway.settings import WatchSettings

if TYPE_CHECKING:
    from sqlhttp_gateway.observe.webhook import Webhook  # with what speaks HTTP, which is loaded where there is one


class Watch:
    """The last sample, the alerts that are firing, and the task that renews both."""

    def __init__(
        self, settings: WatchSettings, activity: Activity, *, webhook: "Webhook | None", observe: Observer
    ) -> None:
        self.sample: Sample | None = None
        self._settings = settings
        self._activity = activity
        self._webhook = webhook
        self._observe = observe
        self._alarms = Alarms()
        self._task: asyncio.Task[None] | None = None

    @property
    def firing(self) -> tuple[Change, ...]:
        """The alerts that are not over."""
        return self._alarms.firing

    def start(self, pools: Callable[[], Iterable[PoolSnapshot]]) -> None:
        """Begin; `pools` tells those of all workers."""
        self._activity.start()
        if self._webhook is not None:
            self._webhook.start()
        self._task = asyncio.get_running_loop().create_task(self._run(pools))

    def reconfigure(self, settings: WatchSettings) -> None:
        """Judge by these thresholds from the next look on."""
        self._settings = settings
        self._activity.reconfigure(settings.long_query)

    async def look(self, pools: Iterable[PoolSnapshot]) -> None:
        """Once: take a sample, judge, and tell what has changed."""
        self.sample = await self._activity.look()
        for change in self._alarms.update(alerts_of(self.sample, pools, self._settings), now=time.time()):
            self._tell(change)

    async def stop(self) -> None:
        """End and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._webhook is not None:
            await self._webhook.stop()
        await self._activity.close()

    async def _run(self, pools: Callable[[], Iterable[PoolSnapshot]]) -> None:
        while True:
            try:
                await self.look(pools())
            except Exception as error:
                self._observe(Bug("", error))
            await asyncio.sleep(self._settings.interval)

    def _tell(self, change: Change) -> None:
        alert = change.alert
        state = "over" if change.is_over else "firing"
        self._observe(AlertChanged(alert.name, alert.severity, state, alert.text))
        if self._webhook is not None:
            self._webhook.tell(change)
