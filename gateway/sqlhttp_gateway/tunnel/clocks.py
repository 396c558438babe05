"""How long a program may do what it does, or do nothing: three limits, of which one or two run at a time.

Time is an argument everywhere. Waiting for a backend is bounded by the pool, so no clock runs meanwhile.
"""

from sqlhttp_gateway.errors import GatewayError, IdleInTransactionTimeout, IdleSessionTimeout, TransactionTimeout
from sqlhttp_gateway.settings import TunnelSettings


class Clocks:
    """Told what the program does by `touch` and `see`; tells when the next limit is passed."""

    __slots__ = ("_in_transaction", "_is_busy", "_is_pinned", "_last_active", "_settings", "_transaction_since")

    def __init__(self, settings: TunnelSettings, now: float) -> None:
        self._settings = settings
        self._last_active = now
        self._transaction_since: float | None = None
        self._is_busy = True  # a program that has just logged in waits for its first backend
        self._in_transaction = False
        self._is_pinned = False

    def touch(self, now: float) -> None:
        """The program has sent something."""
        self._last_active = now

    def see(self, now: float, *, is_busy: bool, in_transaction: bool, is_pinned: bool) -> None:
        """What is so now: answers are outstanding, a transaction is open, a backend is kept."""
        if self._is_busy and not is_busy:
            self._last_active = now  # being idle begins with the last answer
        if not in_transaction and not is_busy:
            self._transaction_since = None
        elif self._transaction_since is None:
            self._transaction_since = now
        self._is_busy, self._in_transaction, self._is_pinned = is_busy, in_transaction, is_pinned

    def asked(self, now: float, *, is_pinned: bool) -> None:
        """`touch` and `see` of a program whose backend has just got a question; its transaction is what it was."""
        self._last_active = now
        if self._transaction_since is None:
            self._transaction_since = now
        self._is_busy, self._is_pinned = True, is_pinned

    def deadline(self) -> float | None:
        """When the next limit is passed if nothing happens until then."""
        settings, when = self._settings, None
        if self._transaction_since is not None and settings.transaction_timeout:
            when = self._transaction_since + settings.transaction_timeout
        if self._is_busy:
            return when
        if self._in_transaction:
            limit = settings.idle_in_transaction_timeout
        else:
            limit = (self._is_pinned and settings.pinned_idle_timeout) or settings.client_idle_timeout
        if not limit:
            return when
        idle = self._last_active + limit
        return idle if when is None or idle < when else when

    def passed(self, now: float) -> GatewayError | None:
        """The limit that is passed, if one is."""
        for since, limit, kind, text, name in self._running():
            if now >= since + limit:
                return kind(f"terminating connection due to {text} timeout ({name} is {limit:g} s)")
        return None

    def _running(self) -> list[tuple[float, float, type[GatewayError], str, str]]:
        settings = self._settings
        running: list[tuple[float, float, type[GatewayError], str, str]] = []
        if self._transaction_since is not None and (limit := settings.transaction_timeout):
            running.append(
                (self._transaction_since, limit, TransactionTimeout, "transaction", "tunnel.transaction_timeout")
            )
        if self._is_busy:
            return running
        kind: type[GatewayError] = IdleSessionTimeout
        if self._in_transaction:
            limit, kind = settings.idle_in_transaction_timeout, IdleInTransactionTimeout
            text, name = "idle-in-transaction", "tunnel.idle_in_transaction_timeout"
        elif self._is_pinned and settings.pinned_idle_timeout:
            limit, text, name = settings.pinned_idle_timeout, "idle-session", "tunnel.pinned_idle_timeout"
        else:
            limit, text, name = settings.client_idle_timeout, "idle-session", "tunnel.client_idle_timeout"
        if limit:
            running.append((self._last_active, limit, kind, text, name))
        return running
