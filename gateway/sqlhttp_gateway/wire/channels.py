"""The channels that one tunnel listens to while somebody else does the listening for it.

LISTEN and UNLISTEN take effect when their transaction commits; a notification is passed on between transactions.
"""

from collections.abc import Iterable, Sequence

from sqlhttp_gateway.wire.effects import ALL

MAX_SHARED = 1000
"""Channels that somebody else listens to for one program: more of them would slow that down for all."""


class Channels:
    """Channels in force, and those that the running transaction may change."""

    def __init__(self, *, is_shared: bool = True) -> None:
        self.is_shared = is_shared
        """Somebody else does the listening; if not, the program's own backend does, and stays with it."""
        self._listening: set[bytes] = set()
        self._new: set[bytes] = set()  # of these, those that count only if the transaction commits
        self._changes: list[tuple[bool, bytes]] = []  # in order: is it a LISTEN, and of what
        self._is_rolled_back = False
        self._notifications: list[bytes] = []

    @property
    def pending(self) -> int:
        """Notifications that wait for the end of a transaction."""
        return len(self._notifications)

    def missing(self, channels: Iterable[bytes]) -> tuple[bytes, ...]:
        """Those that nobody listens to for us yet."""
        return tuple(channel for channel in channels if channel not in self._listening)

    def has_room(self, missing: Sequence[bytes]) -> bool:
        """Whether somebody else may be asked to listen to these as well."""
        return len(self._listening) + len(missing) <= MAX_SHARED

    def is_heard(self, notification: bytes) -> bool:
        """Whether this NotificationResponse of the program's own backend comes from somebody else, too."""
        return self.is_shared or notification[9 : notification.find(b"\0", 9)] in self._listening

    def heard(self, channels: Iterable[bytes]) -> None:
        """Somebody listens to these for us from now on, as LISTEN is about to be sent."""
        self._new.update(self.missing(channels))
        self._listening.update(channels)

    def run(self, *, unlistens: Iterable[bytes], listens: Iterable[bytes]) -> None:
        """A text with UNLISTEN of the ones, or of ALL, and LISTEN to the others is about to be sent."""
        self._changes += [(False, channel) for channel in unlistens]
        self._changes += [(True, channel) for channel in listens]

    def transaction_ends(self, *, commits: bool) -> None:
        """The server says how a transaction ends."""
        self._is_rolled_back = not commits

    def settle(self) -> tuple[bytes, ...]:
        """No transaction is open: the channels that nobody has to listen to for us any longer."""
        rolled_back, self._is_rolled_back = self._is_rolled_back, False
        if not self._changes and not self._new:
            return ()
        gone = self._new if rolled_back else set()
        for is_listen, channel in () if rolled_back else self._changes:
            if is_listen:
                gone.discard(channel)
            else:
                gone |= self._listening if channel == ALL else {channel} & self._listening
        self._new, self._changes = set(), []
        self._listening -= gone
        return tuple(sorted(gone))

    def hold(self, notification: bytes) -> None:
        """Keep a NotificationResponse until the transaction is over."""
        self._notifications.append(notification)

    def take_held(self) -> list[bytes]:
        """What was held."""
        held, self._notifications = self._notifications, []
        return held
