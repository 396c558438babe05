"""HTTP/1.1 as values: a request becomes bytes, bytes become a reply.

As much of RFC 9112 as a client needs that sends one POST at a time over a connection. No socket is known here. The
standard library's http.client does the same with four times the processor time and a parser for e-mail.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_ENDS_LINE = re.compile(r"[\r\n\0]")

MAX_HEAD_BYTES = 65_536
"""More of status line and headers than this is no reply; http.client allows as much for one line."""


class Reply(NamedTuple):
    """A whole HTTP reply. Header names are in lower case; a name that came twice has its values joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool = False
    """Whether the connection can carry another request."""


class NotHttp(Exception):
    """The bytes are no HTTP/1.1 reply; the text says why."""


class Cut(Exception):
    """The connection ended before the reply did."""


@lru_cache(maxsize=64)
def encode_head(authority: str, target: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Request line and headers up to the place where the value of Content-Length goes.

    The same for all calls of a client, and therefore remembered.

    Raises:
        ValueError: a header has a character that would end it, or that is not Latin-1.
    """
    lines = [f"POST {target} HTTP/1.1".encode("latin-1"), f"Host: {authority}".encode("latin-1")]
    lines += [b"%b: %b" % header for header in encode_headers(headers)]
    lines.append(b"Content-Length: ")
    return b"\r\n".join(lines)


@lru_cache(maxsize=64)
def encode_headers(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values as bytes.

    Raises:
        ValueError: a character would end one, or is not Latin-1. Its text has the name, and never the value.
    """
    encoded = []
    for name, value in headers:
        try:
            if _TOKEN.fullmatch(name) is None or _ENDS_LINE.search(value) is not None:
                raise ValueError
            encoded.append((name.encode("latin-1"), value.encode("latin-1")))
        except ValueError:  # what cannot be encoded is one, too
            raise ValueError(f"header {name!r} has a character that HTTP does not allow") from None
    return tuple(encoded)


def encode_request(head: bytes, body: bytes, *, expect: bool = False) -> bytes:
    """A request's bytes; with `expect` only its head, which asks for "100 Continue" before the body is sent."""
    if expect:
        return b"%b%d\r\nExpect: 100-continue\r\n\r\n" % (head, len(body))
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


class ReplyReader:
    """Takes one reply's bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._persistent = False
        self._length: int | None = None
        self._chunks: _Chunks | None = None
        self.interim = False
        """Whether a "100 Continue" came and the final reply has not begun."""

    @property
    def begun(self) -> bool:
        """Whether any byte of a final reply has come."""
        return self._status != 0 or bool(self._buffer)

    def receive(self, data: bytes) -> Reply | None:
        """The whole reply, or None while more bytes are needed.

        Raises:
            NotHttp: the bytes are no HTTP/1.1 reply.
        """
        self._buffer += data
        while not self._status:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise NotHttp("the reply's headers do not end")
                if not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise NotHttp("the reply is not HTTP")
                return None
            head = self._buffer[:end].decode("latin-1")
            del self._buffer[: end + 4]
            self._read_head(head)
        if self._chunks is not None:
            body = self._chunks.receive(self._buffer)
            return None if body is None else self._reply(body)
        if self._length is None or len(self._buffer) < self._length:
            return None
        body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        return self._reply(body)

    def end(self) -> Reply:
        """The reply, now that the connection has ended.

        Raises:
            Cut: more bytes were due.
        """
        if self._status and self._length is None and self._chunks is None:
            self._persistent = False
            return self._reply(bytes(self._buffer))
        raise Cut

    def _read_head(self, head: str) -> None:
        lines = head.split("\r\n")
        start = lines[0]
        if start[:7] != "HTTP/1." or start[8:9] != " " or not start[9:12].isdecimal():
            raise NotHttp("the reply is not HTTP")
        status = int(start[9:12])
        if status < 200:
            if status == 101:
                raise NotHttp("the server switched to another protocol")
            self.interim = True
            return
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise NotHttp("the reply has a header without a colon")
            name = name.lower()
            value = value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        connection = headers.get("connection", "").lower()
        self._persistent = "close" not in connection if start[7] != "0" else "keep-alive" in connection
        self._headers = headers
        self.interim = False
        self._status = status
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = _Chunks()
        elif status in (204, 304):
            self._length = 0
        elif "content-length" in headers:
            # Two equal lengths are one (RFC 9112, 6.3); different ones are an attempt to smuggle.
            lengths = {length.strip() for length in headers["content-length"].split(",")}
            length = lengths.pop()
            if lengths or not length.isdecimal() or len(length) > 18:
                raise NotHttp("the reply's Content-Length is no number")
            self._length = int(length)

    def _reply(self, body: bytes) -> Reply:
        keep_alive = self._persistent and not self._rest()
        return Reply(self._status, self._headers, body, keep_alive)

    def _rest(self) -> bool:
        return bool(self._buffer)  # bytes nobody asked for: the next reply could not be told from them


class _Chunks:
    """The chunked transfer coding (RFC 9112, 7.1); extensions and trailers are passed over."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._due = 0
        self._trailers = False

    def receive(self, buffer: bytearray) -> bytes | None:
        while True:
            if self._due:
                if len(buffer) < self._due:
                    return None
                if buffer[self._due - 2 : self._due] != b"\r\n":
                    raise NotHttp("a chunk of the reply is longer than it says")
                self._body += buffer[: self._due - 2]
                del buffer[: self._due]
                self._due = 0
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > MAX_HEAD_BYTES:
                    raise NotHttp("a chunk's size does not end")
                return None
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self._trailers:
                if not line:
                    return bytes(self._body)
                continue
            size = line.split(b";", 1)[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                length = -1
            if length < 0 or size[:1] in (b"+", b"-") or b"_" in size:
                raise NotHttp("a chunk's size is no number")
            if length:
                self._due = length + 2
            else:
                self._trailers = True
