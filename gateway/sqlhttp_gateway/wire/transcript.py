"""What a program asked over a tunnel and what came of it, read along from both directions, for an audit.

Nothing here holds up or changes a byte. Of a message only as much is looked at as is needed; parameters never are.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.effects import effects_of
from sqlhttp_gateway.wire.lexer import split_statements

MAX_TEXT = 256 * 1024
"""Bytes of a statement that are kept; a longer one is cut."""
_HEADER = 5
_QUERY, _PARSE, _BIND, _EXECUTE, _SYNC = b"QPBES"
_COPY_ENDS = b"cf"
_ENDS = b"QFS"
"""Messages that ReadyForQuery answers."""
_DROPPING = (b"DEALLOCATE", b"DISCARD ALL")
"""Command tags of what drops prepared statements."""


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


class _Sent(NamedTuple):
    """A message that is not answered: of a Parse name and text, of a Bind portal and statement, of others what is
    there."""

    tag: int
    began: float
    first: bytes
    second: bytes = b""


class Transcript:
    """One tunnel's. What a name stands for is what Postgres has said yes to: a Parse may be refused, or passed over."""

    def __init__(self) -> None:
        self._from_program = _Scanner(b"QPBESCFcf")
        self._to_program = _Scanner(b"123CIsEZG")
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._sent: deque[_Sent] = deque()
        self._asked: Asked | None = None
        self._dropped = 0  # statements that the first of what was sent has dropped by name
        self._in_copy = False
        self._is_skipping = False  # up to the next Sync, after an error

    def sent(self, data: bytes, *, now: float) -> None:
        """The program sent this, at a time in seconds."""
        for tag, body in self._from_program.read(data):
            if tag in _COPY_ENDS:
                if self._in_copy or not self._sent:
                    self._in_copy = False
                    continue
            elif tag == _SYNC:
                if self._in_copy:
                    continue  # Postgres passes over it
                self._is_skipping = False
            if not self._is_skipping:
                first, _, rest = body.partition(b"\0")
                self._sent.append(_Sent(tag, now, first, rest.partition(b"\0")[0]))

    def said(self, data: bytes) -> Iterator[Asked]:
        """The program is told this; what is answered with it."""
        for tag, body in self._to_program.read(data):
            while self._sent and self._sent[0].tag in _COPY_ENDS:
                self._sent.popleft()
            first = self._sent[0] if self._sent else None
            match tag:
                case 0x5A:  # Z
                    self._in_copy = self._is_skipping = False
                    if body == b"I":
                        self._portals.clear()
                    if first is not None and first.tag in _ENDS:
                        self._pop()
                        self._tell([first])
                    asked, self._asked = self._asked, None
                    if asked is not None and asked.texts:
                        yield asked
                case _ if first is None:
                    pass
                case 0x47:  # G
                    self._enter_copy()
                case 0x45:  # E
                    self._fail(first, decode_error(body).get("C", ""))
                case 0x43 | 0x49 | 0x73:  # C, I, s
                    self._complete(first, body if tag == 0x43 else b"")
                case _:  # 1, 2, 3
                    self._pop()
                    if first.tag == _PARSE:
                        self._statements[first.first] = first.second.decode(errors="replace")
                    elif first.tag == _BIND:
                        self._portals[first.first] = self._text(first.second)
                    elif first.first[:1] == b"S":
                        self._statements.pop(first.first[1:], None)

    def left(self) -> Iterator[Asked]:
        """The tunnel is over: what was not answered."""
        waiting, self._sent = self._sent, deque()
        batch = []
        for each in waiting:
            batch.append(each)
            if each.tag in _ENDS:
                self._tell(batch)
                batch = []
                if self._asked is not None and self._asked.texts:
                    yield self._asked
                self._asked = None
        self._tell(batch)
        asked, self._asked = self._asked, None
        if asked is not None and asked.texts:
            yield asked

    def _asking(self, first: _Sent) -> Asked:
        if self._asked is None:
            self._asked = Asked(first.began)
        return self._asked

    def _pop(self) -> None:
        self._sent.popleft()
        self._dropped = 0

    def _text(self, name: bytes) -> str:
        """Of a statement; one that SQL has prepared is named."""
        return self._statements.get(name, f"EXECUTE {name.decode(errors='replace')}" if name else "")

    def _tell(self, batch: Iterable[_Sent]) -> None:
        """Add the texts of these, as if all of them worked."""
        parsed: dict[bytes, str] = {}
        bound: dict[bytes, str] = {}
        for each in batch:
            if each.tag == _PARSE:
                parsed[each.first] = each.second.decode(errors="replace")
            elif each.tag == _BIND:
                is_new = each.second in parsed
                bound[each.first] = parsed[each.second] if is_new else self._text(each.second)
            elif each.tag == _EXECUTE:
                text = bound[each.first] if each.first in bound else self._portal(each.first)
                self._asking(each).texts.append(text)
            elif each.tag == _QUERY:
                texts = (piece.decode(errors="replace") for piece in split_statements(each.first))
                self._asking(each).texts.extend(texts)

    def _portal(self, name: bytes) -> str:
        """The text of a portal; a cursor that SQL has declared is named."""
        return self._portals.get(name, f"FETCH FROM {name.decode(errors='replace')}" if name else "")

    def _complete(self, first: _Sent, tag: bytes) -> None:
        """A statement has ended, with this command tag if it has one."""
        self._asking(first).rows.append(_row_count(tag))
        if tag.startswith(_DROPPING):
            text = first.first if first.tag == _QUERY else self._portal(first.first).encode()
            names = effects_of(text).deallocates
            if tag.endswith(b"ALL\0"):
                self._statements.clear()
            elif self._dropped < len(names):
                self._statements.pop(names[self._dropped], None)
            self._dropped += 1
        if first.tag != _QUERY:
            self._tell([first])
            self._pop()

    def _fail(self, first: _Sent, sqlstate: str) -> None:
        self._asking(first).sqlstate = sqlstate
        if first.tag in _ENDS:
            self._in_copy = False
            return
        passed_over = []
        while self._sent and self._sent[0].tag != _SYNC:
            passed_over.append(self._sent.popleft())
        self._dropped = 0
        self._in_copy, self._is_skipping = False, not self._sent
        self._tell(each for each in passed_over if each.tag != _QUERY)

    def _enter_copy(self) -> None:
        """Postgres passes over each Sync in front of the data's end."""
        sent = list(self._sent)
        end = next((at for at, each in enumerate(sent) if each.tag in _COPY_ENDS), len(sent))
        self._in_copy = end == len(sent)
        self._sent = deque([each for each in sent[:end] if each.tag != _SYNC] + sent[end + 1 :])


def _row_count(body: bytes) -> int:
    """The number at the end of a command tag."""
    last = body.removesuffix(b"\0").rpartition(b" ")[2]
    return int(last) if last.isdigit() else 0
