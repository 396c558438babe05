"""What strangers may do to the HTTP port and what it gets, on a new connection and on one that has been used.

Most shapes are requests whose length, host or head two servers could read differently; behind many of them stands a
request that must not be answered (`SMUGGLED`).
"""

import asyncio
import gc
import re
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sqlhttp_gateway.endpoints import connections
from sqlhttp_gateway.endpoints import guarded as guard
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.guarded import GuardedProtocol
from sqlhttp_gateway.endpoints.head_rules import MOST_HEADERS, HeadLimits
from sqlhttp_gateway.endpoints.lane import LaneProtocol
from sqlhttp_gateway.events import Answered, Event
from sqlhttp_gateway.settings import RequestSettings
from tests.gateway.endpoints.test_lane import MAX, Connection, Served, post, serving, setting
from tests.support.clock import fake_time, turns
from tests.support.leases import until

HEAD = b"POST /sql HTTP/1.1\r\nHost: gateway\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: 2\r\n\r\nab"
SMUGGLED = post(b"smuggled")
LIMITS = HeadLimits()


@asynccontextmanager
async def guarded(**settings: Any) -> AsyncIterator[Served]:
    """A server whose `request` settings are these."""
    async with serving() as served:
        assert served.app.lane is not None
        served.app.lane.reconfigure(RequestSettings(max_bytes=MAX, **settings))
        yield served


async def everything(connection: Connection) -> bytes:
    """All that still comes."""
    try:
        return await connection.rest()
    except ConnectionError:
        return b""


async def closed(connection: Connection) -> bool:
    """Whether nothing more came before the end."""
    return await everything(connection) == b""


# ── shapes that two servers could read differently ───────────────────────────────────────────────────────────────────

NO_HTTP = "this is no HTTP/1.1 request: "
CODED = "transfer-encoding must be chunked and nothing else, in HTTP/1.1"
REFUSED = {
    "length twice": (HEAD + b"Content-Length: 2\r\n" + LENGTH, f"{NO_HTTP}Duplicate Content-Length"),
    "lengths that differ": (
        HEAD + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\nab" + SMUGGLED,
        f"{NO_HTTP}Duplicate Content-Length",
    ),
    "lengths in a list": (HEAD + b"Content-Length: 2, 2\r\n\r\nab", f"{NO_HTTP}Invalid character in Content-Length"),
    "length below 0": (HEAD + b"Content-Length: -1\r\n\r\nab", f"{NO_HTTP}Invalid character in Content-Length"),
    "length with a sign": (HEAD + b"Content-Length: +2\r\n\r\nab", f"{NO_HTTP}Invalid character in Content-Length"),
    "length in hex": (HEAD + b"Content-Length: 0x2\r\n\r\nab", f"{NO_HTTP}Invalid character in Content-Length"),
    "length of two numbers": (HEAD + b"Content-Length: 1 2\r\n\r\nab", f"{NO_HTTP}Invalid character in Content-Length"),
    "length beyond 64 bits": (
        HEAD + b"Content-Length: 18446744073709551618\r\n\r\nab",
        f"{NO_HTTP}Content-Length overflow",
    ),
    "length of nothing": (HEAD + b"Content-Length: \r\n\r\nab", f"{NO_HTTP}Empty Content-Length"),
    "length, and a space before its colon": (
        HEAD + b"Content-Length : 2\r\n\r\nab",
        f"{NO_HTTP}Invalid header field char",
    ),
    "length before chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        f"{NO_HTTP}Transfer-Encoding can't be present with Content-Length",
    ),
    "chunks before length": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        f"{NO_HTTP}Content-Length can't be present with Transfer-Encoding",
    ),
    "an encoding like chunked": (
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + SMUGGLED,
        CODED,
    ),
    "chunked, then identity": (
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Invalid `Transfer-Encoding` header value",
    ),
    "identity, then chunked": (
        HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + SMUGGLED,
        CODED,
    ),
    "compressed, then chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", CODED),
    "chunked in quotes": (HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n2\r\nab\r\n0\r\n\r\n', CODED),
    "chunked behind a vertical tab": (
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Invalid header value char",
    ),
    "chunked, and a space before its colon": (
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Invalid header field char",
    ),
    "chunked on a line of its own": (
        HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Invalid header value char",
    ),
    "chunked twice": (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Invalid `Transfer-Encoding` header value",
    ),
    "chunked in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"2\r\nab\r\n0\r\n\r\n", CODED),
    "a header folded": (
        HEAD + b"X-Long: a\r\n b\r\n" + LENGTH,
        f"{NO_HTTP}Unexpected whitespace after header value",
    ),
    "lines that end with LF": (
        (HEAD + LENGTH).replace(b"\r\n", b"\n"),
        f"{NO_HTTP}Expected CRLF after version",
    ),
    "one line that ends with LF": (
        HEAD + b"X-A: a\nContent-Length: 90\r\n" + LENGTH,
        f"{NO_HTTP}Missing expected CR after header value",
    ),
    "one line that ends with CR": (
        HEAD + b"X-A: a\rContent-Length: 90\r\n" + LENGTH,
        f"{NO_HTTP}Missing expected LF after header value",
    ),
    "a head that ends with LF": (HEAD + b"Content-Length: 2\r\n\nab", f"{NO_HTTP}Invalid header field char"),
    "a chunk that ends with LF": (CHUNKED + b"2\nab\n0\n\n", f"{NO_HTTP}Missing expected CR after chunk size"),
    "an extension with LF in it": (
        CHUNKED + b"2;a\nb\r\nab\r\n0\r\n\r\n",
        f"{NO_HTTP}Missing expected CR after chunk extension name",
    ),
    "a chunk's size beyond 64 bits": (
        CHUNKED + b"10000000000000002\r\nab\r\n0\r\n\r\n" + SMUGGLED,
        f"{NO_HTTP}Chunk size overflow",
    ),
    "a chunk's size below 0": (CHUNKED + b"-2\r\nab\r\n0\r\n\r\n", f"{NO_HTTP}Invalid character in chunk size"),
    "a chunk's size with 0x": (CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n", f"{NO_HTTP}Invalid character in chunk size"),
    "a space behind a chunk's size": (CHUNKED + b"2 \r\nab\r\n0\r\n\r\n", f"{NO_HTTP}Invalid character in chunk size"),
    "more in a chunk than it says": (
        CHUNKED + b"2\r\nabGET /\r\n0\r\n\r\n",
        f"{NO_HTTP}Expected LF after chunk data",
    ),
    "host twice": (HEAD + b"Host: other\r\n" + LENGTH, "the header host came twice"),
    "no host": (b"POST /sql HTTP/1.1\r\n" + LENGTH, "the header host is missing"),
    "a target with another host": (
        HEAD.replace(b"/sql", b"http://other/sql") + LENGTH,
        "the request's target names another host than the header host",
    ),
    "a target that is only a host": (
        HEAD.replace(b"/sql", b"other:80") + LENGTH,
        f"{NO_HTTP}Unexpected char in url schema",
    ),
    "a target without a path": (
        HEAD.replace(b"/sql", b"http://gateway") + LENGTH,
        "the request's target cannot be read",
    ),
    "CONNECT": (
        b"CONNECT 127.0.0.1:5432 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "the gateway is no proxy: CONNECT is not possible",
    ),
    "NUL in a header": (HEAD + b"X-A: a\0b\r\n" + LENGTH, f"{NO_HTTP}Invalid header value char"),
    "NUL in a header's name": (HEAD + b"X\0A: a\r\n" + LENGTH, f"{NO_HTTP}Invalid header token"),
    "NUL in the path": (HEAD.replace(b"/sql", b"/s\0ql") + LENGTH, f"{NO_HTTP}Invalid char in url path"),
    "a byte above 127 in the path": (HEAD.replace(b"/sql", b"/\xffsql") + LENGTH, f"{NO_HTTP}Invalid char in url path"),
    "a control character in a header": (HEAD + b"X-A: a\x01b\r\n" + LENGTH, f"{NO_HTTP}Invalid header value char"),
    "a header without a name": (HEAD + b": a\r\n" + LENGTH, f"{NO_HTTP}Invalid header token"),
    "a header without a colon": (HEAD + b"XYZ\r\n" + LENGTH, f"{NO_HTTP}Invalid header token"),
    "a space before the first header": (
        b"POST /sql HTTP/1.1\r\n Host: gateway\r\n" + LENGTH,
        f"{NO_HTTP}Unexpected space after start line",
    ),
    "HTTP/0.9": (b"POST /sql\r\n\r\n", "the version of HTTP is 0.9, and must be 1.1 or 1.0"),
    "HTTP/2.0 in words": (
        HEAD.replace(b"1.1", b"2.0") + LENGTH,
        "the version of HTTP is 2.0, and must be 1.1 or 1.0",
    ),
    "HTTP/1.2": (HEAD.replace(b"1.1", b"1.2") + LENGTH, f"{NO_HTTP}Invalid HTTP version"),
    "HTTP/2's first words": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", f"{NO_HTTP}Pause on PRI/Upgrade"),
    "a method in small letters": (HEAD.replace(b"POST", b"post") + LENGTH, f"{NO_HTTP}Invalid method encountered"),
    "a tab behind the method": (HEAD.replace(b"POST ", b"POST\t") + LENGTH, f"{NO_HTTP}Expected space after method"),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", f"{NO_HTTP}Invalid method encountered"),
    "Postgres's wire": (b"\0\0\0\x08\x04\xd2\x16\x2f", f"{NO_HTTP}Invalid method encountered"),
}
TAKEN = {
    "an underscore for a hyphen": (HEAD + b"Content_Length: 90\r\n" + LENGTH, b"ab"),
    "chunks": (CHUNKED + b"2\r\nab\r\n0\r\n\r\n", b"ab"),
    "chunked behind a tab, in capitals": (
        HEAD + b"Transfer-Encoding:\tCHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"ab",
    ),
    "chunks with extensions": (CHUNKED + b'2;a=b;c="d"\r\nab\r\n0\r\n\r\n', b"ab"),
    "a target with the same host": (HEAD.replace(b"/sql", b"http://Gateway:80/sql") + LENGTH, b"ab"),
    "HTTP/1.0 without a host": (b"POST /sql HTTP/1.0\r\n" + LENGTH, b"ab"),
    "empty lines in front": (b"\r\n\r\n" + HEAD + LENGTH, b"ab"),
    "a length that is a header of the connection's": (HEAD + b"Connection: Content-Length\r\n" + LENGTH, b"ab"),
    "a body in a compression that nobody undoes": (HEAD + b"Content-Encoding: gzip\r\n" + LENGTH, b"ab"),
    "an Upgrade to HTTP/2, which is passed over": (
        HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + LENGTH,
        b"ab",
    ),
    "the same in chunks": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: anything\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"ab",
    ),
}


@pytest.mark.parametrize("used", ["new connection", "used connection"])
async def test_what_two_servers_could_read_differently_is_refused_and_the_connection_closed(used: str) -> None:
    async with guarded() as served:
        for name, (shape, says) in REFUSED.items():
            connection = await served.connect()
            if used == "used connection":
                await connection.ask(post(b"before"))
                await connection.ask(post(b"by the lane"))
            served.app.service.asked.clear()
            connection.writer.write(shape)
            answer = await everything(connection)
            assert answer.startswith(b"HTTP/1.1 400 "), name
            assert answer.count(b"HTTP/1.1") == 1 + answer.count(b"no HTTP/1.1 request") + answer.count(b", in HTTP"), (
                name
            )
            assert b'{"message":"%b","code":"08P01"' % says.encode() in answer, (name, answer)
            assert served.app.service.asked == [], name


@pytest.mark.parametrize("used", ["new connection", "used connection"])
async def test_what_has_one_meaning_only_is_answered_and_so_is_what_follows(used: str) -> None:
    async with guarded() as served:
        for name, (shape, body) in TAKEN.items():
            connection = await served.connect()
            if used == "used connection":
                await connection.ask(post(b"before"))
                await connection.ask(post(b"by the lane"))
            served.app.service.asked.clear()
            answer = await connection.ask(shape)
            assert answer.endswith(b'{"echo":"ab"}'), name
            if b"HTTP/1.0" not in shape:
                assert (await connection.ask(post(b"next"))).endswith(b'{"echo":"next"}'), name
            assert [asked for _, asked, _ in served.app.service.asked] == [body, b"next"][: 1 + (b"/1.0" not in shape)]


async def test_the_body_behind_an_upgrade_is_a_body_however_late_it_comes() -> None:
    """Else whoever controls a body controls a request of its own, behind a proxy that let the Upgrade pass."""
    async with guarded() as served:
        connection = await served.connect()
        head = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
        await connection.ask(head, SMUGGLED)
        assert [body for _, body, _ in served.app.service.asked] == [SMUGGLED]


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Connection: close, Upgrade\r\n",
        HEAD + b"Connection: Upgrade\r\nConnection: Close\r\n",
        b"POST /sql HTTP/1.0\r\nConnection: Upgrade\r\n",
    ],
)
async def test_a_connection_that_shall_end_does_so_beside_an_upgrade_that_is_passed_over(head: bytes) -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(head + b"Upgrade: h2c\r\nContent-Length: 2\r\n\r\nab")
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'{"echo":"ab"}')


async def test_headers_behind_a_body_are_no_headers() -> None:
    """A proxy that has judged the head may pass trailers on unread."""
    async with guarded() as served:
        connection = await served.connect()
        trailers = b"Neon-Connection-String: postgres://other\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
        await connection.ask(CHUNKED + b"2\r\nab\r\n0\r\n" + trailers)
        [(headers, body, _)] = served.app.service.asked
        assert (sorted(headers), body) == ([b"host", b"transfer-encoding"], b"ab")


# ── an error in its turn ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("running", [b"wait", b"a"])
async def test_the_answer_to_a_good_request_comes_before_the_refusal_of_the_next(running: bytes) -> None:
    """A write that ran must not be told as refused."""
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(post(running) + b"NONSENSE\r\n\r\n" + SMUGGLED)
        if running == b"wait":
            await served.app.service.waiting.wait()
            served.app.service.go.set()
        answer = await everything(connection)
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"400"]
        assert [body for _, body, _ in served.app.service.asked] == [running]


async def test_a_body_that_breaks_off_behind_others_is_refused_in_its_turn() -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(post(b"wait") + post(b"second") + CHUNKED + b"2\r\nab\r\nnonsense")
        await served.app.service.waiting.wait()
        served.app.service.go.set()
        answer = await everything(connection)
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"200", b"400"]
        assert [body for _, body, _ in served.app.service.asked] == [b"wait", b"second"]


async def test_an_upgrade_does_not_overtake_an_answer() -> None:
    async with guarded() as served:
        connection = await served.connect()
        upgrade = (
            b"GET /v2 HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        connection.writer.write(post(b"wait") + upgrade)
        await served.app.service.waiting.wait()
        served.app.service.go.set()
        answer = await everything(connection)
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"400"]


async def test_nothing_is_read_behind_a_refusal() -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(post(b"wait") + b"NONSENSE\r\n\r\n")
        await served.app.service.waiting.wait()
        connection.writer.write(SMUGGLED)
        await connection.writer.drain()
        served.app.service.go.set()
        assert re.findall(rb"HTTP/1.1 (\d+) ", await everything(connection)) == [b"200", b"400"]
        assert [body for _, body, _ in served.app.service.asked] == [b"wait"]


# ── how long and how large ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Long: %b\r\n" % (b"x" * LIMITS.max_bytes),
        b"X-Half: %b\r\n" % (b"x" * (LIMITS.max_bytes // 2)) * 2,
        b"X: y\r\n" * (MOST_HEADERS + 1),
        b"X-%b: y\r\n" % (b"x" * LIMITS.max_bytes),
    ],
    ids=["one that is too long", "two that are too long together", "too many", "a name that is too long"],
)
async def test_a_head_above_its_limits_is_refused(lines: bytes) -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(HEAD + lines + LENGTH)
        assert (await everything(connection)).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert served.app.service.asked == []


async def test_a_head_at_its_limits_is_taken() -> None:
    async with guarded() as served:
        connection = await served.connect()
        head = HEAD + b"X-Long: %b\r\nContent-Length: 2\r\n"
        line = b"x" * (LIMITS.max_bytes - len(head % b"") + len(b"POST  HTTP/1.1\r\n"))
        assert (await connection.ask(head % line + b"\r\nab")).startswith(b"HTTP/1.1 200 ")
        assert (await connection.ask(HEAD + b"X: y\r\n" * (MOST_HEADERS - 2) + LENGTH)).startswith(b"HTTP/1.1 200 ")
        connection.writer.write(head % (line + b"x") + b"\r\nab")
        assert (await everything(connection)).startswith(b"HTTP/1.1 431 ")


async def test_a_lowered_limit_holds_for_heads_that_the_lane_knows() -> None:
    async with guarded() as served:
        connections = [await served.connect() for _ in range(2)]
        large = post(b"a", b"X-Long: %b" % (b"x" * 4000))
        for connection, request in zip(connections, (large, post(b"a")), strict=True):
            for _ in range(2):
                assert (await connection.ask(request)).startswith(b"HTTP/1.1 200 ")
        assert served.app.by_asgi == 2
        assert served.app.lane is not None
        served.app.lane.reconfigure(RequestSettings(max_bytes=MAX, max_head_bytes=4000))
        connections[0].writer.write(large)
        assert (await everything(connections[0])).startswith(b"HTTP/1.1 431 ")
        for _ in range(3):
            assert (await connections[1].ask(post(b"a"))).startswith(b"HTTP/1.1 200 ")
        assert served.app.by_asgi == 3, "the small one was judged once more, and is the lane's again"


async def test_a_path_without_end_is_refused() -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(b"POST /" + b"x" * 3 * LIMITS.max_bytes)
        assert (await everything(connection)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "endless",
    [b"2;" + b"x" * MAX, b"0\r\nX-Trailer: " + b"x" * MAX, b"0\r\n" + b"X: y\r\n" * (MAX // 6), b"00000000" * MAX],
    ids=["an extension", "a trailer", "trailers", "zeros before a chunk's size"],
)
async def test_what_stands_between_and_behind_chunks_has_an_end(endless: bytes) -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(CHUNKED + endless[:MAX])
        assert re.match(rb"HTTP/1.1 4(13|00) ", await everything(connection))
        assert served.app.service.asked == []


async def test_a_body_in_chunks_of_one_byte_is_taken() -> None:
    async with guarded() as served:
        connection = await served.connect()
        answer = await connection.ask(CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
        assert answer.endswith(b'{"echo":"%b"}' % (b"a" * 50_000))


async def test_a_head_that_trickles_in_is_given_up() -> None:
    async with guarded(head_timeout=0.1) as served:
        connection = await served.connect()
        trickled = asyncio.get_running_loop().create_task(_trickle(connection, HEAD + b"X-Slow: " + b"x" * 1000))
        answer = await everything(connection)
        trickled.cancel()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"the head of the request did not arrive within 0.1 s (request.head_timeout)" in answer


async def _trickle(connection: Connection, data: bytes) -> None:
    for each in data:
        connection.writer.write(bytes([each]))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("first", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_a_connection_that_asks_nothing_is_closed_without_a_word(first: bytes) -> None:
    async with guarded(head_timeout=0.05) as served:
        connection = await served.connect()
        connection.writer.write(first)
        assert await closed(connection)


async def test_an_empty_line_on_a_used_connection_does_not_keep_it_for_ever() -> None:
    async with guarded(head_timeout=0.05) as served:
        connection = await served.connect()
        await connection.ask(post(b"a"))
        connection.writer.write(b"\r\n")
        assert await closed(connection)


async def test_an_empty_line_does_not_end_the_request_behind_it() -> None:
    async with guarded(head_timeout=0.05) as served:
        connection = await served.connect()
        await connection.ask(post(b"wait2"))
        connection.writer.write(b"\r\n")
        await turns()
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        with fake_time() as clock:
            clock.advance(1)  # longer than the head may take
            await turns()
        served.app.service.go.set()
        assert (await connection.response()).endswith(b'{"echo":"wait"}')


async def test_the_rest_of_a_body_that_was_answered_early_is_waited_for_with_a_limit() -> None:
    async with guarded(head_timeout=0.05) as served:
        connection = await served.connect()
        connection.writer.write(HEAD + b"Content-Length: %d\r\n\r\nab" % (MAX + 1))
        assert (await connection.response()).startswith(b"HTTP/1.1 413 ")
        assert await closed(connection)


async def test_the_rest_of_a_body_that_was_answered_early_is_read_past() -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (MAX + 1))
        assert (await connection.response()).startswith(b"HTTP/1.1 413 ")
        connection.writer.write(b"x" * (MAX + 1))
        assert (await connection.ask(post(b"next"))).endswith(b'{"echo":"next"}')


async def test_a_request_that_runs_is_not_bounded_by_its_heads_time() -> None:
    async with guarded(head_timeout=0.05) as served:
        connection = await served.connect()
        connection.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        with fake_time() as clock:
            clock.advance(0.1)  # longer than the head may take
            await turns()
        served.app.service.go.set()
        assert (await connection.response()).endswith(b'{"echo":"wait"}')


async def test_of_many_requests_sent_ahead_few_are_held_and_all_are_answered_in_order() -> None:
    count = 5000
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(post(b"wait") + b"".join(post(b"%d" % each) for each in range(count)))
        await served.app.service.waiting.wait()
        await connection.writer.drain()
        await asyncio.sleep(0)
        [protocol] = served.server.server_state.connections
        assert isinstance(protocol, GuardedProtocol)
        assert len(protocol.pipeline) < 300
        served.app.service.go.set()
        assert (await connection.response()).endswith(b'{"echo":"wait"}')
        for each in range(count):
            assert (await connection.response()).endswith(b'{"echo":"%d"}' % each)


async def test_requests_that_wait_behind_another_go_with_their_connection() -> None:
    async with guarded() as served:
        connection = await served.connect()
        connection.writer.write(post(b"wait") + 5 * post(b"behind"))
        await served.app.service.waiting.wait()
        await until(lambda: len(served.protocol.pipeline) > 0)
        waiting = [weakref.ref(cycle) for cycle, _ in served.protocol.pipeline]
        gc.disable()  # it would do so too, but later
        try:
            connection.writer.transport.abort()
            await until(lambda: not served.server.server_state.connections)
            served.app.service.go.set()
            await until(lambda: not any(cycle() for cycle in waiting))
        finally:
            gc.enable()


def test_the_lane_is_guarded() -> None:
    assert issubclass(LaneProtocol, GuardedProtocol)


# ── when all places are taken ────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def crowded(limit: int) -> AsyncIterator[Served]:
    async with serving() as served:
        served.app.connections = Connections(limit)
        yield served


async def test_one_too_many_is_told_so_when_it_asks_and_closed_and_let_in_once_another_has_left() -> None:
    async with crowded(1) as served:
        first, second = await served.connect(), await served.connect()
        first.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        second.writer.write(post(b"a"))
        answer = await everything(second)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"\r\nsqlhttp-ran: no\r\n" in answer
        assert b"\r\nconnection: close\r\n" in answer
        assert b'"code":"53300"' in answer
        assert [body for _, body, _ in served.app.service.asked] == [b"wait"]
        served.app.service.go.set()
        await first.response()
        await first.close()
        await until(lambda: not served.connections_of_programs.taken)
        assert (await (await served.connect()).ask(post(b"a"))).startswith(b"HTTP/1.1 200 ")


async def test_one_too_many_that_asks_nothing_is_closed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_GOODBYE", 0.05)
    async with crowded(1) as served:
        await served.connect()
        assert await closed(await served.connect())


@pytest.mark.parametrize("asked", [0, 1, 2], ids=["nothing yet", "once", "by the lane"])
async def test_the_longest_idle_makes_room_for_who_comes(monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    monkeypatch.setattr(connections, "LEAST_IDLE", 0.0)
    async with crowded(2) as served:
        idle, busy = await served.connect(), await served.connect()
        for _ in range(asked):
            await idle.ask(post(b"a"))
            await busy.ask(post(b"a"))
        busy.writer.write(post(b"wait"))
        await served.app.service.waiting.wait()
        third = await served.connect()
        assert (await third.ask(post(b"c"))).endswith(b'{"echo":"c"}')
        assert await closed(idle)
        served.app.service.go.set()
        assert (await busy.response()).endswith(b'{"echo":"wait"}')


@pytest.mark.parametrize(
    "sent",
    [post(b"wait"), post(b"a") + post(b"wait"), post(b"a")[:20], CHUNKED, HEAD + b"Content-Length: 9\r\n\r\nab"],
    ids=["a request", "a second one", "half a head", "no body yet", "half a body"],
)
async def test_a_connection_with_anything_under_way_does_not_make_room(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "LEAST_IDLE", 0.0)
    async with crowded(1) as served:
        under_way = await served.connect()
        for _ in range(2):
            await under_way.ask(post(b"before"))
        under_way.writer.write(sent)
        [protocol] = served.server.server_state.connections
        assert isinstance(protocol, GuardedProtocol)
        await until(lambda: protocol.idle_since is None)
        another = await served.connect()
        another.writer.write(post(b"a"))
        assert (await everything(another)).startswith(b"HTTP/1.1 503 ")
        assert not under_way.reader.at_eof()
        served.app.service.go.set()


# ── without the lane ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_the_lane_the_settings_limits_hold_and_refusals_are_told_of() -> None:
    async with serving(http=GuardedProtocol) as served:
        assert served.app.lane is not None
        told: list[Event] = []
        served.app.lane.observe = told.append
        served.app.lane.reconfigure(RequestSettings(max_head_bytes=200))
        connection = await served.connect()
        assert (await connection.ask(post(b"a"))).startswith(b"HTTP/1.1 200 ")
        connection.writer.write(post(b"a", b"X-Long: %b" % (b"x" * 200)))
        answer = await everything(connection)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"max is 200 bytes" in answer
        assert [each.reason for each in told if isinstance(each, Answered)] == ["HeadTooLarge"]


@pytest.mark.parametrize("lost", sorted(guard._NEEDED))
def test_a_uvicorn_without_one_of_the_attributes_is_not_known(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpToolsProtocol, "__init__", setting(guard._NEEDED - {lost}))
    assert not GuardedProtocol.knows_uvicorn()


@pytest.mark.parametrize("lost", sorted(guard._EXTENDED))
def test_a_uvicorn_without_one_of_the_methods_is_not_known(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(HttpToolsProtocol, lost)
    assert not GuardedProtocol.knows_uvicorn()
