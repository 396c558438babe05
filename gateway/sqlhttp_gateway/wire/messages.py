"""The messages a program sends, one dataclass each, named and ordered as in "Message Formats" of the Postgres manual.

Names of statements and portals, and the texts of statements, stay bytes in the program's own encoding. Each message
keeps the `frame` it came in, so that passing it on costs no encoding. What a message does is not known here.

A malformed message raises BadRequest in the words of Postgres.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import error as StructError
from struct import unpack_from
from typing import ClassVar, TypeVar

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.wire.buffer import HEADER_SIZE

_Item = TypeVar("_Item")

_MALFORMED = "invalid message format"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Framed:
    frame: bytes = field(repr=False, compare=False)
    """Tag, length and body as they came."""


@dataclass(frozen=True, slots=True)
class Bind(_Framed):
    """Give a statement its parameters and so make a portal."""

    tag: ClassVar[bytes] = b"B"
    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...]
    parameters: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Close(_Framed):
    """Forget a statement (`kind` is b"S") or a portal (b"P")."""

    tag: ClassVar[bytes] = b"C"
    kind: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class CopyData(_Framed):
    """A piece of a COPY stream, cut anywhere."""

    tag: ClassVar[bytes] = b"d"


@dataclass(frozen=True, slots=True)
class CopyDone(_Framed):
    """The COPY stream is complete."""

    tag: ClassVar[bytes] = b"c"


@dataclass(frozen=True, slots=True)
class CopyFail(_Framed):
    """The COPY stream ends in failure."""

    tag: ClassVar[bytes] = b"f"
    message: bytes


@dataclass(frozen=True, slots=True)
class Describe(_Framed):
    """Ask for the shape of a statement (`kind` is b"S") or a portal (b"P")."""

    tag: ClassVar[bytes] = b"D"
    kind: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Execute(_Framed):
    """Run a portal, for at most `max_rows` rows; 0 is all."""

    tag: ClassVar[bytes] = b"E"
    portal: bytes
    max_rows: int


@dataclass(frozen=True, slots=True)
class Flush(_Framed):
    """Ask for the answers so far."""

    tag: ClassVar[bytes] = b"H"


@dataclass(frozen=True, slots=True)
class FunctionCall(_Framed):
    """Call a function by its OID; the arguments are not looked at."""

    tag: ClassVar[bytes] = b"F"
    function: int


@dataclass(frozen=True, slots=True)
class Parse(_Framed):
    """Make a statement; an empty name is the unnamed one. `types` are OIDs, 0 where Postgres shall infer."""

    tag: ClassVar[bytes] = b"P"
    name: bytes
    text: bytes
    types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PasswordMessage(_Framed):
    """The cleartext password. `p` has four meanings; which one is known only from what was asked."""

    tag: ClassVar[bytes] = b"p"
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Query(_Framed):
    """A simple query: any number of statements in one text."""

    tag: ClassVar[bytes] = b"Q"
    text: bytes


@dataclass(frozen=True, slots=True)
class SASLInitialResponse(_Framed):
    """The chosen mechanism and, unless None, its first message."""

    tag: ClassVar[bytes] = b"p"
    mechanism: str
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SASLResponse(_Framed):
    """A further message of the mechanism."""

    tag: ClassVar[bytes] = b"p"
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sync(_Framed):
    """End of a batch; answered by ReadyForQuery."""

    tag: ClassVar[bytes] = b"S"


@dataclass(frozen=True, slots=True)
class Terminate(_Framed):
    """The program goes."""

    tag: ClassVar[bytes] = b"X"


FrontendMessage = (
    Bind
    | Close
    | CopyData
    | CopyDone
    | CopyFail
    | Describe
    | Execute
    | Flush
    | FunctionCall
    | Parse
    | Query
    | Sync
    | Terminate
)


def decode(frame: bytes) -> FrontendMessage:
    """The message in a whole frame that came after log-in.

    Raises:
        BadRequest: the type is unknown or the body does not fit it.
    """
    decoder = _DECODERS.get(frame[:1])
    if decoder is None:
        raise BadRequest(f"invalid frontend message type {frame[0]}")
    try:
        return decoder(frame)
    except (StructError, IndexError):
        raise BadRequest(_MALFORMED) from None


def decode_password(frame: bytes) -> PasswordMessage:
    """The answer to AuthenticationCleartextPassword.

    Raises:
        BadRequest: it is none.
    """
    reader = _answer(frame)
    return PasswordMessage(reader.end(reader.string()), frame=frame)


def decode_sasl_initial_response(frame: bytes) -> SASLInitialResponse:
    """The answer to AuthenticationSASL.

    Raises:
        BadRequest: it is none.
    """
    reader = _answer(frame)
    try:
        mechanism, size = reader.string(), reader.int32()
    except StructError:
        raise BadRequest(_MALFORMED) from None
    data = None if size == -1 else reader.take(size)
    return SASLInitialResponse(mechanism.decode(errors="replace"), reader.end(data), frame=frame)


def decode_sasl_response(frame: bytes) -> SASLResponse:
    """The answer to AuthenticationSASLContinue.

    Raises:
        BadRequest: it is none.
    """
    return SASLResponse(_answer(frame).rest(), frame=frame)


class _Reader:
    """Takes a body apart from the left. Too few bytes raise BadRequest or struct.error, too many BadRequest."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = HEADER_SIZE

    def string(self) -> bytes:
        end = self._frame.find(b"\0", self._at)
        if end < 0:
            raise BadRequest(_MALFORMED)
        text = self._frame[self._at : end]
        self._at = end + 1
        return text

    def int16(self) -> int:
        self._at += 2
        return int(unpack_from("!h", self._frame, self._at - 2)[0])

    def int32(self) -> int:
        self._at += 4
        return int(unpack_from("!i", self._frame, self._at - 4)[0])

    def oid(self) -> int:
        return self.int32() & 0xFFFFFFFF

    def take(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._frame):
            raise BadRequest(_MALFORMED)
        self._at += size
        return self._frame[self._at - size : self._at]

    def value(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.take(size)

    def many(self, read: Callable[[], _Item]) -> tuple[_Item, ...]:
        count = self.int16() & 0xFFFF  # Postgres takes up to 65535 parameters
        return tuple(read() for _ in range(count))

    def rest(self) -> bytes:
        rest, self._at = self._frame[self._at :], len(self._frame)
        return rest

    def end(self, value: _Item) -> _Item:
        """`value`, now that nothing may follow."""
        if self._at != len(self._frame):
            raise BadRequest(_MALFORMED)
        return value


def _answer(frame: bytes) -> _Reader:
    if frame[:1] != b"p":
        raise BadRequest(f"expected password response, got message type {frame[0]}")
    return _Reader(frame)


def _bind(frame: bytes) -> Bind:
    reader = _Reader(frame)
    portal, statement = reader.string(), reader.string()
    formats, values, result = reader.many(reader.int16), reader.many(reader.value), reader.many(reader.int16)
    return reader.end(Bind(portal, statement, formats, values, result, frame=frame))


def _close(frame: bytes) -> Close:
    reader = _Reader(frame)
    return reader.end(Close(_kind(reader), reader.string(), frame=frame))


def _describe(frame: bytes) -> Describe:
    reader = _Reader(frame)
    return reader.end(Describe(_kind(reader), reader.string(), frame=frame))


def _kind(reader: _Reader) -> bytes:
    kind = reader.take(1)
    if kind not in (b"S", b"P"):
        raise BadRequest(_MALFORMED)
    return kind


def _copy_fail(frame: bytes) -> CopyFail:
    reader = _Reader(frame)
    return reader.end(CopyFail(reader.string(), frame=frame))


def _execute(frame: bytes) -> Execute:
    reader = _Reader(frame)
    return reader.end(Execute(reader.string(), reader.int32(), frame=frame))


def _function_call(frame: bytes) -> FunctionCall:
    return FunctionCall(_Reader(frame).oid(), frame=frame)


def _parse(frame: bytes) -> Parse:
    reader = _Reader(frame)
    name, text = reader.string(), reader.string()
    return reader.end(Parse(name, text, reader.many(reader.oid), frame=frame))


def _query(frame: bytes) -> Query:
    reader = _Reader(frame)
    return reader.end(Query(reader.string(), frame=frame))


def _terminate(frame: bytes) -> Terminate:
    return Terminate(frame=frame)  # like Postgres, do not look whether a body follows


_DECODERS: dict[bytes, Callable[[bytes], FrontendMessage]] = {
    b"B": _bind,
    b"C": _close,
    b"D": _describe,
    b"E": _execute,
    b"F": _function_call,
    b"H": lambda frame: _Reader(frame).end(Flush(frame=frame)),
    b"P": _parse,
    b"Q": _query,
    b"S": lambda frame: _Reader(frame).end(Sync(frame=frame)),
    b"X": _terminate,
    b"c": lambda frame: _Reader(frame).end(CopyDone(frame=frame)),
    b"d": lambda frame: CopyData(frame=frame),
    b"f": _copy_fail,
}
