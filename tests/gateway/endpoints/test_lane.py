"""The lane answers what uvicorn's own way would have answered, byte for byte, and leaves all that is unusual to it."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from time import process_time
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl

from sqlhttp_gateway.endpoints import guarded, lane
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.guarded import GuardedProtocol
from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.endpoints.single_write import reply_bytes
from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.endpoints.together import together
from sqlhttp_gateway.neon.headers import JSON_HEADERS
from sqlhttp_gateway.neon.response import Pieces
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.serve import GatewayServer
from sqlhttp_gateway.settings import RequestSettings, load_settings
from sqlhttp_gateway.sockets import bind_all
from tests.support.clock import turns
from tests.support.io_submit import needs_io_submit
from tests.support.leases import until

ID = "11111111-2222-4333-a444-555555555555"
MAX = 200_000
DEADLINE = 10.0  # seconds


class Service:
    """Answers with what it was asked. A body that is `wait` waits for `go`."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[bytes, bytes], bytes, str]] = []
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(
        self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "", url_query: bytes = b""
    ) -> Reply:
        self.asked.append((dict(headers), body, peer))
        if body == b"wait":
            self.waiting.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if body == b"refused":
            return Reply(401, JSON_HEADERS, ID, b'{"message":"no"}')
        if body == b"fault":
            raise RuntimeError("nobody foresaw this")
        return Reply(200, JSON_HEADERS, ID, b'{"echo":%b}' % json.dumps(body.decode()).encode())


class App:
    """The gateway's application as the lane sees it; `by_asgi` counts what came through the front door."""

    def __init__(self) -> None:
        self.service = Service()
        settings = RequestSettings(max_bytes=MAX)
        self.lane: SqlEndpoint | None = SqlEndpoint(
            self.service,
            settings,
            lambda event: None,
            together=together(asyncio.get_running_loop()),  # type: ignore[arg-type]
        )
        self.connections: Connections | None = None
        self.by_asgi = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.by_asgi += 1
        endpoint = self.lane
        if endpoint is None:
            endpoint = SqlEndpoint(self.service, RequestSettings(max_bytes=MAX), lambda event: None)  # type: ignore[arg-type]
        await endpoint(scope, receive, send)


class Endless:
    """A quick way, and the one request on it, which goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    def asker(self, headers: Mapping[bytes, bytes]) -> "Endless":
        return self

    def begin(self, asker: object, body: bytes, receiver: object) -> "Endless":
        self.begun.set()
        return self

    def cancel(self, msg: str | None = None) -> None:
        self.cancelled.set()


class Ready:
    """A quick way that has one answer to all."""

    def __init__(self, body: bytes | Pieces) -> None:
        self._body = body

    def asker(self, headers: Mapping[bytes, bytes]) -> "Ready":
        return self

    def begin(self, asker: object, body: bytes, receiver: LaneProtocol) -> "Ready":
        asyncio.get_running_loop().call_soon(receiver.deliver_plain, ID, b"queue;dur=0.1", self._body)
        return self


class Served:
    """A running server and connections to it."""

    def __init__(self, app: App, server: uvicorn.Server) -> None:
        self.app = app
        self.server = server
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.connections: list[Connection] = []

    @property
    def protocol(self) -> LaneProtocol:
        """That of the one connection."""
        [protocol] = self.server.server_state.connections
        assert isinstance(protocol, LaneProtocol)
        return protocol

    @property
    def connections_of_programs(self) -> Connections:
        assert self.app.connections is not None
        return self.app.connections

    async def connect(self) -> "Connection":
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connections.append(connection)
        return connection


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *pieces: bytes) -> bytes:
        """One response, to a request that is sent piece by piece."""
        for piece in pieces:
            self.writer.write(piece)
            await turns(3 if len(pieces) > 1 else 1)  # the server, in the same loop, has read it then
        return await self.response()

    async def response(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            assert found is not None, head
            return head + await self.reader.readexactly(int(found[1]))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def rest(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Served]:
    """The lane in front of an application, for the length of the block; `options` are uvicorn's."""
    app = App()
    config = uvicorn.Config(
        app,
        **{
            "port": 0,
            "http": LaneProtocol,
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "date_header": False,
            "proxy_headers": False,
            "timeout_graceful_shutdown": 1,
            **options,
        },
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    await server.on_tick(0)
    served = Served(app, server)
    try:
        yield served
    finally:
        for connection in served.connections:
            await connection.close()
        await server.shutdown()


def post(body: bytes, *lines: bytes, length: bytes | None = None) -> bytes:
    fields = [b"Host: gateway", b"Neon-Array-Mode: true", *lines]
    fields.append(length if length is not None else b"Content-Length: %d" % len(body))
    return b"POST /sql HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


# ── what it takes ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_second_request_of_a_connection_takes_the_lane_and_is_answered_the_same() -> None:
    async with serving() as served:
        connection = await served.connect()
        first = await connection.ask(post(b"a"))
        second = await connection.ask(post(b"a"))
        assert served.app.by_asgi == 1
        assert second == first
        (first_headers, *first_rest), (second_headers, *second_rest) = served.app.service.asked
        assert first_headers.pop(b"content-length") == b"1"
        assert second_headers == first_headers == {b"host": b"gateway", b"neon-array-mode": b"true"}
        assert second_rest == first_rest == [b"a", "127.0.0.1"]


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 9, b"x" * 10, b"x" * 50_000], ids=len)
async def test_bodies_of_other_lengths_are_known_by_the_same_head(body: bytes) -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"first"))
        assert json.dumps(body.decode()).encode() in await connection.ask(post(body))
        assert served.app.by_asgi == 1


async def test_length_may_stand_anywhere_in_the_head() -> None:
    async with serving() as served:
        connection = await served.connect()
        for body in (b"one", b"two!"):
            request = post(body, length=b"CONTENT-length:%d\r\nUser-Agent: node" % len(body))
            assert body in await connection.ask(request)
        assert served.app.by_asgi == 1


async def test_keep_alive_said_aloud_is_plain() -> None:
    async with serving() as served:
        connection = await served.connect()
        for _ in range(2):
            await connection.ask(post(b"a", b"Connection: keep-alive"))
        assert served.app.by_asgi == 1


# ── the first request of a connection ────────────────────────────────────────────────────────────────────────────────


async def test_first_request_of_another_connection_takes_the_lane_too_and_is_answered_the_same() -> None:
    async with serving() as served:
        connection = await served.connect()
        first = await connection.ask(post(b"a"))
        await connection.close()
        await until(lambda: not served.server.server_state.connections)
        second = await served.connect()
        assert await second.ask(post(b"a")) == first
        assert await second.ask(post(b"bb")) == first.replace(b"length: 12", b"length: 13").replace(b'"a"', b'"bb"')
        assert served.app.by_asgi == 1
        assert served.protocol._arrival is None


async def test_program_that_has_not_proven_who_it_is_is_a_stranger_on_its_next_connection() -> None:
    async with serving() as served:
        for _ in range(2):
            connection = await served.connect()
            assert b" 401 " in await connection.ask(post(b"refused"))
            await connection.close()
            await until(lambda: not served.server.server_state.connections)
        assert served.app.by_asgi == 2


async def test_connection_for_one_request_takes_the_lane_and_is_closed_behind_the_answer() -> None:
    async with serving() as served:
        answers = []
        for _ in range(3):
            connection = await served.connect()
            connection.writer.write(post(b"a", b"Connection: close"))
            answers.append(await connection.rest())
        assert b"\r\nconnection: close\r\n" in answers[0]
        assert answers == answers[:1] * 3
        assert served.app.by_asgi == 1
        await until(lambda: not served.server.server_state.connections)
        assert not served.server.server_state.tasks


async def test_connection_that_is_the_lanes_has_no_parser_until_it_needs_one() -> None:
    async with serving() as served:
        connection = await served.connect()
        answers = [await connection.ask(post(b"a")) for _ in range(2)]
        assert served.protocol.parser is None
        assert b'"a"' in await connection.ask(post(b"a", b"X-Unusual: yes"))
        assert served.app.by_asgi == 2
        answers.append(await connection.ask(post(b"a")))
        assert answers[1:] == answers[:-1]
        assert served.protocol.parser is None


async def test_programs_behind_one_connection_of_a_proxy_take_the_lane_by_turns() -> None:
    async with serving() as served:
        connection = await served.connect()
        for _ in range(3):
            for name in (b"one", b"another"):
                assert name in await connection.ask(post(name, b"User-Agent: " + name))
                assert served.app.service.asked[-1][0][b"user-agent"] == name
        assert served.app.by_asgi == 2


@pytest.mark.parametrize("lines", [[], [b"Connection: close"]])
@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_answer_in_pieces_is_sent_as_if_it_had_been_put_together(
    size: int, lines: list[bytes], scheme: str
) -> None:
    whole = bytes(range(256)) * (size // 256)
    parts = [whole[:1], memoryview(whole)[1:50], memoryview(whole)[50:-1], whole[-1:]]
    async with serving() as served:
        assert served.app.lane is not None
        served.app.lane.quick = Ready(Pieces(parts, len(whole)))  # type: ignore[assignment]
        await (await served.connect()).ask(post(b"plain", *lines))
        connection = await served.connect()
        await until(lambda: bool(served.server.server_state.connections))
        for protocol in served.server.server_state.connections:
            assert isinstance(protocol, LaneProtocol)
            protocol.scheme = scheme  # whether TLS lies under it
        reply = Reply(200, JSON_HEADERS, ID, whole, b"queue;dur=0.1")
        assert await connection.ask(post(b"quick", *lines)) == reply_bytes(reply, is_last=bool(lines))
        assert served.app.by_asgi == 1


@needs_io_submit
async def test_answers_of_one_turn_of_the_loop_are_sent_at_its_end_together() -> None:
    async with serving() as served:
        programs = [await served.connect() for _ in range(4)]
        for program in programs:
            await program.ask(post(b"plain"))
        lanes = [each for each in served.server.server_state.connections if isinstance(each, LaneProtocol)]
        for protocol in lanes:
            protocol.deliver_plain(ID, b"", b"{}")
            assert protocol.transport.get_write_buffer_size()
            assert protocol.idle_since is None  # not to be hung up on to make room
        answer = reply_bytes(Reply(200, JSON_HEADERS, ID, b"{}"))
        assert [await program.response() for program in programs] == [answer] * 4
        assert [protocol.transport.get_write_buffer_size() for protocol in lanes] == [0] * 4


async def test_known_head_does_not_help_where_there_is_no_place() -> None:
    async with serving() as served:
        served.app.connections = Connections(1)
        first = await served.connect()
        await first.ask(post(b"a"))
        second = await served.connect()
        assert b" 503 " in await second.ask(post(b"a"))
        assert await second.rest() == b""
        assert len(served.app.service.asked) == 1


# ── what it leaves to uvicorn, by asking both ────────────────────────────────────────────────────────────────────────

UNUSUAL = {
    "another head": [post(b"a", b"User-Agent: other")],
    "in two pieces": [post(b"ab")[:-1], b"b"],
    "head and body apart": [post(b"ab")[:-2], b"ab"],
    "cut in its head": [post(b"ab")[:30], post(b"ab")[30:]],
    "chunked": [post(b"2\r\nab\r\n0\r\n\r\n", length=b"Transfer-Encoding: chunked")],
    "no length": [post(b"", length=b"Accept: */*")],
    "length twice": [post(b"ab", b"Content-Length: 2")],
    "length with a sign": [post(b"ab", length=b"Content-Length: +2")],
    "length of letters": [post(b"ab", length=b"Content-Length: two")],
    "length in digits of elsewhere": [post(b"ab", length="Content-Length: ٢".encode())],
    "a body too large": [post(b"x" * (MAX + 1))],
    "http 1.0": [post(b"a").replace(b"HTTP/1.1", b"HTTP/1.0")],
    "closing": [post(b"a", b"Connection: close")],
    "expecting": [post(b"a", b"Expect: 100-continue")],
    "another path": [post(b"a").replace(b"/sql", b"/sql?a=1")],
    "options": [post(b"").replace(b"POST", b"OPTIONS")],
    "a page's": [post(b"a", b"Origin: https://example.com")],
    "no http": [b"\x16\x03\x01\x02\x00"],
}


async def _answers(http: object) -> dict[str, tuple[bytes, list[bytes]]]:
    """What came back for each, ids aside, and which bodies reached the service."""
    answers = {}
    async with serving(http=http) as served:
        for name, pieces in UNUSUAL.items():
            connection = await served.connect()
            served.app.service.asked.clear()
            await connection.ask(post(b"plain"))
            for piece in pieces:
                connection.writer.write(piece)
                await connection.writer.drain()
                await turns()
            connection.writer.write(post(b"last", b"Connection: close"))
            came = re.sub(rb"neon-request-id: [-0-9a-f]+", b"", await connection.rest())
            answers[name] = came, [body for _, body, _ in served.app.service.asked]
    return answers


async def test_unusual_requests_are_answered_as_without_the_lane() -> None:
    with_lane, without = await _answers(LaneProtocol), await _answers(GuardedProtocol)
    for name in UNUSUAL:
        assert with_lane[name] == without[name], name


async def test_a_head_that_is_not_plain_is_not_remembered() -> None:
    async with serving() as served:
        for line in (b"Origin: https://example.com", b"Expect: 100-continue", b"TE: trailers"):
            connection = await served.connect()
            before = served.app.by_asgi
            for _ in range(2):
                connection.writer.write(post(b"a", line))
                async with asyncio.timeout(DEADLINE):
                    await connection.reader.readuntil(b'{"echo":"a"}')
            assert served.app.by_asgi == before + 2, line


# ── several requests, and a request under way ────────────────────────────────────────────────────────────────────────


async def test_requests_sent_ahead_are_each_answered_in_order() -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        bodies = [b"%d" % number for number in range(20)]
        for chunk in (bodies[:1], bodies[1:7], bodies[7:]):
            connection.writer.write(b"".join(map(post, chunk)))
            await turns(3)
        for body in bodies:
            assert b'{"echo":"%b"}' % body in await connection.response()


async def test_request_that_comes_while_one_runs_waits_for_it() -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        connection.writer.write(post(b"next") + post(b"third")[:40])
        await turns()
        assert [body for _, body, _ in served.app.service.asked] == [b"plain", b"wait"]
        served.app.service.go.set()
        assert b'"wait"' in await connection.response()
        assert b'"next"' in await connection.response()
        connection.writer.write(post(b"third")[40:])
        assert b'"third"' in await connection.response()


async def test_program_that_sends_without_end_while_one_runs_is_not_read_on() -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        connection.writer.write(post(b"x" * 150_000) * 100)
        await until(lambda: served.protocol.flow.read_paused)
        assert len(served.protocol._ahead) < 1_000_000
        served.app.service.go.set()
        assert b'"wait"' in await connection.response()
        for _ in range(100):
            assert b'"xxx' in await connection.response()


async def test_program_that_sends_byte_by_byte_while_one_runs_costs_no_more_with_each() -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        protocol, began = served.protocol, process_time()
        for _ in range(60_000):
            protocol.data_received(b"\r")
        assert process_time() - began < 2.0, "0.02 are meant; to add up all pieces at each takes 20"
        protocol._ahead.clear()
        served.app.service.go.set()
        assert b'"wait"' in await connection.response()


async def test_program_that_leaves_ends_its_request() -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        connection.writer.transport.abort()
        async with asyncio.timeout(DEADLINE):
            await served.app.service.cancelled.wait()


async def test_request_that_fails_unforeseen_closes_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"fault"))
        assert await connection.rest() == b""
    assert "nobody foresaw this" in caplog.text


# ── the connection's end ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_that_is_idle_behind_the_lane_is_closed_in_time() -> None:
    async with serving(timeout_keep_alive=30) as served:
        connection = await served.connect()
        for _ in range(3):
            await connection.ask(post(b"a"))
        assert served.app.by_asgi == 1
        protocol = served.protocol
        for seconds in (0, 29):
            protocol._idle_since -= seconds
            protocol.look_idle()  # as its timer does, one for many requests
            assert protocol in (protocol._idle_due or ())
        assert b'"a"' in await connection.ask(post(b"a"))
        protocol._idle_since -= 30
        protocol.look_idle()
        assert await connection.rest() == b""


async def test_timer_of_an_idle_connection_is_set() -> None:
    async with serving(timeout_keep_alive=0.02) as served:
        connection = await served.connect()
        connection.writer.write(post(b"a") * 2)
        assert (await connection.rest()).count(b'"a"') == 2


async def test_connection_that_was_closed_is_not_kept_until_it_would_have_been_looked_at() -> None:
    async with serving(timeout_keep_alive=30) as served:
        connection = await served.connect()
        for _ in range(2):
            await connection.ask(post(b"a"))
        due = served.protocol._idle_due
        assert due
        await connection.close()
        async with asyncio.timeout(DEADLINE):
            while served.server.server_state.connections:
                await turns(1)
        assert not due


async def test_connection_with_a_request_under_way_is_not_idle() -> None:
    async with serving(timeout_keep_alive=30) as served:
        connection = await served.connect()
        for _ in range(2):
            await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        served.protocol._idle_since -= 60
        served.protocol.look_idle()
        served.app.service.go.set()
        assert b'"wait"' in await connection.response()
        assert served.protocol in (served.protocol._idle_due or ())


async def test_shutdown_lets_a_request_finish_and_closes_behind_it() -> None:
    async with serving(timeout_graceful_shutdown=10) as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        idle = await served.connect()
        await idle.ask(post(b"plain"))
        await idle.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        ending = asyncio.ensure_future(served.server.shutdown())
        assert await idle.rest() == b""
        served.app.service.go.set()
        answer = await connection.rest()
        await ending
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b'{"echo":"wait"}')
        assert not served.server.server_state.tasks


async def test_shutdown_waits_for_no_request_whose_program_has_left() -> None:
    async with serving(timeout_graceful_shutdown=2 * DEADLINE) as served:
        assert served.app.lane is not None
        served.app.lane.quick = endless = Endless()  # type: ignore[assignment]
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"quick"))
        async with asyncio.timeout(DEADLINE):
            await endless.begun.wait()
            ending = asyncio.ensure_future(served.server.shutdown())
            await until(lambda: bool(served.server.server_state.tasks))
            connection.writer.transport.abort()
            await endless.cancelled.wait()
            await ending


async def test_request_that_outlasts_the_grace_is_cancelled() -> None:
    async with serving(timeout_graceful_shutdown=0.05) as served:
        connection = await served.connect()
        await connection.ask(post(b"plain"))
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        await served.server.shutdown()
        async with asyncio.timeout(DEADLINE):
            await served.app.service.cancelled.wait()
        assert await connection.rest() == b""


# ── where it is used ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_server_that_adds_headers_to_all_responses_has_no_lane() -> None:
    async with serving(headers=[("x-everywhere", "yes")]) as served:
        connection = await served.connect()
        for _ in range(2):
            assert b"x-everywhere: yes\r\n" in await connection.ask(post(b"a"))
        assert served.app.by_asgi == 2


async def test_application_without_an_endpoint_for_it_has_no_lane() -> None:
    async with serving() as served:
        served.app.lane = None
        connection = await served.connect()
        for _ in range(2):
            await connection.ask(post(b"a"))
        assert served.app.by_asgi == 2


@pytest.mark.parametrize("lost", sorted(lane._NEEDED))
def test_a_uvicorn_without_one_of_the_attributes_is_not_known(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        httptools_impl.HttpToolsProtocol, "__init__", setting((lane._NEEDED | guarded._NEEDED) - {lost})
    )
    assert not LaneProtocol.knows_uvicorn()


def setting(names: Iterable[str]) -> Any:
    """A constructor that sets these."""
    made: dict[str, Any] = {}
    exec("def __init__(self):\n" + "\n".join(f"    self.{name} = None" for name in names), made)
    return made["__init__"]


def test_the_gateways_own_server_has_the_lane() -> None:
    settings = load_settings(database_url="postgres://app:secret@127.0.0.1:1/app", listen={"port": 0})
    with bind_all(settings) as [sockets]:
        config = GatewayServer(settings, sockets).config
    config.load()
    assert config.http_protocol_class is LaneProtocol
