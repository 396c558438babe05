"""What a table of the gateway's own holds, read again every few seconds, shared by all who want it at once.

Whoever waits for a first look gets its error; later looks that fail leave what is known as it is, and are logged. How
long that is believed is for the owner of what was read to say.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sqlhttp_gateway.errors import GatewayError

Content = TypeVar("Content")
_LOG = logging.getLogger(__name__)


class Reread(Generic[Content]):
    """Reads `source` again every `every` seconds and hands over what came."""

    def __init__(
        self,
        source: Callable[[], Awaitable[Content]],
        take: Callable[[Content], None],
        *,
        what: str,
        every: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`take` is called with each new content; `what` names the table in the log."""
        self._source = source
        self._take = take
        self._what = what
        self.every = every
        self._clock = clock
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """Seconds since it was last read; None: never."""
        return None if self._read_at is None else self._clock() - self._read_at

    def start(self) -> None:
        """Begin to read it now and then."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep_reading())

    async def stop(self) -> None:
        """Read it no more."""
        for task in (self._keeping, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, GatewayError):
                    await task

    async def read(self) -> None:
        """Read it now.

        Raises:
            GatewayError: it cannot be read.
        """
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
            self._reading.add_done_callback(self._done)
        await asyncio.shield(self._reading)

    def _done(self, reading: "asyncio.Task[None]") -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # whoever waited has it; nobody else needs to hear of it

    async def _read(self) -> None:
        content = await self._source()
        self._take(content)
        self._read_at = self._clock()

    async def _keep_reading(self) -> None:
        while True:
            try:
                await self.read()
            except GatewayError as error:
                _LOG.warning("the table of %s cannot be read: %s", self._what, error.message)
            except Exception:  # what is in a table may be anything; the next look is due all the same
                _LOG.exception("the table of %s holds what cannot be understood", self._what)
            await asyncio.sleep(self.every)
