"""`sql.listen(…)`: notifications as they come, synchronously. `_listen_async` has the same for asyncio."""

from collections.abc import Iterator
from time import monotonic

from sqlhttp import _errors as errors
from sqlhttp._literals import quoted_name
from sqlhttp._options import ClientOptions
from sqlhttp._request import Statement
from sqlhttp._session import opened
from sqlhttp._tunnel import PING_INTERVAL, Tunnel
from sqlhttp._wire.backend import Notification

SHORTEST = 0.001
"""Seconds; a timeout of 0 looks at what has come already."""


class Listener:
    """An iterator over notifications. It listens from its first use, or from the beginning of a `with` block, on.

    With a timeout the iteration ends when so many seconds have passed without one; in a `with` block the next
    iteration then goes on where the last one ended.
    """

    def __init__(
        self, options: ClientOptions, token: str | None, channels: tuple[str, ...], *, timeout: float | None
    ) -> None:
        if not channels:
            raise errors.InterfaceError("sql.listen needs a channel")
        self._options = options
        self._token = token
        self._statements = listening(channels)
        self._timeout = timeout
        self._tunnel: Tunnel | None = None

    def __enter__(self) -> "Listener":
        self._tunnel = opened(self._options, self._token, first=self._statements, ping_interval=PING_INTERVAL)
        return self

    def __exit__(self, *exc_info: object) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close()

    def __iter__(self) -> Iterator[Notification]:
        """Notifications in the order of their transactions' commits.

        Raises:
            ConnectionLost: the connection has ended; some may have been missed.
        """
        if self._tunnel is not None:
            yield from self._arriving(self._tunnel)
            return
        with self:
            assert self._tunnel is not None
            yield from self._arriving(self._tunnel)

    def _arriving(self, tunnel: Tunnel) -> Iterator[Notification]:
        while True:
            notification = tunnel.drive(tunnel.line.wait(), wait_until(self._options, self._timeout))
            if notification is None:
                return
            yield notification


def listening(channels: tuple[str, ...]) -> tuple[Statement, ...]:
    """LISTEN to each, names exactly as they are."""
    return tuple(Statement(f"LISTEN {quoted_name(channel)}") for channel in channels)


def wait_until(options: ClientOptions, timeout: float | None) -> float | None:
    """The moment at which waiting for the next one ends; a client's own timeout is for calls, its deadline for all."""
    if timeout is None:
        return options.deadline
    by_timeout = monotonic() + max(timeout, SHORTEST)
    return by_timeout if options.deadline is None else min(by_timeout, options.deadline)
