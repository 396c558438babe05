"""`sqlhttp tunnel`: a local port through a WebSocket, here to one that echoes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from sqlhttp._tunnel_command import _say, main, refusal, serve, websocket_url
from tests.support.scripted_http import scripted

STARTUP = b"\0\0\0\x11\0\x03\0\0user\0ada\0\0"


@pytest.mark.parametrize(
    ("gateway", "address", "url"),
    [
        ("https://db.example", None, "wss://db.example/v2"),
        ("http://127.0.0.1:4444/", None, "ws://127.0.0.1:4444/v2"),
        ("wss://db.example/sql", None, "wss://db.example/sql"),
        (
            "https://db.example/v1?pool_mode=session",
            "main:5432",
            "wss://db.example/v1?pool_mode=session&address=main:5432",
        ),
        ("https://db.example", "[::1]:5432", "wss://db.example/v2?address=[::1]:5432"),
    ],
)
def test_where_the_websocket_goes(gateway: str, address: str | None, url: str) -> None:
    assert websocket_url(gateway, address=address) == url


@pytest.mark.parametrize("gateway", ["", "db.example", "postgres://role:secret@db.example", "https://"])
def test_what_is_no_gateway_is_refused(gateway: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="gateway"):
        websocket_url(gateway)
    with pytest.raises(SystemExit) as stopped:
        main([gateway])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "not the URL of a gateway" in said
    assert "secret" not in said


@pytest.mark.parametrize("listen", ["5432", "127.0.0.1", "127.0.0.1:70000", "a b:1"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(SystemExit):
        main(["--listen", listen, "https://db.example"])


def test_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen", "192.0.2.1:5432", "https://db.example"]) == 1
    assert "cannot listen on 192.0.2.1 port 5432" in capsys.readouterr().err


@asynccontextmanager
async def port_to(url: str) -> AsyncIterator[int]:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, url, ready=lambda host, port, url: ready.set_result(port)))
    try:
        yield await ready
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def gateway() -> AsyncIterator[str]:
    """Echoes until it is told goodbye."""

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            assert isinstance(message, bytes)
            await socket.send(message)
            if message.endswith(b"X"):
                return

    async with serve_websocket(echo, "127.0.0.1", 0, max_size=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"


async def test_bytes_travel_both_ways_in_any_number_of_connections() -> None:
    async with gateway() as url, port_to(url) as port:
        for text in (b"hello", bytes(range(256)) * 10_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            assert await reader.readexactly(len(text)) == text
            writer.close()
            await writer.wait_closed()


async def test_proxy_of_the_environment_does_not_read_along(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with gateway() as url, port_to(url) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_end_of_the_gateway_is_the_end_of_the_connection() -> None:
    async with gateway() as url, port_to(url) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"goodbye X")
        assert await reader.read(-1) == b"goodbye X"
        writer.close()


async def test_gateway_that_cannot_be_reached_is_told_as_postgres_tells_errors() -> None:
    async with port_to("ws://127.0.0.1:1/v2") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(STARTUP)
        answer = await reader.read(-1)
        assert answer.startswith(b"E")
        assert b"SFATAL\0VFATAL\0C08001\0Mthe gateway at ws://127.0.0.1:1/v2 cannot be reached" in answer
        writer.close()


@pytest.mark.parametrize("asked", [b"\x2f", b"\x30", b"\x30\0\0\0\x08\x04\xd2\x16\x2f"], ids=["TLS", "GSSAPI", "both"])
async def test_gateway_that_cannot_be_reached_is_told_behind_the_answer_for_encryption(asked: bytes) -> None:
    """libpq would say that the server sent an error response during SSL exchange, and not which."""
    async with port_to("ws://127.0.0.1:1/v2") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\0\0\x08\x04\xd2\x16" + asked)
        refusals = 1 + (len(asked) > 1)
        assert await reader.readexactly(refusals) == b"N" * refusals
        writer.write(STARTUP)
        assert (await reader.read(-1)).startswith(b"E")
        writer.close()


async def test_redirect_takes_no_password_to_another_place() -> None:
    def away(peer: Any, headers: Any) -> None:
        peer.send(f"HTTP/1.1 302 Found\r\nLocation: {other}\r\n\r\n".encode())
        peer.close()

    async with gateway() as other:
        with scripted(away) as server:
            async with port_to(f"ws://127.0.0.1:{server.port}/v2") as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"password X")
                assert (await reader.read(-1)).startswith(b"E")
                writer.close()


async def test_credentials_in_the_gateways_url_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    url = "ws://role:hunter2@127.0.0.1:1/v2"
    _say("127.0.0.1", 5432, url)
    async with port_to(url) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(STARTUP)
        answer = await reader.read(-1)
        writer.close()
    assert capsys.readouterr().err == "listening on 127.0.0.1 port 5432, through ws://127.0.0.1:1/v2\n"
    assert b"the gateway at ws://127.0.0.1:1/v2 cannot be reached" in answer
    assert b"hunter2" not in answer


def test_refusal_is_an_error_response() -> None:
    assert refusal("no") == b"E\0\0\0\x1eSFATAL\0VFATAL\0C08001\0Mno\0\0"
