"""What makes a backend clean for its next program, in the same write as that program's first messages.

In front of what the program sends stand the statements of a scrub, those that give the session its parameters, BEGIN
and COMMIT, and no Sync. An executed COMMIT ends the transaction there and then, so that what follows begins one of its
own, which nothing of the last program's reaches; BEGIN before it makes a block of the transaction that the pipeline has
open, or COMMIT would be warned about. Should any of it fail, Postgres passes over everything up to the next Sync: the
program's statements do not run on a backend that is not clean, as long as nothing is sent behind that Sync.

Which statements clean a backend is known to whoever owns it; what the program sends is the work of `requests`.
"""

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.rows import rows_of

_INT16, _INT32 = Struct("!H").pack, Struct("!I").pack
_INT32_AT = Struct("!I").unpack_from
_HEADER_BYTES = 5
_COMMAND_COMPLETE, _ERROR, _READY, _ROW, _STATUS = b"CEZDS"
_PASSED_OVER = frozenset(b"12ANntTI")
"""What tells nothing here: answers to Parse, Bind and Describe, notices, and notifications of another's channels."""
_PARAMETERS_SET = b"2\0\0\0\x04%bC\0\0\0\x0dSELECT 1\0"


class Ahead(NamedTuple):
    """Messages to send, and what Postgres answers when there was nothing to undo that it reports."""

    scrub: bytes
    scrubbed: bytes
    commit: bytes
    committed: bytes
    statements: int
    """How many are executed, COMMIT included."""
    rows: int
    """How many of them answer a row each, all before the parameters are set."""


def row(values: Sequence[bytes]) -> bytes:
    """The DataRow of these values."""
    columns = b"".join(_INT32(len(value)) + value for value in values)
    return b"D%b%b%b" % (_INT32(6 + len(columns)), _INT16(len(values)), columns)


class Cleansing:
    """One run of an Ahead, from what is sent to the end of its answer.

    `receive` until `is_over`, or until `has_failed`: then a Sync has to be sent, unless one was, and `receive` goes on
    to its ReadyForQuery.
    """

    __slots__ = (
        "_backlog",
        "_expected",
        "_foreign",
        "_left",
        "_sets",
        "_values",
        "frames",
        "has_failed",
        "is_over",
        "statuses",
    )

    def __init__(self, ahead: Ahead, parameters: Sequence[tuple[bytes, Sequence[bytes]]] = ()) -> None:
        """`parameters` are statements that set some, each as the messages to send and the values it will answer."""
        sets = b"".join(frames for frames, _ in parameters)
        answers = b"".join(_PARAMETERS_SET % row(values) for _, values in parameters)
        self.frames = ahead.scrub + sets + ahead.commit
        """To be sent in front of everything else."""
        self._expected: bytes | None = ahead.scrubbed + answers + ahead.committed
        """None once the answer is known to be another."""
        self._foreign = ahead.rows
        self._sets = [values for _, values in parameters]
        self._left = ahead.statements + len(parameters)
        self._values: list[bytes | None] = []
        self._backlog = b""
        self.statuses: list[bytes] = []
        """The ParameterStatus that came; Postgres before 14 sends each at once."""
        self.has_failed = False
        self.is_over = False

    @property
    def values(self) -> list[bytes | None]:
        """The values of all parameters that were set, as Postgres gives them."""
        if self._expected is not None:
            return [value for values in self._sets for value in values]
        return self._values

    def receive(self, data: bytes) -> bytes | None:
        """None while more is needed, else the bytes after the end.

        Raises:
            RemoteProtocolError: this is not an answer to what was sent.
        """
        if self._backlog:
            data, self._backlog = self._backlog + data, b""
        expected = self._expected
        if expected is not None:
            if data.startswith(expected):
                self.is_over = True
                return data[len(expected) :]
            if expected.startswith(data):
                self._backlog = data
                return None
            self._expected = None
        return self._walk(data)

    def _walk(self, data: bytes) -> bytes | None:
        position, end = 0, len(data)
        while end - position >= _HEADER_BYTES:
            tag = data[position]
            following = position + 1 + _INT32_AT(data, position + 1)[0]
            if following < position + _HEADER_BYTES:
                raise RemoteProtocolError(f"message {chr(tag)!r} with an impossible length")
            if following > end:
                break
            self._take(tag, data[position:following])
            position = following
            if self.is_over:
                return data[position:]
        self._backlog = data[position:]
        return None

    def _take(self, tag: int, frame: bytes) -> None:
        if tag == _ERROR:
            self.has_failed = True
        elif tag == _STATUS:
            self.statuses.append(frame)
        elif self.has_failed:
            self.is_over = tag == _READY
        elif tag == _COMMAND_COMPLETE:
            self._left -= 1
            self.is_over = not self._left
        elif tag == _ROW:
            self._read_row(frame)
        elif tag not in _PASSED_OVER:
            raise RemoteProtocolError(f"unexpected message {chr(tag)!r} from the server in answer to a scrub")

    def _read_row(self, frame: bytes) -> None:
        if self._foreign:
            self._foreign -= 1
            return
        try:
            [values] = rows_of(frame)
        except (StructError, ValueError):
            raise RemoteProtocolError("malformed DataRow") from None
        self._values += values
