"""Places in line of those who take a connection also as its last holder has left it, and clean it themselves.

That saves the round trip between two holders: what makes the connection clean travels with the next one's first
messages (`wire.ahead`). What is done with the connection is not known here.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.wire.ahead import Ahead


class Unclean(NamedTuple):
    """A connection on which nothing runs, and what has to go in front of everything on it."""

    backend: Backend
    ahead: Ahead


Found = Backend | Unclean | GatewayError | None
"""A connection, clean or not; why there is none; or None: a permit alone."""


class Taker:
    """A Turn. `then` is told once, in the loop's next turn, since whoever tells it is busy with its own connection."""

    __slots__ = ("_is_done", "_loop", "_then")

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[Found], None]) -> None:
        self._loop = loop
        self._then = then
        self._is_done = False

    def done(self) -> bool:
        """Whether it was told."""
        return self._is_done

    def set_result(self, result: Backend | Unclean | None, /) -> None:
        """A connection has come, or a permit alone."""
        self._is_done = True
        self._loop.call_soon(self._then, result)

    def set_exception(self, exception: BaseException, /) -> None:
        """It does not come."""
        assert isinstance(exception, GatewayError)
        self._is_done = True
        self._loop.call_soon(self._then, exception)
