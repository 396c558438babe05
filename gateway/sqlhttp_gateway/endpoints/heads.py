"""Heads of requests that were answered, by which the lane knows the next ones like them, on whichever connection.

Programs send the same head over all of their connections, so one copy serves them all. It holds a connection string,
and is forgotten with the last of its connections; that of a program which has proven who it is a minute later, for such
as make a connection for each request.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from sqlhttp_gateway.neon.headers import IDEMPOTENCY_KEY, ORIGIN
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.pools.deadlines import Deadlines
from sqlhttp_gateway.quick import Quick
from sqlhttp_gateway.sql.asker import Asker

_END = b"\r\n\r\n"
_MOST_BYTES = 8192
_MOST_DIGITS = 10
_MOST_LENGTHS = 64
"""Lengths of requests for which a head is kept with its digits, so that one look is enough."""
_MOST_KEPT = 16_384
"""Bytes that it takes then, at most: whoever sends a head has proven nothing yet, and may have many connections."""
HELD = 60.0
"""Seconds that a head is held after its last request; as long as it would be if the connection had been kept."""
MOST_HELD = 512
"""Heads that are held at once, of programs that have proven who they are."""
_LENGTH_ENDS = b"ength: "
"""What stands in front of the digits, however the name is written; where it stands elsewhere, too, or not so, a head is
not found and uvicorn reads it."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_NEVER = b"\0"
"""What no request begins with."""
_UNUSUAL = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Headers about the connection or the body. Beside `Connection: keep-alive`, or `close`, a head with one is left to
uvicorn."""
_NEVER_AGAIN = frozenset({ORIGIN, IDEMPOTENCY_KEY, TRACEPARENT})
"""A head with one of the last two is another one each time, and would only take the place of those that come again."""
_USUAL = frozenset({b"keep-alive", b"close"})


class Head:
    """One head, cut around the digits of its Content-Length."""

    __slots__ = ("__weakref__", "_wholes", "after", "asker", "before", "headers", "is_last")

    def __init__(self, before: bytes, after: bytes, headers: Mapping[bytes, bytes], asker: Asker | None) -> None:
        self.before = before
        self.after = after
        self.headers = headers
        """All but Content-Length."""
        self.is_last = headers.get(b"connection", b"").lower() == b"close"
        """The connection ends behind the answer."""
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
        self._held: Deadlines[Head] | None = None
        """Until when each is held that is; made for the first."""

    def __len__(self) -> int:
        return len(self._heads)

    def forget(self) -> None:
        """Have the next request of every connection judged again: what a head may be has changed."""
        for head in list(self._heads.values()):
            head.end()
        self._heads.clear()
        if self._held is not None:
            self._held.close()

    def hold(self, head: Head) -> None:
        """Know it for some time though its connections end: its program has proven who it is."""
        held = self._held
        if held is None:
            held = self._held = Deadlines(asyncio.get_running_loop(), _no_more)
        if head in held or len(held) < MOST_HELD:
            held.set(head, held.now() + HELD)

    def known(self, request: bytes) -> Head | None:
        """The head of a request, if it looks like one that came before; its `body_of` then tells whether it is."""
        digits = request.find(_LENGTH_ENDS, 0, _MOST_BYTES) + len(_LENGTH_ENDS)
        after = request.find(b"\r", digits, _MOST_BYTES)
        end = request.find(_END, after, _MOST_BYTES) + len(_END)
        head = self._heads.get((request[:digits], request[after:end]))
        if head is not None and self._held is not None and head in self._held:
            self.hold(head)
        return head

    def remember(self, request: bytes, headers: Sequence[tuple[bytes, bytes]], quick: Quick | None) -> Head | None:
        """The head of one whole plain request; None if there is any doubt that the next one like it means the same.

        `headers` are what uvicorn's parser has found in it.
        """
        named = dict(headers)
        length = named.pop(b"content-length", None)
        end = request.find(_END) + len(_END)
        if length is None or len(named) + 1 != len(headers) or not len(_END) <= end <= _MOST_BYTES:
            return None
        if not _NEVER_AGAIN.isdisjoint(named) or (not _UNUSUAL.isdisjoint(named) and not _is_usual(named)):
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


def _no_more(_: Head) -> None:
    """Nothing else holds it."""


def _is_usual(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the only thing said about the connection is that it shall be kept, or not."""
    return _UNUSUAL.intersection(headers) == {b"connection"} and headers[b"connection"].lower() in _USUAL
