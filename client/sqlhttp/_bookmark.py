"""What a client has seen of its database, in the gateway's word for it: no read shows less than that afterwards.

A gateway before replicas answers with a header `Sqlhttp-Bookmark`, and takes it back with later requests. Of several
the greatest as text is the latest, whichever call got it; more is not known of it here.
"""

import os
from collections.abc import Mapping
from threading import RLock

HEADER = "Sqlhttp-Bookmark"
_NAME = HEADER.lower()

_noting = RLock()
"""Of all clients, so that a child that was forked while another thread held it can have it anew. A signal's handler may
ask while its own thread holds it."""


def _renew() -> None:
    global _noting
    _noting = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Bookmark:
    """The latest bookmark of a client, shared by the clients made from it."""

    __slots__ = ("value",)

    def __init__(self, value: str | None = None) -> None:
        self.value = value

    def note(self, headers: Mapping[str, str]) -> None:
        """An answer came with these headers, their names in lower case."""
        value = headers.get(_NAME)
        if value is not None:
            with _noting:
                if self.value is None or value > self.value:
                    self.value = value

    def forget(self) -> None:
        """What it stands for is lost, and the caller knows."""
        self.value = None
