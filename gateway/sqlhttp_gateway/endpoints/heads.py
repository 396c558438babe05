"""Heads of requests that were answered, by which the lane knows the next ones of the same connection.

Programs send the same head over all of their connections, so one copy serves them all, and is forgotten with the last
of the connections: it holds a connection string.
"""

import re
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from sqlhttp_gateway.neon.headers import ORIGIN
from sqlhttp_gateway.quick import Asker, Quick

_END = b"\r\n\r\n"
_MOST_BYTES = 8192
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_UNUSUAL = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Headers about the connection or the body. Beside `Connection: keep-alive` a head with one is left to uvicorn."""


class Head:
    """One head, cut around the digits of its Content-Length."""

    __slots__ = ("__weakref__", "after", "asker", "before", "headers")

    def __init__(self, before: bytes, after: bytes, headers: Mapping[bytes, bytes], asker: Asker | None) -> None:
        self.before = before
        self.after = after
        self.headers = headers
        """All but Content-Length."""
        self.asker = asker
        """Whoever sends it, if its requests may be quick."""


class Heads:
    """Those that some connection has sent."""

    def __init__(self) -> None:
        self._heads: WeakValueDictionary[tuple[bytes, bytes], Head] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._heads)

    def remember(self, request: bytes, headers: Sequence[tuple[bytes, bytes]], quick: Quick | None) -> Head | None:
        """The head of one whole plain request; None if there is any doubt that the next one like it means the same.

        `headers` are what uvicorn's parser has found in it.
        """
        named = dict(headers)
        length = named.pop(b"content-length", None)
        end = request.find(_END) + len(_END)
        if length is None or len(named) + 1 != len(headers) or not len(_END) <= end <= _MOST_BYTES:
            return None
        if ORIGIN in named or (not _UNUSUAL.isdisjoint(named) and not _keeps_alive(named)):
            return None
        found = list(_LENGTH.finditer(request, 0, end))
        if len(found) != 1 or found[0][1] != length or len(request) != end + int(length):
            return None
        place = request[: found[0].start(1)], request[found[0].end(1) : end]
        head = self._heads.get(place)
        if head is None:
            asker = quick.asker(named) if quick is not None else None
            head = self._heads[place] = Head(*place, named, asker)
        return head


def _keeps_alive(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the only thing said about the connection is that it shall be kept."""
    return _UNUSUAL.intersection(headers) == {b"connection"} and headers[b"connection"].lower() == b"keep-alive"
