"""What a backend sends, on its way to the program: cut into messages, matched with what is owed, passed in whole runs.

Answers to messages of ours are kept from the program. What ReadyForQuery, errors and reports mean for the session is
decided by the `Reader` that this is given.
"""

from struct import Struct
from struct import error as StructError
from typing import Protocol

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.owed import Entry, Kind, Look, Owed
from sqlhttp_gateway.wire.runs import tags_of

_INT16_AT = Struct("!H").unpack_from
_INT32_AT = Struct("!I").unpack_from
_SIZE_AT = Struct("!i").unpack_from

_PARSE_COMPLETE, _BIND_COMPLETE, _CLOSE_COMPLETE, _NO_DATA, _ROW_DESCRIPTION, _DATA_ROW = b"123nTD"
_COMMAND_COMPLETE, _EMPTY_QUERY, _SUSPENDED, _ERROR, _READY = b"CIsEZ"
_READY_HEAD = b"Z\0\0\0\x05"
_COPY_IN, _COPY_BOTH, _STATUS, _NOTIFICATION = b"GWSA"
_STREAMED = frozenset(b"DdtVN")
"""Messages that may be long, and after which nothing is to be done."""
_ENDS = {
    _PARSE_COMPLETE: Kind.PARSE,
    _BIND_COMPLETE: Kind.BIND,
    _CLOSE_COMPLETE: Kind.CLOSE,
    _NO_DATA: Kind.DESCRIBE,
    _ROW_DESCRIPTION: Kind.DESCRIBE,
    _COMMAND_COMPLETE: Kind.EXECUTE,
    _EMPTY_QUERY: Kind.EXECUTE,
    _SUSPENDED: Kind.EXECUTE,
}
"""The messages that end an answer, and what they are the answer to."""
_LONGEST = 16 * 1024 * 1024
"""Bytes of a message that has to be there whole; RAISE can make an error of a gigabyte."""
_CUTTING = frozenset((_READY, _ERROR, _STATUS, _NOTIFICATION, _COPY_IN, _COPY_BOTH))
"""Messages that the Reader passes on itself, or keeps."""


class Reader(Protocol):
    """Who is told of what is more than passed on. `entry` is whose answer it is part of, None if nobody's."""

    def read_ready(self, status: int, frame: bytes, entry: Entry | None) -> None:
        """ReadyForQuery; the entry is the first still, and has to be popped."""

    def read_error(self, frame: bytes, entry: Entry | None) -> None:
        """ErrorResponse."""

    def read_status(self, frame: bytes, entry: Entry | None) -> None:
        """ParameterStatus."""

    def read_notification(self, frame: bytes) -> None:
        """NotificationResponse."""

    def read_copy(self, frame: bytes, entry: Entry | None) -> None:
        """CopyInResponse: the backend waits for data."""

    def read_command(self, tag: bytes) -> None:
        """CommandComplete, which is passed on without the reader."""

    def read_whole(self, answer: bytes) -> bool:
        """All that is owed, with ReadyForQuery at its end. False if it has to be read message by message."""


class Replies:
    """One backend's messages at a time. `to_frontend` is where the bytes go."""

    def __init__(self, *, waiting: Owed, reader: Reader, to_frontend: list[bytes]) -> None:
        self._owed = waiting
        self._reader = reader
        self._out = to_frontend
        self._backlog: list[bytes] = []
        self._missing = 0  # bytes without which another look at the backlog makes no sense
        self._passing = 0  # bytes still to come of a message whose head is gone

    @property
    def is_amid_message(self) -> bool:
        """Part of a message has come, and the rest has not."""
        return self._passing > 0 or bool(self._backlog)

    def reset(self) -> None:
        """The next bytes are another backend's."""
        self._backlog.clear()
        self._missing = self._passing = 0

    def receive(self, data: bytes) -> None:
        """Take what the backend sent.

        Raises:
            RemoteProtocolError: it answers what nobody asked. Neither side can be trusted to be in step any more.
        """
        answers = self._owed.answers
        if answers is not None and not self._passing and not self._backlog and data[-6:-1] == _READY_HEAD:
            tags = tags_of(data)
            if tags is not None and answers.fullmatch(tags) is not None and self._reader.read_whole(data):
                return
        if self._backlog:
            # Joined once for a message, not once for each piece of it, so that a long one costs linear time.
            self._backlog.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._backlog)
            self._backlog.clear()
        end, position = len(data), min(self._passing, len(data))
        self._passing -= position
        start = 0
        first = self._owed.first
        is_ours = first is not None and first.is_ours
        while end - position >= 5:
            tag = data[position]
            following = position + 1 + _INT32_AT(data, position + 1)[0]
            if following < position + 5:
                raise RemoteProtocolError(f"message {chr(tag)!r} with an impossible length")
            if tag in _STREAMED and not is_ours:
                position = following
                continue
            if following > end:
                break
            if is_ours or tag in _CUTTING:
                self._pass(data, start, position)
                start = following
                self._take(tag, data[position:following], first)
            elif tag in _ENDS:
                local = self._end(tag, first)
                if local:
                    self._pass(data, start, following)
                    self._out.append(local)
                    start = following
                if tag == _COMMAND_COMPLETE:
                    self._reader.read_command(data[position + 5 : following - 1])
            first = self._owed.first
            is_ours = first is not None and first.is_ours
            position = following
        if position > end:
            self._passing, position = position - end, end
        self._pass(data, start, position)
        if position < end:
            self._keep(data[position:])

    def _keep(self, rest: bytes) -> None:
        """What a message that has to be there whole begins with."""
        size = 1 + _INT32_AT(rest, 1)[0] if len(rest) >= 5 else 5
        if size > _LONGEST:
            raise RemoteProtocolError(f"message {chr(rest[0])!r} of {size} bytes from the server (max is {_LONGEST})")
        self._backlog.append(rest)
        self._missing = size - len(rest)

    def _pass(self, data: bytes, start: int, end: int) -> None:
        if start < end:
            self._out.append(data if start == 0 and end == len(data) else data[start:end])

    def _end(self, tag: int, first: Entry | None) -> bytes:
        """An answer may be over. What we have to say ourselves after it."""
        if first is not None and first.kind is Kind.QUERY:
            return b""
        if first is None or first.kind is not _ENDS[tag]:
            raise RemoteProtocolError(f"unexpected message {chr(tag)!r} from the server")
        if first.source is not None:
            first.source.is_proven = True
        return self._owed.pop()

    def _take(self, tag: int, frame: bytes, first: Entry | None) -> None:
        match tag:
            case 0x5A if len(frame) != 6:
                raise RemoteProtocolError("malformed ReadyForQuery")
            case 0x5A:  # Z
                self._reader.read_ready(frame[5], frame, first)
            case 0x45:  # E
                self._reader.read_error(frame, first)
            case 0x53:  # S
                self._reader.read_status(frame, first)
            case 0x41:  # A
                self._reader.read_notification(frame)
            case 0x47 | 0x57:  # G, W
                self._reader.read_copy(frame, first)
            case 0x44 if first is not None and first.batch is not None:  # D
                first.batch.values += _values(frame)
            case 0x74 if first is not None and first.look is not None:  # t
                first.look.parameters = frame[5:]
            case _ if first is not None and _ENDS.get(tag) is first.kind:
                if first.look is not None:
                    _finish(first.look, frame[5:] if tag == _ROW_DESCRIPTION else None)
                local = self._owed.pop()
                if local:
                    self._out.append(local)


def _finish(look: Look, columns: bytes | None) -> None:
    try:
        look.done(look.parameters, columns)
    except ValueError:
        raise RemoteProtocolError("malformed RowDescription") from None


def _values(frame: bytes) -> list[bytes | None]:
    """The columns of a DataRow."""
    values: list[bytes | None] = []
    position = 7
    try:
        for _ in range(_INT16_AT(frame, 5)[0]):
            (size,) = _SIZE_AT(frame, position)
            position += 4
            values.append(None if size < 0 else frame[position : position + size])
            position += max(size, 0)
    except StructError:
        raise RemoteProtocolError("malformed DataRow") from None
    return values
