"""Heads of requests that were answered, by which the lane knows the next ones of the same connection.

Programs send the same head over all of their connections, so one copy serves them all, and is forgotten with the last
of the connections: it holds a connection string.
"""

import re
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from sqlhttp_gateway.neon.headers import ORIGIN
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.sql.asker import Asker

_END = b"\r\n\r\n"
_MOST_BYTES = 8192
_MOST_DIGITS = 10
_MOST_LENGTHS = 64
"""Lengths of requests for which a head is kept with its digits, so that one look is enough."""
_MOST_KEPT = 16_384
"""Bytes that it takes then, at most: whoever sends a head has proven nothing yet, and may have many connections."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_NEVER = b"\0"
"""What no request begins with."""
_UNUSUAL = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Headers about the connection or the body. Beside `Connection: keep-alive` a head with one is left to uvicorn."""


class Head:
    """One head, cut around the digits of its Content-Length."""

    __slots__ = ("__weakref__", "_wholes", "after", "asker", "before", "headers")

    def __init__(self, before: bytes, after: bytes, headers: Mapping[bytes, bytes], asker: Asker | None) -> None:
        self.before = before
        self.after = after
        self.headers = headers
        """All but Content-Length."""
        self.asker = asker
        """Whoever sends it, if its requests may be quick."""
        self._wholes: dict[int, bytes] = {}
        """This head with its digits, by the bytes of the whole request, which only one number of digits' worth fits."""

    def end(self) -> None:
        """Be that of no request any more."""
        self.before = _NEVER
        self._wholes.clear()

    def body_of(self, request: bytes) -> bytes | None:
        """The body of a request that has this head and came whole, with nothing behind it; None: it is another one."""
        whole = self._wholes.get(len(request)) or self._whole(request)
        return request[len(whole) :] if whole is not None and request.startswith(whole) else None

    def _whole(self, request: bytes) -> bytes | None:
        """This head as a request of such a length has it, if it is as in this one."""
        begin = len(self.before)
        end = request.find(b"\r", begin)
        digits = request[begin:end]
        whole = b"%b%b%b" % (self.before, digits, self.after)
        if (
            not request.startswith(whole)
            or not digits.isdigit()
            or len(digits) >= _MOST_DIGITS
            or int(digits) != len(request) - len(whole)
        ):
            return None
        kept = len(self._wholes)
        if kept >= _MOST_LENGTHS or (kept + 1) * len(whole) > _MOST_KEPT:
            self._wholes.clear()
        if not digits.startswith(b"0") or digits == b"0":
            self._wholes[len(request)] = whole
        return whole


class Heads:
    """Those that some connection has sent."""

    def __init__(self) -> None:
        self._heads: WeakValueDictionary[tuple[bytes, bytes], Head] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._heads)

    def forget(self) -> None:
        """Have the next request of every connection judged again: what a head may be has changed."""
        for head in list(self._heads.values()):
            head.end()
        self._heads.clear()

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
