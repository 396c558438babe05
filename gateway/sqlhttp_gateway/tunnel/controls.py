"""What an operator can do from the console, in this worker and in all others: pause, resume, reconnect, reload."""

import asyncio
import os
import signal
from collections.abc import Callable

from sqlhttp_gateway.errors import UnsupportedStatement
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.observe.reporter import PUBLISH_EVERY
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.siblings import Siblings

_POLL = 0.1


class Controls:
    """Acts on all workers. A database of None is every database."""

    def __init__(self, registry: PoolRegistry, siblings: Siblings, report: Callable[[], Report]) -> None:
        """`report` is that of all workers together."""
        self._registry = registry
        self._siblings = siblings
        self._report = report
        self._pausing: set[asyncio.Task[None]] = set()
        siblings.on("pause", self._begin_pause)
        siblings.on("arrived", self._tell_newcomer)
        siblings.on("resume", lambda database: registry.resume(database or None))
        siblings.on("reconnect", lambda database: registry.reconnect(database or None))

    def take_over(self) -> None:
        """This worker has taken the place of another: what that one knew to be paused, the others know, too."""
        self._siblings.tell_all("arrived", str(self._siblings.number))

    async def pause(self, database: str | None) -> None:
        """Let all requests wait; return when no connection to the database is left. Cancelled, it resumes."""
        self._siblings.tell_all("pause", database or "")
        try:
            await self._registry.pause(database)
            await self._wait_for_others(database)
        except asyncio.CancelledError:
            self.resume(database)
            raise

    def resume(self, database: str | None) -> bool:
        """Let requests go on; False when this worker had paused nothing of that."""
        self._siblings.tell_all("resume", database or "")
        return self._registry.resume(database)

    def reconnect(self, database: str | None) -> None:
        """Replace all connections, as they come free."""
        self._siblings.tell_all("reconnect", database or "")
        self._registry.reconnect(database)

    def reload(self) -> None:
        """Have the settings read again.

        Raises:
            UnsupportedStatement: this process does not read them again.
        """
        if self._siblings.count > 1:
            os.kill(os.getppid(), signal.SIGHUP)  # the parent hands it on to every worker
        elif callable(signal.getsignal(signal.SIGHUP)):
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            raise UnsupportedStatement("this gateway does not read its settings again", hint="Start it anew.")

    def _tell_newcomer(self, number: str) -> None:
        for database in self._registry.paused:
            self._siblings.tell(int(number), "pause", database or "")

    def _begin_pause(self, database: str) -> None:
        task = asyncio.get_running_loop().create_task(self._registry.pause(database or None))
        self._pausing.add(task)
        task.add_done_callback(self._pausing.discard)

    async def _wait_for_others(self, database: str | None) -> None:
        if self._siblings.count == 1:
            return
        await asyncio.sleep(2 * PUBLISH_EVERY)  # what they tell now may be of before
        while self._registry.is_paused(database or "") and self._is_left(database):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(_POLL)

    def _is_left(self, database: str | None) -> bool:
        return any(pool.connections for pool in self._report().pools if database in (None, pool.database))

    async def stop(self) -> None:
        """Wait no more for what was begun for others."""
        for task in self._pausing:
            task.cancel()
        await asyncio.gather(*self._pausing, return_exceptions=True)
