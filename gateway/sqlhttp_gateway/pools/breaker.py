"""Whether a server can be reached, as far as opening connections tells, so that nobody waits for one that cannot.

After some failures in a row requests are refused at once, and tries in the background say when the server is back: one
every `probe_interval`, more or less, whether the one before has come to its end or not, since behind a broken network
each would take all of `connect_timeout`. A few at once are enough, or a server that accepts and never answers would
have more and more of them. Connections that are open are nothing to it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from sqlhttp_gateway.errors import GatewayError, PostgresError, TargetDown, TargetOverloaded, TargetUnavailable
from sqlhttp_gateway.events import Observer, TargetChanged
from sqlhttp_gateway.settings import BreakerSettings

_JITTER = 0.5
"""Share by which an interval is shorter or longer, so that several gateways do not come in step."""
TRIES = 3
"""Most at once, each a connection. The oldest has all of its time, for a server that is slow; of the
others the older makes way for a newer, so that one that meets the server back has two intervals at least.
"""
_RETRY_AFTER = 1
_STARTS_OR_STOPS = ("57P01", "57P02", "57P03")
"""What Postgres says while it shuts down, recovers from a crash or starts."""

Probe = Callable[[], Awaitable[bool]]
"""Answers whether it could try at all."""


class Breaker:
    """One server's. Closed as long as the server is there; open when it is not."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        *,
        on_open: Callable[[GatewayError], None],
        observe: Observer,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`on_open` is told what those who wait are to hear."""
        self.name = name
        self._settings = settings
        self._on_open = on_open
        self._observe = observe
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._failures = 0
        self._reason = ""
        self._opened_at: float | None = None
        self.is_open = False
        """Whether what needs a new connection is refused; asked by whoever waits for one, so no property."""
        self._probe: Probe | None = None
        self._watching: asyncio.Task[None] | None = None
        self._probes: list[asyncio.Task[None]] = []
        """The oldest first."""

    def refusal(self) -> TargetDown:
        """What to tell whoever needs a new connection, while it is open."""
        assert self._opened_at is not None
        return TargetDown(
            f"target {self.name} has been unreachable for {self._loop.time() - self._opened_at:.1f} s, "
            f"after {self._failures} failures in a row: {self._reason}",
            hint="It is tried in the background; try again after the seconds in Retry-After.",
            retry_after=_RETRY_AFTER,
        )

    def reconfigure(self, settings: BreakerSettings) -> None:
        """Go by these from the next failure, and the next try, on."""
        self._settings = settings

    def probe_by(self, probe: Probe) -> None:
        """Try it by this one from now on, which goes where connections are opened now."""
        self._probe = probe

    def forget(self) -> None:
        """Nobody connects to the server any more: it is not tried, and nothing is known of it."""
        self.succeeded()

    def failed(self, error: GatewayError, probe: Probe) -> None:
        """A connection could not be opened. `probe` tries to open one, and raises as that did."""
        if not _is_absent(error):
            if isinstance(error, PostgresError):  # it is there, and said no
                self.succeeded()
            return
        self._failures += 1
        self._reason = error.message
        self._probe = probe
        if self._opened_at is None and 0 < self._settings.failures <= self._failures:
            self._opened_at = self._loop.time()
            self.is_open = True
            self._watching = self._loop.create_task(self._watch())
            self._observe(TargetChanged(self.name, is_up=False, reason=error.message))
            self._on_open(self.refusal())

    def succeeded(self) -> None:
        """The server was there."""
        self._failures = 0
        if self._opened_at is not None:
            seconds, self._opened_at = self._loop.time() - self._opened_at, None
            self.is_open = False
            self._stop_probes()
            self._observe(TargetChanged(self.name, is_up=True, seconds=seconds))

    async def stop(self) -> None:
        """Try no more."""
        tasks = self._stop_probes()
        if tasks:
            await asyncio.wait(tasks)

    # ── inside ──

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval * (1 + _JITTER * (2 * self._chance() - 1)))
            if len(self._probes) == TRIES:
                self._probes.pop(1).cancel()
            trying = self._loop.create_task(self._try())
            self._probes.append(trying)
            trying.add_done_callback(self._ended)

    def _ended(self, trying: "asyncio.Task[None]") -> None:
        if trying in self._probes:
            self._probes.remove(trying)

    async def _try(self) -> None:
        assert self._probe is not None
        try:
            if not await self._probe():
                return
        except GatewayError as error:
            if _is_absent(error):
                self._reason = error.message
                return
        self.succeeded()

    def _stop_probes(self) -> list["asyncio.Task[None]"]:
        watching, self._watching = self._watching, None
        tasks = [*self._probes, *([watching] if watching is not None else [])]
        for task in tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()
        return [task for task in tasks if task is not asyncio.current_task(self._loop)]


def _is_absent(error: GatewayError) -> bool:
    """Whether the server is not there, or not yet; one that refuses a role or has no room is."""
    if isinstance(error, TargetOverloaded):
        return error.code in _STARTS_OR_STOPS
    return isinstance(error, TargetUnavailable)
