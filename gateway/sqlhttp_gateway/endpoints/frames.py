"""A WebSocket's frames (RFC 6455, 5.2), as far as a byte stream needs them: whole binary messages, in and out.

Everything else (control frames, text, messages in fragments, what is too long or wrong) is found here and judged
elsewhere: `Frames` only says where each frame begins and ends, so that the judge gets whole ones.
"""

from struct import Struct
from typing import NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # where it was installed without a compiler
    from websockets.utils import apply_mask

_BINARY = 0x82  # the last (and only) frame of a binary message
_CONTINUATION, _FIRST_CONTROL = 0x0, 0x8
_FIN, _MASKED = 0x80, 0x80
_MASK_BYTES = 4
_LEAST = 2 + _MASK_BYTES
"""Bytes in front of a short content."""
_LONG, _LONGER = 126, 127
_HEAD_SHORT = Struct("!BB").pack
_HEAD_LONG = Struct("!BBH").pack
_HEAD_LONGER = Struct("!BBQ").pack
_KEPT = 16 * 1024
"""Bytes of a frame that is waited for here; of a longer one the judge gets each part as it comes."""


class Frame(NamedTuple):
    """A frame, or a part of one. `content` is None where somebody else has to judge what it means."""

    raw: bytes
    content: bytes | None

    def __repr__(self) -> str:
        """Without what a program sends, which may be its password."""
        return f"Frame({len(self.raw)} bytes)"


def encode(data: bytes) -> bytes:
    """`data` as one binary message of a server."""
    size = len(data)
    if size < _LONG:
        return _HEAD_SHORT(_BINARY, size) + data
    if size < 1 << 16:
        return _HEAD_LONG(_BINARY, _LONG, size) + data
    return _HEAD_LONGER(_BINARY, _LONGER, size) + data


class Frames:
    """What one client sends, from the end of its upgrade on. Every byte comes out once, in order."""

    __slots__ = ("_is_fragmented", "_max_size", "_passing", "_rest")

    def __init__(self, *, max_size: int | None = None) -> None:
        """`max_size` is in bytes of content: a longer message is for the judge to refuse."""
        self._max_size = 1 << 63 if max_size is None else max_size
        self._rest = b""
        self._passing = 0  # bytes still to come of a frame that the judge has the beginning of
        self._is_fragmented = False  # a message has begun whose last frame has not come

    def whole(self, data: bytes) -> bytes | None:
        """The content of a message that is all of `data`, as nearly always; None, and nothing has happened, if it is
        for `receive`. In a third of its time.
        """
        size = len(data)
        if size < _LEAST or data[0] != _BINARY or self._rest or self._passing or self._is_fragmented:
            return None
        head = _LEAST
        content = data[1] - _MASKED
        if content == _LONG:
            head += 2
            content = data[2] << 8 | data[3]
        elif not 0 <= content < _LONG:
            return None  # without a mask, or longer than what comes in one piece
        if size != head + content or content > self._max_size:
            return None
        return apply_mask(data[head:], data[head - _MASK_BYTES : head])

    def receive(self, data: bytes) -> list[Frame]:
        """Take what arrived; answers what is whole of it."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        frames: list[Frame] = []
        position, end = 0, len(data)
        if self._passing:
            position = min(self._passing, end)
            self._passing -= position
            frames.append(Frame(data[:position], None))
        while position < end:
            head = _head_size(data, position, end)
            size = head + _content_size(data, position) if head else 0
            if not head or (position + size > end and size <= _KEPT):
                self._rest = data[position:]
                break
            following = position + size
            raw = data if position == 0 and following == end else data[position:following]
            first = data[position]
            if (
                first == _BINARY
                and data[position + 1] & _MASKED
                and following <= end
                and not self._is_fragmented
                and size - head <= self._max_size
            ):
                frames.append(Frame(raw, apply_mask(raw[head:], raw[head - _MASK_BYTES : head])))
            else:
                frames.append(Frame(raw, None))
                if first & 0x0F < _FIRST_CONTROL:
                    self._is_fragmented = not first & _FIN
            self._passing = max(0, following - end)
            position = following
        return frames


def _head_size(data: bytes, position: int, end: int) -> int:
    """Bytes in front of the content; 0 while they are not all there."""
    if end - position < 2:
        return 0
    second = data[position + 1]
    length = second & 0x7F
    size = 2 + (_MASK_BYTES if second & _MASKED else 0) + (2 if length == _LONG else 8 if length == _LONGER else 0)
    return size if end - position >= size else 0


def _content_size(data: bytes, position: int) -> int:
    length = data[position + 1] & 0x7F
    if length < _LONG:
        return length
    return int.from_bytes(data[position + 2 : position + (4 if length == _LONG else 10)])
