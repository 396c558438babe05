"""What Postgres answers, cut at chosen places instead of where the network cut it."""

import itertools
from typing import Any

from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.scrub import CLEAN_REPLIES


class Cut:
    """Gives a connection what comes for it in other pieces: up to these places, once the answer to a scrub is there."""

    def __init__(self, backend: Backend, *cuts: int, status: bytes = b"I") -> None:
        """What comes says at its end that this is the transaction's status."""
        self._status = status
        self._backend = backend
        self._cuts = cuts
        self._data = b""
        backend._transport.set_protocol(self)  # type: ignore[arg-type]

    def heal(self) -> None:
        """From now on give everything as it comes."""
        self._backend._transport.set_protocol(self._backend)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.endswith(CLEAN_REPLIES):
            whole, self._data = self._data[:-1] + self._status, b""
            for begin, end in itertools.pairwise([0, *(cut % len(whole) for cut in self._cuts), len(whole)]):
                self._backend.data_received(whole[begin:end])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
