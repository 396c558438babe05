"""Arbitrary chunks become whole messages. What a message means is not known here.

A frame is a message as it is on the wire: tag, length, body. Start-up packets are the exception of the protocol:
they have no tag. Whoever only relays long runs of messages (`wire.pipeline`) finds their boundaries itself.
"""

from struct import Struct

from sqlhttp_gateway.errors import BadRequest, RemoteProtocolError

_LENGTH = Struct("!I")
HEADER_SIZE = 5


class MessageBuffer:
    """Chunks in with `receive`, frames out with `next_frame`.

    `max_size` bounds one frame in bytes; `fault` is whose mistake a bad length is: the program's or the server's.
    """

    def __init__(self, *, max_size: int, fault: type[BadRequest | RemoteProtocolError] = BadRequest) -> None:
        self._data = bytearray()
        self._max_size = max_size
        self._fault = fault

    def __len__(self) -> int:
        """How many bytes wait here."""
        return len(self._data)

    def starts_with(self, data: bytes) -> bool:
        """Whether these are the next bytes."""
        return self._data.startswith(data)

    def receive(self, data: bytes) -> None:
        """Take what arrived, in whatever pieces."""
        self._data += data

    def next_frame(self, *, max_size: int | None = None) -> bytes | None:
        """The next whole frame, or None while it is not all there. `max_size` may be tighter for this one frame.

        Raises:
            BadRequest, RemoteProtocolError: the length is impossible or above the bound. Nothing after it can be
                trusted, so the connection has to end.
        """
        if len(self._data) < HEADER_SIZE:
            return None
        size = 1 + self._length(1, minimum=4)
        if size > (max_size or self._max_size):
            self._refuse(size, max_size or self._max_size)
        return self._take(size)

    def next_packet(self, *, max_size: int) -> bytes | None:
        """The next start-up packet, its length included, or None while it is not all there.

        Raises:
            BadRequest: the length is impossible or above `max_size`.
        """
        if len(self._data) < 4:
            return None
        size = self._length(0, minimum=8)
        if size > max_size:
            self._refuse(size, max_size)
        return self._take(size)

    def take_all(self) -> bytes:
        """All bytes that wait, whole frames or not; the buffer is empty afterwards."""
        return self._take(len(self._data)) or b""

    def _length(self, at: int, *, minimum: int) -> int:
        length: int = _LENGTH.unpack_from(self._data, at)[0]
        if length < minimum:
            raise self._fault(f"invalid message length {length}")
        return length

    def _refuse(self, size: int, max_size: int) -> None:
        raise self._fault(f"a message of {size} bytes is too large (max is {max_size} bytes)")

    def _take(self, size: int) -> bytes | None:
        if len(self._data) < size:
            return None
        with memoryview(self._data) as view:
            taken = bytes(view[:size])
        del self._data[:size]
        return taken
