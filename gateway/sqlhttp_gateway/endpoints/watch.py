"""Looks after requests while they run: ends one whose body does not arrive, and one whose program goes away.

Most requests are over long before either matters, so all of them share one timer and none has an object of its own:
what is known of a request hangs on its task. A request is ended by cancelling its task; `verdict` tells why.
"""

import asyncio
from enum import Enum, auto
from typing import Any

from starlette.types import Receive

from sqlhttp_gateway.pools.deadlines import Deadlines

LISTEN_AFTER = 0.02
"""Seconds after which a request that still runs is watched for its program going away; to listen costs a task."""

_Task = asyncio.Task[Any]


class Verdict(Enum):
    """Why a request was ended."""

    TOO_SLOW = auto()
    GONE = auto()


class Watch:
    """The requests of one endpoint."""

    def __init__(self, read_timeout: float) -> None:
        """`read_timeout` is in seconds."""
        self._loop = asyncio.get_running_loop()
        self.read_timeout = read_timeout
        self._deadlines: Deadlines[_Task] = Deadlines(self._loop, self._look)
        self._receives: dict[_Task, Receive] = {}
        self._listeners: dict[_Task, asyncio.Task[None]] = {}
        self._verdicts: dict[_Task, Verdict] = {}

    def begin(self) -> _Task:
        """The running task's body has to arrive in time from now on."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._deadlines.set(task, self._loop.time() + self.read_timeout)
        return task

    def listen_later(self, task: _Task, receive: Receive) -> None:
        """The body is here; from now on the only thing that can come is the program's leaving."""
        self._receives[task] = receive
        self._deadlines.set(task, self._loop.time() + LISTEN_AFTER)

    def verdict(self, task: _Task) -> Verdict | None:
        """Why the request was ended; None when it was not by this watch."""
        return self._verdicts.get(task)

    def end(self, task: _Task) -> None:
        """The request is over."""
        self._deadlines.drop(task)
        self._receives.pop(task, None)
        if self._listeners:
            listener = self._listeners.pop(task, None)
            if listener is not None:
                listener.cancel()
        if self._verdicts:
            self._verdicts.pop(task, None)

    def _look(self, task: _Task) -> None:
        """A deadline has come: of the body, or for listening."""
        receive = self._receives.get(task)
        if receive is None:
            self._end(task, Verdict.TOO_SLOW)
        else:
            self._listeners[task] = self._loop.create_task(self._listen(task, receive))

    async def _listen(self, task: _Task, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(task, Verdict.GONE)

    def _end(self, task: _Task, verdict: Verdict) -> None:
        self._verdicts[task] = verdict
        task.cancel()
