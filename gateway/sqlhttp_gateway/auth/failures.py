"""Passwords that were wrong, counted for each role and address, so that nobody can try many.

Roles that do not exist are counted as those that do, or the refusal would tell which is which. Times are a clock's that
never goes back. Of all roles and addresses so many are known at once as are kept in little memory: whoever makes up
names pushes out the oldest, never one that is refused just now.

Of an IPv6 address the first 64 bits count: whoever has one has all that begin so (RFC 6177), and could try with each.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Network
from typing import NamedTuple

from sqlhttp_gateway.auth.peer import address_of
from sqlhttp_gateway.errors import TooManyFailures
from sqlhttp_gateway.settings import AuthSettings

_MOST = 20_000
"""Roles and addresses that are known at once, some 300 bytes each."""


class Attempt(NamedTuple):
    """Who tries to be whom, and from where."""

    target: str
    role: str
    peer: str


class _Record:
    __slots__ = ("failures", "refused_until")

    def __init__(self) -> None:
        self.failures: deque[float] = deque()
        self.refused_until = 0.0


class Failures:
    """What is remembered of wrong passwords by one worker."""

    def __init__(self, settings: AuthSettings, clock: Callable[[], float] | None = None) -> None:
        self._settings = settings
        self._clock = clock or asyncio.get_running_loop().time
        self._records: OrderedDict[Attempt, _Record] = OrderedDict()
        """Those who failed last come last."""

    def __len__(self) -> int:
        return len(self._records)

    def reconfigure(self, settings: AuthSettings) -> None:
        """Go by these from the next attempt on."""
        self._settings = settings

    def check(self, attempt: Attempt) -> None:
        """Let an attempt be made.

        Raises:
            TooManyFailures: `auth.failures` in a row were made within `auth.failures_within` seconds.
        """
        attempt = _counted(attempt)
        record = self._records.get(attempt)
        if record is None:
            return
        left = record.refused_until - self._clock()
        if left > 0:
            settings = self._settings
            raise TooManyFailures(
                f'{settings.failures} passwords for role "{attempt.role}" from {attempt.peer or "there"} were wrong '
                f"within {settings.failures_within:g} s (auth.failures): none is looked at for another {left:.0f} s",
                hint="Try again after the seconds in Retry-After, with the right one.",
                retry_after=max(1, round(left)),
            )

    def failed(self, attempt: Attempt) -> None:
        """The password was wrong."""
        settings = self._settings
        if not settings.failures:
            return
        attempt = _counted(attempt)
        now = self._clock()
        record = self._records.pop(attempt, None) or _Record()
        self._records[attempt] = record
        failures = record.failures
        failures.append(now)
        while now - failures[0] > settings.failures_within:
            failures.popleft()
        if len(failures) >= settings.failures:
            failures.clear()
            record.refused_until = now + settings.failures_refused
        if len(self._records) > _MOST:
            self._forget(now)

    def succeeded(self, attempt: Attempt) -> None:
        """The password was right: what was wrong before is forgiven."""
        if self._records:
            self._records.pop(_counted(attempt), None)

    def _forget(self, now: float) -> None:
        """Make room for one: of those who failed longest ago, the first that is not refused, else the very first."""
        oldest = next(iter(self._records))
        del self._records[next((who for who, each in self._records.items() if each.refused_until <= now), oldest)]


def _counted(attempt: Attempt) -> Attempt:
    """The attempt with its peer's network in place of an IPv6 address."""
    if ":" not in attempt.peer:
        return attempt
    try:
        address = address_of(attempt.peer)
    except ValueError:
        return attempt
    counted = address if address.version == 4 else IPv6Network((int(address), 64), strict=False)
    return attempt._replace(peer=str(counted))
