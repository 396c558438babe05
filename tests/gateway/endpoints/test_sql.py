"""/sql over ASGI and over sockets: the body is counted as it comes, and every answer has a request id."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from sqlhttp_gateway.endpoints.sql import SqlEndpoint
from sqlhttp_gateway.events import Answered, Event
from sqlhttp_gateway.neon.headers import ALLOWED_REQUEST_HEADERS, JSON_HEADERS
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.settings import RequestSettings
from tests.support.asgi import Call
from tests.support.gateway import Gateway, gateway_in_thread

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")
ID = "11111111-2222-4333-a444-555555555555"
MAX = 100
DEADLINE = 10.0  # seconds
GONE: Message = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class Service:
    """Answers each request with its body, and waits before that if it shall."""

    asked: list[tuple[Mapping[bytes, bytes], bytes, str]] = field(default_factory=list)
    wait: asyncio.Event | None = None
    was_cancelled: bool = False

    async def answer(
        self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "", url_query: bytes = b""
    ) -> Reply:
        self.asked.append((headers, body, peer))
        try:
            if self.wait is not None:
                await self.wait.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return Reply(200, JSON_HEADERS, ID, body)


class Endpoint:
    """An endpoint with all that it meets."""

    def __init__(self, *, max_bytes: int = MAX, read_timeout: float = 60.0) -> None:
        self.service = Service()
        self.events: list[Event] = []
        self.taken = 0
        """Messages that were received."""
        settings = RequestSettings(max_bytes=max_bytes, read_timeout=read_timeout)
        self.app = SqlEndpoint(self.service, settings, self.events.append)  # type: ignore[arg-type]

    async def post(
        self, *messages: Message, headers: tuple[tuple[bytes, bytes], ...] = (), method: str = "POST"
    ) -> list[Message]:
        """What is sent in answer; after `messages` nothing comes any more."""
        sent: list[Message] = []
        coming = iter(messages)

        async def receive() -> Message:
            message = next(coming, None)
            if message is None:
                await asyncio.Event().wait()
            self.taken += 1
            assert message is not None
            return message

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "/sql", "headers": list(headers), "client": ("10.0.0.7", 5)}
        async with asyncio.timeout(DEADLINE):
            await asyncio.create_task(self.app(scope, receive, send))
        return sent

    @property
    def kept(self) -> int:
        """How much is held of requests."""
        watch = self.app._watch
        return len(watch._deadlines) + len(watch._receives) + len(watch._listeners) + len(watch._verdicts)


def told(sent: list[Message]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a whole answer."""
    start, body = sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert len(dict(headers)) == len(headers)
    assert dict(headers)["content-length"] == str(len(body["body"]))
    assert not body.get("more_body")
    return start["status"], dict(headers), body["body"]


def refusal(sent: list[Message], endpoint: Endpoint) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a refusal, which has to be observed as it was told, and to leave nothing."""
    status, headers, body = told(sent)
    assert UUID.fullmatch(headers["neon-request-id"])
    assert headers["content-type"] == "application/json"
    [event] = endpoint.events
    assert isinstance(event, Answered)
    assert (event.status, event.request_id, event.bytes_out) == (status, headers["neon-request-id"], len(body))
    error: dict[str, Any] = json.loads(body)
    assert (error["code"], error["message"]) == (event.sqlstate, event.message)
    assert endpoint.kept == 0
    assert endpoint.service.asked == []
    return status, error


# ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "pieces",
    [[b"x" * MAX], [b"x", b"", b"x" * (MAX - 1)], [b"x" * 40, b"x" * 60, b""], [b"x"] * MAX, [b""]],
    ids=["whole", "empty piece between", "empty piece last", "one by one", "empty"],
)
async def test_body_is_put_together_from_its_pieces(pieces: list[bytes]) -> None:
    endpoint = Endpoint()
    messages = [piece(part, more=at < len(pieces) - 1) for at, part in enumerate(pieces)]
    status, headers, body = told(await endpoint.post(*messages))
    assert (status, headers["neon-request-id"], body) == (200, ID, b"".join(pieces))
    assert endpoint.service.asked == [({}, b"".join(pieces), "10.0.0.7")]
    assert endpoint.kept == 0


async def test_body_that_says_it_is_too_large_is_not_even_received() -> None:
    endpoint = Endpoint()
    sent = await endpoint.post(piece(b"x"), headers=((b"content-length", b"%d" % (MAX + 1)),))
    status, error = refusal(sent, endpoint)
    assert (status, error["message"]) == (413, f"request is too large (max is {MAX} bytes)")
    assert endpoint.taken == 0


@pytest.mark.parametrize(
    ("pieces", "taken"),
    [([b"x" * (MAX + 1)], 1), ([b"x" * 60, b"x" * 41], 2), ([b"x" * 60, b"x" * 40, b"x"], 3)],
)
async def test_body_that_grows_too_large_is_refused_while_it_still_comes(pieces: list[bytes], taken: int) -> None:
    endpoint = Endpoint()
    sent = await endpoint.post(*map(piece, pieces), *[piece(b"more")] * 10)
    assert refusal(sent, endpoint)[0] == 413
    assert endpoint.taken == taken


async def test_length_that_is_no_number_proves_nothing() -> None:
    endpoint = Endpoint()
    for length in (b"", b"-1", b"1e9", b"many"):
        assert told(await endpoint.post(piece(b"{}", more=False), headers=((b"content-length", length),)))[0] == 200


async def test_body_that_does_not_arrive_is_given_up() -> None:
    endpoint = Endpoint(read_timeout=0.01)
    status, error = refusal(await endpoint.post(piece(b'{"query"')), endpoint)
    assert status == 408
    assert error["message"] == "the body did not arrive within 0.01 s (request.read_timeout)"


@pytest.mark.parametrize("messages", [[GONE], [piece(b"{"), GONE]], ids=["at once", "in the middle"])
async def test_program_that_leaves_before_its_body_is_whole_is_asked_nothing(messages: list[Message]) -> None:
    endpoint = Endpoint()
    assert await endpoint.post(*messages) == []
    assert endpoint.service.asked == []
    assert endpoint.kept == 0


async def test_program_that_leaves_while_it_is_answered_ends_the_work() -> None:
    endpoint = Endpoint()
    endpoint.service.wait = asyncio.Event()
    assert await endpoint.post(piece(b"{}", more=False), GONE) == []
    assert endpoint.service.was_cancelled
    assert endpoint.kept == 0


async def test_request_that_was_ended_leaves_its_task_as_it_was() -> None:
    """The task may go on to other things: a cancellation that was dealt with must not count any more."""
    task = asyncio.current_task()
    assert task is not None
    for endpoint, messages in (
        (Endpoint(read_timeout=0.01), [piece(b"{")]),
        (Endpoint(), [piece(b"{}", more=False), GONE]),
    ):
        endpoint.service.wait = asyncio.Event()
        await Call(*messages).of(endpoint.app)
        assert task.cancelling() == 0


async def test_server_that_stops_is_not_taken_for_a_program_that_left() -> None:
    endpoint = Endpoint()
    endpoint.service.wait = asyncio.Event()
    task = asyncio.create_task(endpoint.post(piece(b"{}", more=False)))
    async with asyncio.timeout(10):
        while not endpoint.service.asked:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.service.was_cancelled


# ── the headers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["authorization", "neon-connection-string", "origin", "idempotency-key"])
async def test_header_that_says_who_asks_may_not_come_twice(name: str) -> None:
    endpoint = Endpoint()
    headers = ((name.encode(), b"one"), (b"accept", b"*/*"), (name.encode(), b"two"))
    status, error = refusal(await endpoint.post(piece(b"{}", more=False), headers=headers), endpoint)
    assert (status, error["message"]) == (400, f"the header {name} came twice")


async def test_header_that_says_nothing_of_that_may_come_twice() -> None:
    endpoint = Endpoint()
    headers = ((b"accept", b"a"), (b"accept", b"b"))
    assert told(await endpoint.post(piece(b"{}", more=False), headers=headers))[0] == 200


async def test_preflight_is_answered_without_the_service() -> None:
    endpoint = Endpoint()
    status, headers, body = told(await endpoint.post(method="OPTIONS"))
    assert (status, body) == (200, b"")
    assert UUID.fullmatch(headers["neon-request-id"])
    assert headers["access-control-allow-origin"] == "*"
    assert headers["allow"] == "OPTIONS, POST, QUERY"
    assert headers["access-control-allow-headers"].split(", ") == list(ALLOWED_REQUEST_HEADERS)
    assert endpoint.service.asked == []
    assert endpoint.events == []


# ── over a socket, with no Postgres behind ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def alone() -> Iterator[Gateway]:
    """A gateway that small bodies are too large for, with nobody at its target's port."""
    settings = {"request": {"max_bytes": MAX}, "watch": {"interval": 0}, "drain": {"grace": 0}}
    with gateway_in_thread("postgres://app:secret@127.0.0.1:1/app", settings) as gateway:
        yield gateway


@asynccontextmanager
async def connection(gateway: Gateway) -> AsyncIterator["Socket"]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(DEADLINE):
            yield Socket(reader, writer)
    finally:
        writer.close()


class Socket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), headers, await self._reader.readexactly(int(headers["content-length"]))


CHUNKED = b"POST /sql HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_chunks_that_grow_too_large_are_refused_and_the_connection_goes_on(alone: Gateway) -> None:
    async with connection(alone) as socket:
        socket.send(CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n1\r\nx\r\n")
        status, headers, body = await socket.answer()
        assert (status, json.loads(body)["code"]) == (413, "54000")
        assert UUID.fullmatch(headers["neon-request-id"])
        socket.send(b"5\r\nafter\r\n0\r\n\r\nOPTIONS /sql HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await socket.answer())[0] == 200


async def test_body_in_chunks_is_read_as_one(alone: Gateway) -> None:
    async with connection(alone) as socket:
        socket.send(CHUNKED + b'8\r\n{"query"\r\n8\r\n:"SELECT\r\n1\r\n \r\n3\r\n1"}\r\n0\r\n\r\n')
        status, _, body = await socket.answer()
        assert (status, json.loads(body)["code"]) == (400, "08001"), "the connection string is what it lacks"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /sql HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /sql HTTP/1.1\r\nHost: g\r\nContent-Length: 999\r\n\r\n", 413),
        (
            b"POST /sql HTTP/1.1\r\nHost: g\r\nContent-Length: 20\r\n"
            b'Neon-Connection-String: postgres://ada:x@db/app\r\n\r\n{"query":"SELECT 1"}',
            500,
        ),
        (b"OPTIONS /sql HTTP/1.1\r\nHost: g\r\n\r\n", 200),
        (b"GET /sql HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (b"POST /other HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}", 400),
    ],
    ids=["no connection string", "too large", "no Postgres", "preflight", "GET", "another path"],
)
async def test_every_answer_has_a_request_id_of_its_own(alone: Gateway, request_: bytes, status: int) -> None:
    seen = set()
    async with connection(alone) as socket:
        for _ in range(2):
            socket.send(request_)
            got, headers, _ = await socket.answer()
            assert got == status
            assert UUID.fullmatch(headers["neon-request-id"])
            seen.add(headers["neon-request-id"])
            if status == 413:  # its body has not come, and what follows would be taken for it
                break
    assert len(seen) == (1 if status == 413 else 2)
