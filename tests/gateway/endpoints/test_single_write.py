"""A reply in one write: whole on the socket, the same as by plain ASGI, and never taken where it would be wrong.

The server is a uvicorn set up as the gateway's own, around an application that answers what the test wants.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

from sqlhttp_gateway import errors
from sqlhttp_gateway.endpoints import single_write
from sqlhttp_gateway.endpoints.single_write import kept_bytes, plain_bytes, reply_bytes, send_reply
from sqlhttp_gateway.neon.caching import AGE, CACHE_STATUS
from sqlhttp_gateway.neon.headers import CORS_PREFLIGHT, JSON_HEADERS
from sqlhttp_gateway.reply import Reply, error_reply
from sqlhttp_gateway.serve import GatewayServer
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.sockets import bind_all
from sqlhttp_gateway.sql.hits import Hit

ID = "11111111-2222-4333-a444-555555555555"
REPLY = Reply(200, JSON_HEADERS, ID, b'{"rows":[]}')
TIMED = REPLY._replace(timing=b"queue;dur=0.1")
REFUSED = error_reply(errors.WaitTimeout("no connection within 5 s", retry_after=2), ID)
REQUEST = b"POST /sql HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}"
CLOSING = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
DEADLINE = 10.0  # seconds


class Recorded:
    """A transport that remembers what was written."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Server:
    """A running uvicorn; `writes` is what it wrote for all requests so far."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.writes: list[bytes] = []
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        cycle: Any = send.__self__  # type: ignore[attr-defined]
        cycle.transport = Recorded(cycle.transport, self.writes)
        await send_reply(send, self.reply)

    async def exchange(self, *requests: bytes, until: int | None = 1) -> bytes:
        """What comes back for these, sent in one go: so many bodies, or with None all up to the connection's end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"".join(requests))
            async with asyncio.timeout(DEADLINE):
                if until is None:
                    return await reader.read()
                answer = b""
                while answer.count(self.reply.body) < until:
                    piece = await reader.read(65536)
                    assert piece, "the connection ended early"
                    answer += piece
                return answer
        finally:
            writer.close()


@asynccontextmanager
async def serving(reply: Reply, **options: Any) -> AsyncIterator[Server]:
    """A server for the length of the block; `options` are uvicorn's."""
    app = Server(reply)
    config = uvicorn.Config(
        app,
        **{
            "port": 0,
            "http": "httptools",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "date_header": False,
            **options,
        },
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    await server.on_tick(0)  # when uvicorn makes the headers of all responses
    app.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        await server.shutdown()


def parts(answer: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """The status line, the headers in the order of their names, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return first, sorted(headers), body


async def by_asgi(reply: Reply) -> list[Message]:
    """What a server that is not known is sent."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await send_reply(send, reply)
    return messages


# ── on the socket ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reply_is_one_whole_response_in_one_write() -> None:
    async with serving(REPLY) as server:
        answer = await server.exchange(REQUEST)
        assert answer == (
            b"HTTP/1.1 200 OK\r\n"
            b"content-type: application/json\r\n"
            b"access-control-allow-origin: *\r\n"
            b"access-control-expose-headers: *\r\n"
            b"neon-request-id: 11111111-2222-4333-a444-555555555555\r\n"
            b"content-length: 11\r\n"
            b"\r\n"
            b'{"rows":[]}'
        )
        assert server.writes == [answer]


@pytest.mark.parametrize(
    "reply",
    [REPLY, TIMED, REFUSED, Reply(200, CORS_PREFLIGHT, ID, b""), REPLY._replace(body=b"x" * 3_000_000)],
    ids=["result", "with its times", "refusal", "preflight", "large"],
)
async def test_both_ways_tell_the_same(reply: Reply) -> None:
    start, body = await by_asgi(reply)
    async with serving(reply) as server:
        fast = await server.exchange(REQUEST) if reply.body else await server.exchange(REQUEST, CLOSING, until=None)
        slow = await server.exchange(CLOSING, until=None)
    if not reply.body:
        fast = fast[: fast.index(b"\r\n\r\n") + 4]
    status, headers, content = parts(fast)
    assert status == b"HTTP/1.1 %d %b" % (start["status"], HTTPStatus(start["status"]).phrase.encode())
    assert headers == sorted(start["headers"])
    assert content == body["body"] == reply.body
    assert len(dict(headers)) == len(headers)
    assert parts(slow) == (status, sorted([*headers, (b"connection", b"close")]), content)


async def test_connection_is_kept_for_the_next_request() -> None:
    async with serving(REPLY) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(DEADLINE):
            for _ in range(3):
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK")
                assert await reader.readexactly(len(REPLY.body)) == REPLY.body
        writer.close()
        assert len(server.writes) == 3


async def test_requests_sent_ahead_are_each_answered() -> None:
    async with serving(REPLY) as server:
        answer = await server.exchange(*[REQUEST] * 5, until=5)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 5
    assert len(server.writes) == 5


async def test_connection_that_is_idle_afterwards_is_closed_in_time() -> None:
    """uvicorn arms its timer only when it was told that the response is over."""
    async with serving(REPLY, timeout_keep_alive=0.05) as server:
        answer = await server.exchange(REQUEST, until=None)
    assert answer.endswith(REPLY.body)
    assert len(server.writes) == 1


@pytest.mark.parametrize(
    "last", [CLOSING, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0")], ids=["Connection: close", "HTTP/1.0"]
)
async def test_connection_that_shall_close_is_closed_and_told_so(last: bytes) -> None:
    async with serving(REPLY) as server:
        answer = await server.exchange(REQUEST, last, until=None)
    assert answer.count(REPLY.body) == 2
    assert answer.count(b"connection: close\r\n") == 1
    assert len(server.writes) == 1 + 2, "the first in one write; the last by uvicorn's own way, which knows to close"


async def test_answer_to_head_has_no_body_that_could_be_taken_for_the_next_answer() -> None:
    async with serving(REPLY) as server:
        answer = await server.exchange(REQUEST.replace(b"POST", b"HEAD"), REQUEST)
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(REPLY.body)


async def test_headers_that_the_server_adds_to_all_responses_are_not_lost() -> None:
    async with serving(REPLY, headers=[("x-everywhere", "yes")]) as server:
        answer = await server.exchange(REQUEST)
    assert b"x-everywhere: yes\r\n" in answer


async def test_program_that_does_not_read_is_waited_for() -> None:
    """More than its socket takes must not pile up in memory with each reply."""
    reply = REPLY._replace(body=b"x" * 10_000_000)
    async with serving(reply) as server:
        answer = await server.exchange(REQUEST, REQUEST, CLOSING, until=None)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.count(reply.body) == 3


# ── the server that this was written for ─────────────────────────────────────────────────────────────────────────────


def test_the_installed_uvicorn_is_one_that_takes_single_writes() -> None:
    """It would be slower and nobody would notice: see what uvicorn changed before this is changed."""
    assert single_write._CYCLE is httptools_impl.RequestResponseCycle
    names = set(httptools_impl.RequestResponseCycle.__init__.__code__.co_names)
    assert names >= single_write._NEEDED, f"gone from uvicorn: {sorted(single_write._NEEDED - names)}"


@pytest.mark.uncompiled
def test_all_that_is_touched_of_the_cycle_is_checked() -> None:
    code: list[Any] = [send_reply.__code__, single_write._is_usual.__code__]
    touched = {name for each in code for name in each.co_names} - set(dir(Reply))
    outside = {"write", "write_paused", "set", "append", "encode", "getattr", "isinstance", "bool", "len", "Any"}
    globals_ = set(vars(single_write))
    assert touched - outside - globals_ == single_write._NEEDED


def test_the_gateways_own_server_is_set_up_for_single_writes() -> None:
    settings = load_settings(database_url="postgres://app:secret@127.0.0.1:1/app", listen={"port": 0})
    with bind_all(settings) as [sockets]:
        config = GatewayServer(settings, sockets).config
    config.load()
    assert issubclass(config.http_protocol_class, httptools_impl.HttpToolsProtocol)
    assert config.encoded_headers == [], "a header on all responses would send each of them in two writes"


@pytest.mark.parametrize("lost", sorted(single_write._NEEDED))
def test_a_uvicorn_without_one_of_the_attributes_is_left_alone(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "\n".join(f"    self.{name} = None" for name in sorted(single_write._NEEDED - {lost}))
    made: dict[str, Any] = {}
    exec(f"def __init__(self):\n{body}", made)
    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", type("Other", (), {"__init__": made["__init__"]}))
    assert single_write._cycle_type() is None


def cycle(*, change: Callable[[Any], None] = lambda cycle: None) -> tuple[Any, list[bytes]]:
    """uvicorn's own, over a transport that only remembers."""
    writes: list[bytes] = []

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            writes.append(bytes(data))

        def close(self) -> None:
            pass

    transport = Transport()
    made: Any = httptools_impl.RequestResponseCycle(
        scope={"type": "http", "method": "POST"},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=None,  # type: ignore[arg-type]
        access_logger=None,  # type: ignore[arg-type]
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=True,
        keep_alive=True,
        on_response=lambda: None,
    )
    change(made)
    return made, writes


async def test_cycle_is_left_as_its_own_send_would_leave_it() -> None:
    fast, _ = cycle()
    slow, _ = cycle()
    await send_reply(fast.send, REPLY)
    await send_reply(lambda message: slow.send(message), REPLY)
    for name in ("response_started", "response_complete", "waiting_for_100_continue", "keep_alive", "disconnected"):
        assert getattr(fast, name) == getattr(slow, name), name
    assert fast.message_event.is_set()
    assert await fast.receive() == {"type": "http.disconnect"}


async def test_program_that_has_left_is_sent_nothing() -> None:
    gone, writes = cycle(change=lambda cycle: setattr(cycle, "disconnected", True))
    await send_reply(gone.send, REPLY)
    assert writes == []


async def test_full_socket_is_left_to_the_servers_own_patience() -> None:
    full, writes = cycle(change=lambda cycle: cycle.flow.pause_writing())
    sending = asyncio.ensure_future(send_reply(full.send, REPLY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert writes == []
    full.flow.resume_writing()
    await sending
    assert b"".join(writes).endswith(REPLY.body)


def test_every_error_has_a_status_line() -> None:
    statuses = {
        kind.status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError)
    }
    assert statuses <= set(single_write._STATUS_LINES)
    assert single_write._STATUS_LINES[503] == b"HTTP/1.1 503 Service Unavailable\r\n"


@pytest.mark.parametrize("timing", [b"", b"queue;dur=0.1"])
def test_plain_response_is_that_of_the_reply_it_stands_for(timing: bytes) -> None:
    for body in (b"", b"{}", b"x" * 1000):
        assert plain_bytes(ID, timing, body) == reply_bytes(Reply(200, JSON_HEADERS, ID, body, timing))


def test_response_of_the_cache_is_that_of_the_reply_it_stands_for() -> None:
    headers = (*JSON_HEADERS, (CACHE_STATUS, b"sqlhttp; hit; ttl=9"), (AGE, b"7"))
    for body in (b"", b"{}", b"x" * 1000):
        assert kept_bytes(ID, Hit(b"sqlhttp; hit; ttl=9", 7, body)) == reply_bytes(Reply(200, headers, ID, body))
