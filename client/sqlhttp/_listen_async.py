"""`sql.listen(…)` of `neon_async`: notifications as they come. The rules are those of `_listen`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from sqlhttp._errors import InterfaceError
from sqlhttp._listen import listening, wait_until
from sqlhttp._options import ClientOptions
from sqlhttp._session_async import Token, opened
from sqlhttp._tunnel import PING_INTERVAL
from sqlhttp._tunnel_async import AsyncTunnel
from sqlhttp._wire.backend import Notification


class AsyncListener:
    """An asynchronous iterator over notifications; as `Listener`, with `async with` and `async for`."""

    def __init__(
        self,
        options: ClientOptions,
        token: Token,
        channels: tuple[str, ...],
        *,
        timeout: float | None,
    ) -> None:
        if not channels:
            raise InterfaceError("sql.listen needs a channel")
        self._options = options
        self._token = token
        self._statements = listening(channels)
        self._timeout = timeout
        self._tunnel: AsyncTunnel | None = None

    async def __aenter__(self) -> "AsyncListener":
        token = await self._token()
        self._tunnel = await opened(self._options, token, first=self._statements, ping_interval=PING_INTERVAL)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            await tunnel.close()

    async def __aiter__(self) -> AsyncIterator[Notification]:
        """Notifications in the order of their transactions' commits.

        Raises:
            ConnectionLost: the connection has ended; some may have been missed.
        """
        if self._tunnel is not None:
            async with aclosing(self._arriving(self._tunnel)) as arriving:
                async for notification in arriving:
                    yield notification
            return
        async with self:
            assert self._tunnel is not None
            async with aclosing(self._arriving(self._tunnel)) as arriving:
                async for notification in arriving:
                    yield notification

    async def _arriving(self, tunnel: AsyncTunnel) -> AsyncGenerator[Notification]:
        while True:
            notification = await tunnel.drive(tunnel.line.wait(), wait_until(self._options, self._timeout))
            if notification is None:
                return
            yield notification
