"""What a program asked over a tunnel and what came of it, read along from both directions, for an audit.

Nothing here holds up or changes a byte. Of a message only as much is looked at as is needed; parameters never are.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.lexer import split_statements

MAX_TEXT = 256 * 1024
"""Bytes of a statement that are kept; a longer one is cut."""
_HEADER = 5


@dataclass(slots=True)
class Asked:
    """What a program asked for up to one ReadyForQuery."""

    began: float
    texts: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """For each statement that was completed."""
    sqlstate: str = ""
    """Of the error that it ended with."""


class _Scanner:
    """Cuts a stream into messages; of those that are wanted, the first bytes are kept, of all others none."""

    __slots__ = ("_data", "_skips", "_wanted")

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._data = b""
        self._skips = 0

    def read(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Tag and (the start of the) body of each wanted message that is complete, or long enough."""
        if self._skips >= len(data):
            self._skips -= len(data)
            return
        data = self._data + data[self._skips :]
        position, end = 0, len(data)
        self._skips = 0
        while end - position >= _HEADER:
            tag, size = data[position], 1 + int.from_bytes(data[position + 1 : position + _HEADER])
            needed = min(size, MAX_TEXT) if tag in self._wanted else 0
            if end - position < needed:
                break
            if needed:
                yield tag, data[position + _HEADER : position + needed]
            position += max(size, _HEADER)  # one with a shorter length is the end of the tunnel, elsewhere
        self._skips = max(0, position - end)
        self._data = data[position:]


class Transcript:
    """One tunnel's."""

    def __init__(self) -> None:
        self._from_program = _Scanner(b"QPBESCF")
        self._to_program = _Scanner(b"CIsEZG")
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._asking: Asked | None = None
        self._waiting: deque[Asked] = deque()
        self._in_copy = False

    def sent(self, data: bytes, *, now: float) -> None:
        """The program sent this, at a time in seconds."""
        for tag, body in self._from_program.read(data):
            match tag:
                case 0x51:  # Q
                    text = body.removesuffix(b"\0")
                    texts = [piece.decode(errors="replace") for piece in split_statements(text)]
                    self._end(Asked(now, texts))
                case 0x50:  # P
                    name, _, rest = body.partition(b"\0")
                    self._statements[name] = rest.partition(b"\0")[0].decode(errors="replace")
                case 0x42:  # B
                    portal, _, rest = body.partition(b"\0")
                    self._portals[portal] = self._statements.get(rest.partition(b"\0")[0], "")
                case 0x45:  # E
                    self._asking = self._asking or Asked(now)
                    self._asking.texts.append(self._portals.get(body.partition(b"\0")[0], ""))
                case 0x43 if body[:1] == b"S":  # C
                    self._statements.pop(body[1:].partition(b"\0")[0], None)
                case 0x46:  # F
                    self._end(Asked(now))
                case 0x53 if self._in_copy and self._asking is None:
                    self._in_copy = False  # libpq's second Sync, of which Postgres answers the first only with this
                case 0x53:  # S
                    self._end(self._asking or Asked(now))

    def said(self, data: bytes) -> Iterator[Asked]:
        """The program is told this; what is answered with it."""
        for tag, body in self._to_program.read(data):
            current = self._waiting[0] if self._waiting else self._asking
            match tag:
                case 0x47:  # G
                    self._in_copy = True
                case 0x5A if self._waiting:  # Z
                    self._in_copy = False
                    done = self._waiting.popleft()
                    if done.texts:
                        yield done
                case 0x43 | 0x49 | 0x73 if current is not None:  # C, I, s
                    current.rows.append(_row_count(body) if tag == 0x43 else 0)
                case 0x45 if current is not None:  # E
                    current.sqlstate = decode_error(body).get("C", "")

    def left(self) -> Iterator[Asked]:
        """The tunnel is over: what was not answered."""
        waiting = [*self._waiting, *([self._asking] if self._asking is not None else [])]
        self._waiting.clear()
        self._asking = None
        yield from (each for each in waiting if each.texts)

    def _end(self, asked: Asked) -> None:
        self._asking = None
        self._waiting.append(asked)


def _row_count(body: bytes) -> int:
    """The number at the end of a command tag."""
    last = body.removesuffix(b"\0").rpartition(b" ")[2]
    return int(last) if last.isdigit() else 0
