"""What a gateway consists of while it runs: started in one order, stopped in reverse, told of new settings together.

Who they are and what they need of each other is `assembly`'s to say.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import NamedTuple

from sqlhttp_gateway.settings import Settings

Step = Callable[[], Awaitable[object] | None]
"""Starts or stops something, at once or when it has been awaited."""
Reconfigure = Callable[[Settings], None]
"""What an owner does with settings that were read again. Must not fail, or half of them would be in effect."""


class Owner(NamedTuple):
    """One of them, as far as its life goes; None: there is nothing to do."""

    start: Step | None
    stop: Step | None
    """Also called when `start` has failed half-way."""
    reconfigure: Reconfigure | None


class Owners:
    """The table of them. Whoever is added later may use those that were added before for as long as it runs."""

    def __init__(self) -> None:
        self._owners: list[Owner] = []

    def add(
        self, *, start: Step | None = None, stop: Step | None = None, reconfigure: Reconfigure | None = None
    ) -> None:
        """One more, behind all others."""
        self._owners.append(Owner(start, stop, reconfigure))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them are started. At the end all that were begun are stopped, whatever one of them raises."""
        async with AsyncExitStack() as stack:
            for owner in self._owners:
                if owner.stop is not None:
                    stack.push_async_callback(_take, owner.stop)
                if owner.start is not None:
                    await _take(owner.start)
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Each goes by these from now on, in the order of the table."""
        for owner in self._owners:
            if owner.reconfigure is not None:
                owner.reconfigure(settings)


async def _take(step: Step) -> None:
    done = step()
    if isawaitable(done):
        await done
