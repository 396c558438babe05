"""uvicorn's HTTP among strangers: heads have bounds in size and time, and mean the same to everybody or are refused.

llhttp, which uvicorn parses with, is strict about what a request's length is. Left to its caller are how long and how
large a head may be, what is said twice or in two ways, what comes behind the body, and an Upgrade that nobody wants,
behind which uvicorn would lose the body or take it for the next request. Here is that, and nothing of what a request
asks for. Whatever is refused closes its connection, for where the next request would begin cannot be known.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sqlhttp_gateway.endpoints import lean
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.head_rules import HeadLimits, ReadHead, check_head, head_too_large
from sqlhttp_gateway.endpoints.lean import Flow, Line, client_of, server_of, shared
from sqlhttp_gateway.endpoints.single_write import reply_bytes
from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.errors import BadRequest, GatewayError, RequestTooLarge, RequestTooSlow
from sqlhttp_gateway.reply import Reply, error_reply, new_request_id

_FRAMING = 8
"""Bytes of framing that chunks may have for each byte of the body: the smallest chunk has five around its one."""
_READ_AHEAD = 8
"""Requests that may stand in line until the program is not read from any more."""
_SLICE = 16_384
"""Bytes that are read at once: a request that stands in line takes eighty times what it takes on the wire."""
_GOODBYE = 1.0
"""Seconds in which whoever is refused may read why; what comes from them meanwhile is thrown away."""
_UPGRADING = frozenset({b"connection", b"upgrade", b"http2-settings"})
_ENDING = frozenset({b"close", b"keep-alive"})
"""What `Connection` says of the connection's end, which counts beside an Upgrade, too."""


_DEFAULTS = HeadLimits()


_NEEDED = frozenset(
    {"app", "cycle", "flow", "headers", "loop", "parser", "pipeline", "timeout_keep_alive_task", "transport"}
)
"""What the guard uses of uvicorn's protocol, set by its constructor."""
_EXTENDED = frozenset(
    {
        *("_should_upgrade", "_start_asgi_task", "_unset_keepalive_if_required"),
        *("handle_websocket_upgrade", "on_body", "on_header", "on_headers_complete", "on_message_begin"),
        *("on_message_complete", "on_response_complete"),
    }
)
"""Its methods that the guard calls or goes before, beside asyncio's."""


class GuardedProtocol(HttpToolsProtocol):
    """To be given to uvicorn as its `http`."""

    # In slots, since with more than thirty attributes in its dictionary, of which uvicorn has most, a connection takes
    # 2 KiB more.
    __slots__ = (
        "_ahead",
        "_arrival",
        "_connections",
        "_current",
        "_endpoint",
        "_has_head",
        "_idle_since",
        "_is_between",
        "_is_turned_away",
        "_is_upgraded",
        "_refusal",
        "_spare",
        "_upgrade_unwanted",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pipeline = Line()  # type: ignore[assignment]  # a deque's methods, as far as they are called
        self._endpoint: SqlEndpoint | None = getattr(self.app, "lane", None)
        """Knows the settings; None at the admin address."""
        self._connections: Connections | None = getattr(self.app, "connections", None)
        """Has a place for this one, or none; None at the admin address, too."""
        self._idle_since = 0.0
        """When it was connected, or the last answer was sent."""
        self._is_turned_away = False
        """There is no place, which is to be said once something was asked."""
        self._is_between = True
        """The parser has seen all of a request and nothing of the next."""
        self._has_head = False
        """The parser has seen the head of the request that arrives."""
        self._spare = 0
        """Bytes that may still come before the head, or the framing of the body, is too much."""
        self._arrival: asyncio.TimerHandle | None = None
        """Set while nobody but this file waits for the program to go on."""
        self._current: RequestResponseCycle | None = None
        """The request that is being answered; those behind it stand in `pipeline`."""
        self._upgrade_unwanted = False
        self._is_upgraded = False
        self._ahead = bytearray()
        """What came while enough requests stood in line."""
        self._refusal: Reply | None = None
        """What to say once the answers before it are sent; nothing is read any more."""

    @property
    def limits(self) -> HeadLimits:
        """Those that hold now."""
        return self._endpoint.head_limits if self._endpoint is not None else _DEFAULTS

    def refused(self, error: GatewayError) -> Reply:
        """What to say of a request that nobody was asked to answer; where somebody listens it is told of."""
        return self._endpoint.refusal(error) if self._endpoint is not None else error_reply(error, new_request_id())

    @classmethod
    def knows_uvicorn(cls) -> bool:
        """Whether the uvicorn that is installed is as this class takes it to be."""
        return (
            lean.knows_uvicorn()
            and set(HttpToolsProtocol.__init__.__code__.co_names) >= _NEEDED
            and all(hasattr(HttpToolsProtocol, name) for name in _EXTENDED)
        )

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        # As uvicorn does it, but for its flow, and for its way to the addresses, by a socket made for the purpose: five
        # system calls more, and 5 µs of the 70 that a connection costs.
        self.connections.add(self)
        self.transport = transport
        self.flow = Flow(transport)  # type: ignore[assignment]  # not one of uvicorn's, but all that it has
        self.server = shared(server_of(transport))
        self.client = client_of(transport)
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._wait()
        if self._connections is not None:
            self._idle_since = self.loop.time()
            refused = self._connections.enter(self, self._idle_since)
            if refused is not None:
                self._refusal = self.refused(refused)
                self._is_turned_away = True
                self._wait_no_more()
                self._arrival = self.loop.call_later(_GOODBYE, self._is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        if self._connections is not None:
            self._connections.leave(self)
        super().connection_lost(exc)
        current = self._current
        if current is not None and not current.response_complete:
            current.disconnected = True  # uvicorn tells the request that came last, and no other
            current.message_event.set()
        for waiting, _ in self.pipeline:  # nobody answers these any more, and each would hold this protocol
            waiting.on_response = _nobody
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, with a refusal that keeps its place behind the answers before it."""
        if self._refusal is not None:
            if self._is_turned_away:
                self._is_turned_away = False
                self._wait_no_more()
                self._say_refusal()
            return
        if self._ahead:
            self._ahead += data
            self.flow.pause_reading()
            return
        self._unset_keepalive_if_required()
        for begin in range(0, len(data), _SLICE):
            if self.pipeline and begin:
                self._ahead += data[begin:]
                self.flow.pause_reading()
                break
            self._read(data[begin : begin + _SLICE] if len(data) > _SLICE else data)

    def _read(self, data: bytes) -> None:
        if self._refusal is not None or self._is_upgraded:
            return
        self._spare -= len(data)
        try:
            self._feed(data)
        except GatewayError as error:
            self._refuse(error)
            return
        if not self._is_between and self._spare < 0:
            self._refuse(self._framing_too_large() if self._has_head else head_too_large(self.limits))
        elif self._is_looked_after():
            self._wait_no_more()
        else:
            self._wait()

    # ── uvicorn's callbacks ──

    def on_message_begin(self) -> None:
        self._is_between = self._has_head = self._upgrade_unwanted = False
        self._spare = self.limits.max_bytes
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes behind a body is no part of the head: whoever stands before the gateway has not looked at it.
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        check_head(
            ReadHead(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers), self.limits
        )
        self._spare = self.limits.max_bytes
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._upgrade_unwanted = True  # `_feed` begins anew without it
            return
        super().on_headers_complete()
        self._has_head = True
        if 0 < len(self.pipeline) <= _READ_AHEAD:
            self.flow.resume_reading()  # or nobody would see that the program leaves while the one before runs

    def on_body(self, body: bytes) -> None:
        self._spare += (1 + _FRAMING) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade_unwanted:
            return
        super().on_message_complete()
        self._is_between = True

    def on_response_complete(self) -> None:
        self._current = None
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if not self._is_between and self._is_left_over():
            self._wait()  # for the rest of a body that nobody reads
        if self._refusal is not None and not self._owes():
            self._say_refusal()
        elif self._ahead and not self.pipeline:
            self.loop.call_soon(self._go_on)

    def handle_websocket_upgrade(self) -> None:
        if self._connections is not None:
            self._connections.leave(self)
        super().handle_websocket_upgrade()

    # ── making room ──

    @property
    def idle_since(self) -> float | None:
        """When it became idle; None while something is under way."""
        is_idle = self._is_between and not (self._owes() or self._ahead or self._refusal is not None)
        return self._idle_since if is_idle and not self.transport.get_write_buffer_size() else None

    def hang_up(self) -> None:
        """End it at once, without the farewell of TLS, for which a program that sleeps would have to be waited for."""
        self.transport.abort()

    # ── inside ──

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def _go_on(self) -> None:
        """With what came ahead."""
        data = bytes(self._ahead)
        self._ahead.clear()
        if data and not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(data)

    def _feed(self, data: bytes) -> None:
        """Have the parser read it.

        Raises:
            GatewayError: it is not what HTTP asks for.
        """
        if self.parser is None:  # a new one is as good as one between two requests
            self._parse_anew()
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, GatewayError):
                    raise error.__context__ from None
                raise BadRequest("the request's target cannot be read") from None
            except httptools.HttpParserError as error:
                raise BadRequest(f"this is no HTTP/1.1 request: {error}") from None  # llhttp's reasons quote nothing
            except httptools.HttpParserUpgrade as upgrade:
                if not self._upgrade_unwanted:
                    if self._owes():
                        raise BadRequest("an Upgrade cannot follow a request that is not answered yet") from None
                    self._is_upgraded = True
                    self.handle_websocket_upgrade()
                    return
                # RFC 9110, 7.8: a server may ignore it. What has been read of the request is read again without, by
                # another parser: this one reads nothing more behind a request that was to end the connection.
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self._parse_anew()

    def _parse_anew(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b: %b\r\n" % each for each in self.headers if each[0] not in _UPGRADING]
        said = b",".join([value for name, value in self.headers if name == b"connection"]).lower().split(b",")
        lines += [b"connection: %b\r\n" % each.strip() for each in said if each.strip() in _ENDING]
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))

    def _framing_too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"the request's chunks, their extensions and its trailers have more than {_FRAMING} bytes for each of its "
            f"body, and {self.limits.max_bytes} (request.max_head_bytes)"
        )

    def _owes(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self.pipeline) or self._current is not None

    def _is_looked_after(self) -> bool:
        """Whether somebody else knows for how long to wait for what comes next."""
        if self._is_upgraded:
            return True
        return self._owes() if self._is_between else self._has_head and not self._is_left_over()

    def _is_left_over(self) -> bool:
        """Whether the request that arrives was answered before it was whole."""
        return self.cycle is not None and self.cycle.response_complete

    def _wait(self) -> None:
        if self._arrival is None:
            self._arrival = self.loop.call_later(self.limits.timeout, self._is_late)

    def _wait_no_more(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _is_late(self) -> None:
        self._arrival = None
        if self.transport.is_closing():
            return
        if self._is_between or self._has_head:  # nothing was asked, or it has been answered
            self.transport.close()
            return
        limit = self.limits.timeout
        self._refuse(
            RequestTooSlow(f"the head of the request did not arrive within {limit:g} s (request.head_timeout)")
        )

    def _refuse(self, error: GatewayError) -> None:
        """Answer the request that arrives with an error, in its turn, and read nothing more."""
        self._wait_no_more()
        self._unset_keepalive_if_required()
        self._refusal = self.refused(error)
        if self._has_head and not self._is_between:
            self._drop_arriving()
        self._is_between = False
        if not self._owes():
            self._say_refusal()

    def _drop_arriving(self) -> None:
        """Nobody answers it but this file: it stands in line, or its body is waited for."""
        arriving = self.cycle
        if self.pipeline and self.pipeline[0][0] is arriving:
            self.pipeline.popleft()
        elif self._current is arriving:
            self._current = None
        if arriving.response_started:
            self.transport.close()
        arriving.disconnected = arriving.response_complete = True
        arriving.message_event.set()

    def _say_refusal(self) -> None:
        if self._refusal is None or self.transport.is_closing():
            return
        self.transport.write(reply_bytes(self._refusal, is_last=True))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        # Closed with bytes unread, the connection would be reset, and this answer and others lost on their way.
        self.transport.write_eof()
        self._ahead.clear()
        self.flow.resume_reading()
        self._arrival = self.loop.call_later(_GOODBYE, self.transport.close)


def _nobody() -> None:
    """There is nobody to be told that it was answered."""
