"""Cancel keys: random numbers given to programs in place of Postgres's own, and what they stand for.

A program never learns the key of a backend, so it can cancel what it runs itself and nothing else.
"""

import secrets
from collections.abc import Callable
from typing import NamedTuple

SECRET_BYTES = 4
"""As protocol 3.0 has it."""


class CancelKey(NamedTuple):
    """What BackendKeyData tells a program, and a CancelRequest shows."""

    process_id: int
    secret: bytes


class CancelKeys:
    """The keys of all open tunnels, each with what to call when it is shown.

    Which of several workers a key belongs to is the rest of its process id, so that whichever it is shown to knows.
    """

    def __init__(self, *, workers: int = 1, number: int = 0) -> None:
        self._workers = workers
        self._number = number
        self._cancels: dict[int, tuple[bytes, Callable[[], None]]] = {}

    def issue(self, cancel: Callable[[], None]) -> CancelKey:
        """A new key."""
        while True:
            process_id = (1 + secrets.randbelow(0x7FFFFFFF // self._workers - 1)) * self._workers + self._number
            if process_id not in self._cancels:
                break
        key = CancelKey(process_id, secrets.token_bytes(SECRET_BYTES))
        self._cancels[key.process_id] = (key.secret, cancel)
        return key

    def revoke(self, key: CancelKey) -> None:
        """The tunnel is closed."""
        self._cancels.pop(key.process_id, None)

    def owner(self, process_id: int) -> int:
        """The number of the worker whose key this is, if it is anybody's."""
        return process_id % self._workers

    def show(self, process_id: int, secret: bytes) -> bool:
        """Cancel what the key stands for; False when it is no key of ours."""
        known = self._cancels.get(process_id)
        if known is None or not secrets.compare_digest(known[0], secret):
            return False
        known[1]()
        return True
