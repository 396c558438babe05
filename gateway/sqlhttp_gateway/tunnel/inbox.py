"""What has come from a program and is not taken apart yet: bounded, as the program is not read from when it is much."""

from sqlhttp_gateway.tunnel.stream import Flow

_PIECE_COST = 64
"""Bytes that keeping a piece costs beside its content; a program may send a byte at a time."""


class Inbox:
    """Bytes on their way from the program, in the order in which they came."""

    __slots__ = ("_flow", "_is_held_back", "_limit", "_size", "pieces")

    def __init__(self, flow: Flow, *, limit: int) -> None:
        """`limit` is in bytes: above it `hold_back` stops the program."""
        self.pieces: list[bytes] = []
        """What waits; to be read only."""
        self._flow = flow
        self._limit = limit
        self._size = 0
        self._is_held_back = False

    def put(self, data: bytes) -> None:
        """This has come after all that waits."""
        self.pieces.append(data)
        self._size += len(data) + _PIECE_COST

    def hold_back(self) -> None:
        """Do not read from the program if more than the limit waits; `take` lets it go on."""
        if self._size > self._limit and not self._is_held_back:
            self._is_held_back = True
            self._flow.pause_reading()

    def take(self) -> bytes:
        """All that waits, which is something, in one piece."""
        data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.clear()
        if self._is_held_back:
            self._is_held_back = False
            self._flow.resume_reading()
        return data

    def clear(self) -> None:
        """Forget what waits: nobody will ask for it."""
        self.pieces.clear()
        self._size = 0
