"""The reading half of an exchange: chunks of what Postgres sends become Results, until ReadyForQuery.

An exchange is one write that ends in Sync (or is a simple query) and everything Postgres answers to it. What was
written is not known here, only how many steps were asked for and which of them named a new prepared statement. Rows
are not taken apart: a Result keeps the DataRow messages as they came, so that reading a row costs one look at its
length. Of many rows even that is much: those are left to whoever `reading` names, as they come.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from sqlhttp_gateway.errors import (
    GatewayError,
    HasRun,
    PostgresError,
    RemoteProtocolError,
    ResponseTooLarge,
    UnsupportedStatement,
)
from sqlhttp_gateway.model import ReadRows, Result, RowReader
from sqlhttp_gateway.wire.backend import decode_error

_INT32_AT: Final = Struct("!i").unpack_from

PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
ROW_DESCRIPTION: Final = ord("T")
NO_DATA: Final = ord("n")
DATA_ROW: Final = ord("D")
COMMAND_COMPLETE: Final = ord("C")
EMPTY_QUERY_RESPONSE: Final = ord("I")
PORTAL_SUSPENDED: Final = ord("s")
ERROR_RESPONSE: Final = ord("E")
NOTICE_RESPONSE: Final = ord("N")
NOTIFICATION_RESPONSE: Final = ord("A")
PARAMETER_STATUS: Final = ord("S")
PARAMETER_DESCRIPTION: Final = ord("t")
COPY_IN_RESPONSE: Final = ord("G")
COPY_OUT_RESPONSE: Final = ord("H")
COPY_BOTH_RESPONSE: Final = ord("W")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
READY_FOR_QUERY: Final = ord("Z")

_IGNORED: Final = frozenset(
    {CLOSE_COMPLETE, NO_DATA, NOTICE_RESPONSE, NOTIFICATION_RESPONSE, PARAMETER_DESCRIPTION, COPY_DATA, COPY_DONE}
)
_UNWANTED: Final = frozenset({COPY_DATA, NOTICE_RESPONSE})
"""Messages that may be long and are never looked at: not even one of them has to be there whole."""
_LONGEST_ERROR: Final = 1 << 20
"""Bytes of an ErrorResponse that are kept. RAISE can make one of a gigabyte, of which JSON would hold some more."""
_COPY: Final = frozenset({COPY_IN_RESPONSE, COPY_OUT_RESPONSE, COPY_BOTH_RESPONSE})

IDLE: Final = ord("I")
"""Transaction status of a ReadyForQuery outside a transaction."""

_READY_LENGTH: Final = 5
_MANY: Final = 65_536
"""Bytes of rows from which on it pays to read them as they come: chunks are large then, and more of them follow."""
_FEW: Final = 4096
"""Bytes of rows to walk over before, where so many bytes are here that can be nothing else than rows."""
_COLUMN_BYTES: Final = 100
"""What an answer in JSON says of a column beyond what RowDescription has."""
_RESULT_BYTES: Final = 75
"""What it says of a statement beside its columns and rows."""


def copy_refused() -> UnsupportedStatement:
    """Why a COPY that sends or takes a stream is not possible here."""
    return UnsupportedStatement(
        "COPY FROM STDIN and COPY TO STDOUT need a stream, which one request cannot hold",
        hint="Use INSERT or SELECT here, or COPY over a WebSocket or TCP connection.",
    )


def answer_size(description: bytes | None) -> int:
    """What an answer with a RowDescription of that body, or with none, counts in bytes without its rows."""
    if description is None:
        return _RESULT_BYTES
    return _RESULT_BYTES + len(description) + _COLUMN_BYTES * int.from_bytes(description[:2])


def row_overhead(described: int, columns: int, *, count_names: bool) -> int:
    """What a row is longer in JSON than on the wire; its description has so many bytes and columns.

    A row's frame and lengths are not sent on, but what JSON puts around its values is: two characters and a comma for
    each, and the brackets. Beside each name and its NUL stand 18 bytes; JSON puts three characters around a name.
    """
    overhead = -4 - columns
    return overhead + described - 2 - 18 * columns + 2 * columns if count_names else overhead


class Exchange:
    """Reads one exchange. Feed `receive` until it returns the bytes that came after the exchange's end."""

    # Made for every request: what nearly always stays as it is stands in the class, which takes a third of the time.
    error: GatewayError | None = None
    """The first thing that went wrong. The exchange still has to be read to its end."""
    status = 0
    """The transaction status byte of ReadyForQuery; 0 before it came."""
    parsed = 0
    """How many Parse messages succeeded."""
    bound = 0
    """How many Bind messages succeeded."""
    bytes_received = 0
    fatal_first = False
    """Postgres's first word was that it ends the connection: nothing of the exchange was executed, since the
    replies to what was executed would have stood before it."""
    copy_in = False
    """Postgres waits for COPY data that nobody will send."""
    parameters: Sequence[bytes] = ()
    """Bodies of ParameterStatus messages."""
    _description: bytes | None = None
    reading: ReadRows | None = None
    """What begins to read the rows of a result of which many come; None keeps all rows as they come."""
    _begin_reading: ReadRows | None = None
    _reader: RowReader | None = None
    _is_alone = False
    """There is but one statement, so that its rows are nearly all of what comes."""
    _kept = 0
    _row_count = 0
    _row_overhead = 0
    _missing = 0
    _skip = 0

    def __init__(self, *, max_bytes: int = 0, count_names: bool = False) -> None:
        """`max_bytes` bounds the rows and their descriptions (0 sets no bound); `count_names` adds the column names to
        every row's size, as they are in an answer whose rows are objects."""
        self.results: list[Result] = []
        self._max_bytes = max_bytes
        self._count_names = count_names
        self._rows: list[bytes] = []
        self._chunks: list[bytes] = []

    def take_error(self) -> GatewayError | None:
        """The error, to be raised; it is known here no more.

        One of the calls that it goes through has this exchange: all that they have in hand would be held until garbage
        in cycles is collected.
        """
        error, self.error = self.error, None
        return error

    def refuse(self, error: GatewayError) -> None:
        """Let `error` be the outcome; rows are no longer kept."""
        if self.error is None:
            self.error = error
        self._rows.clear()
        self._reader = self._begin_reading = None

    def receive(self, data: bytes) -> bytes | None:
        """Take what Postgres sent. None: more is needed; else the exchange is over and these bytes came after it.

        Raises:
            RemoteProtocolError: this is no answer to what was asked.
        """
        if self._skip:
            if self._skip >= len(data):
                self._skip -= len(data)
                return None
            data = data[self._skip :]
            self._skip = 0
        if self._missing:
            # Chunks are joined once per message, not once per chunk, so a large row costs linear time.
            self._chunks.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return None
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._missing = 0
        position, end = 0, len(data)
        while end - position >= 5:
            tag = data[position]
            length = _INT32_AT(data, position + 1)[0]
            if length < 4:
                raise RemoteProtocolError(f"message {chr(tag)!r} with a length of {length}")
            following = position + 1 + length
            if tag == DATA_ROW:
                position = self._take_rows(data, position, end)
                if self._skip or (position < end and data[position] == DATA_ROW):
                    break  # the rest of a row is still to come
                continue
            if following > end:
                if tag in _UNWANTED:
                    self._skip = following - end
                elif tag == ERROR_RESPONSE and end - position >= _LONGEST_ERROR:
                    self._skip = following - end
                    cut = data[position + 5 : end] + b"\0\0"  # its last field is cut short
                    self._take(tag, cut, 0, len(cut))
                break
            if tag == READY_FOR_QUERY:
                if length != _READY_LENGTH:
                    raise RemoteProtocolError("ReadyForQuery without its one status")
                self.status = data[position + 5]
                return data[following:]
            self._take(tag, data, position + 5, following)
            position = following
        if self._skip:
            return None
        if position < end:
            self._chunks.append(data[position:] if position else data)
            have = end - position
            need = 5 if have < 5 else 1 + _INT32_AT(data, position + 1)[0]
            if data[position] == ERROR_RESPONSE:
                need = min(need, _LONGEST_ERROR)
            self._missing = need - have
        return None

    def _take_rows(self, data: bytes, start: int, end: int) -> int:
        """Keep the run of whole rows from `start` on; answer where it ends."""
        position, count, reader = start, 0, self._reader
        if reader is not None:
            count, position = reader.read(data, start)
        walked, read = position, count
        until = end - 4  # behind the last place for a row's head
        many = _MANY - self._kept
        if self._begin_reading is not None:
            if self._is_alone and end - start >= many:
                many = min(many, _FEW)
            until = min(until, start + many)
        while position < until and data[position] == DATA_ROW:
            following = position + 1 + _INT32_AT(data, position + 1)[0]
            if following <= position + 4:
                raise RemoteProtocolError("row with an impossible length")
            if following > end:
                if self.error is not None or (0 < self._max_bytes < self.bytes_received + following - position):
                    self._refuse_size()
                    self._skip = following - end
                    position = end
                break
            position = following
            count += 1
        self.bytes_received += position - start + count * self._row_overhead
        if self.error is None:
            if 0 < self._max_bytes < self.bytes_received:
                self._refuse_size()
                return self._take_rows(data, position, end)  # past those that are here: perhaps nothing more comes
            if count:
                self._row_count += count
                if reader is None:
                    self._rows.append(data[start:position])
                    self._kept += position - start
                    if self._begin_reading is not None and position - start >= many:
                        self._read_from_here(self._begin_reading)
                        if position < end and data[position] == DATA_ROW:
                            return self._take_rows(data, position, end)
                elif count > read:
                    reader.keep(data[walked:position], count - read)
        return position

    def _read_from_here(self, begin: ReadRows) -> None:
        """Have the rows that were kept read, and those that follow as they come."""
        self._begin_reading = None
        assert self._description is not None
        self._reader = begin(self._description)
        if self._reader is not None:
            self._reader.keep(b"".join(self._rows), self._row_count)
            self._rows.clear()

    def _refuse_size(self) -> None:
        self.refuse(ResponseTooLarge(f"response is too large (max is {self._max_bytes} bytes)"))

    def _take(self, tag: int, data: bytes, start: int, end: int) -> None:
        """Note one whole message other than a row; its body is data[start:end]."""
        if tag == BIND_COMPLETE:
            self.bound += 1
        elif tag == ROW_DESCRIPTION:
            if end - start < 2:
                raise RemoteProtocolError("RowDescription without its count of columns")
            columns = int.from_bytes(data[start : start + 2])
            self._count(end - start + _COLUMN_BYTES * columns)
            self._description = data[start:end] if self.error is None else None
            self._row_overhead = row_overhead(end - start, columns, count_names=self._count_names)
            if self.error is None:
                self._begin_reading = self.reading
        elif tag == COMMAND_COMPLETE:
            self._finish(data[start : end - 1])
        elif tag == PARSE_COMPLETE:
            self.parsed += 1
        elif tag == EMPTY_QUERY_RESPONSE:
            self._finish(None)
        elif tag == ERROR_RESPONSE:
            fields = decode_error(data[start:end])
            if fields.get("V", fields.get("S")) in {"FATAL", "PANIC"} and not (
                self.parsed or self.bound or self.results
            ):
                self.fatal_first = True
            self.refuse(PostgresError(fields))
        elif tag == PARAMETER_STATUS:
            self.parameters = [*self.parameters, data[start:end]]
        elif tag in _COPY:
            self.copy_in = tag == COPY_IN_RESPONSE
            refused = copy_refused()
            refused.ran = HasRun.MAYBE  # what COPY … TO STDOUT runs can be done before the cancel reaches it
            self.refuse(refused)
        elif tag not in _IGNORED:
            raise RemoteProtocolError(f"unexpected message {chr(tag)!r} from the server")

    def _count(self, size: int) -> None:
        """Add what is no row, but has a place in the answer."""
        self.bytes_received += size
        if 0 < self._max_bytes < self.bytes_received and self.error is None:
            self._refuse_size()

    def _finish(self, tag: bytes | None) -> None:
        """One statement is complete."""
        self._count(_RESULT_BYTES)
        rows = self._rows
        whole = rows[0] if len(rows) == 1 else b"".join(rows)
        self.results.append(Result(self._description, whole, self._row_count, tag, self._reader))
        self._description = self._reader = self._begin_reading = None
        self._rows = []
        self._kept = 0
        self._row_count = 0
        self._row_overhead = 0
