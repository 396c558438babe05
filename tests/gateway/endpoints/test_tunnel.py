"""The ASGI side of tunnels: messages in, messages out."""

from typing import Any

import pytest

from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.endpoints.tunnel import PATHS, TunnelEndpoint, WebSocketStream, address_of
from sqlhttp_gateway.endpoints.upgrade import ABORT
from sqlhttp_gateway.settings import ListenSettings
from sqlhttp_gateway.tunnel.login import Address
from sqlhttp_gateway.tunnel.stream import Stream, StreamClosed, StreamMisused


class Server:
    """What an ASGI server does, scripted."""

    def __init__(self, *messages: dict[str, Any], fails: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self._messages = list(messages)
        self._fails = fails

    async def receive(self) -> Any:
        return self._messages.pop(0)

    async def send(self, message: Any) -> None:
        if self._fails:
            raise RuntimeError("gone")
        self.sent.append(message)


def scope(*headers: tuple[bytes, bytes], query: bytes = b"", **extensions: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": "/v2",
        "client": ("192.0.2.7", 5),
        "headers": list(headers),
        "query_string": query,
        "extensions": extensions,
    }


def stream(*messages: dict[str, Any], fails: bool = False, **given: Any) -> tuple[WebSocketStream, Server]:
    server = Server(*messages, fails=fails)
    return WebSocketStream(scope(**given), server.receive, server.send, peer="192.0.2.7"), server


async def test_binary_messages_are_the_stream() -> None:
    it, server = stream({"type": "websocket.receive", "bytes": b"abc"})
    assert await it.receive() == b"abc"
    await it.send(b"xyz")
    assert server.sent == [{"type": "websocket.send", "bytes": b"xyz"}]


async def test_text_message_is_a_misuse() -> None:
    it, _ = stream({"type": "websocket.receive", "text": "abc"})
    with pytest.raises(StreamMisused, match="text messages"):
        await it.receive()


async def test_disconnect_is_the_end_and_nothing_is_closed_twice() -> None:
    it, server = stream({"type": "websocket.disconnect", "code": 1005})
    with pytest.raises(StreamClosed):
        await it.receive()
    await it.close(1000, "")
    assert server.sent == []


async def test_whatever_a_server_raises_means_that_the_program_has_gone() -> None:
    it, _ = stream(fails=True)
    with pytest.raises(StreamClosed):
        await it.send(b"x")


async def test_reason_is_cut_to_what_a_close_frame_holds_between_characters() -> None:
    it, server = stream()
    await it.close(1008, "é" * 100)
    assert server.sent == [{"type": "websocket.close", "code": 1008, "reason": "é" * 61}]


async def test_abort_drops_the_connection_where_the_server_can() -> None:
    calls: list[str] = []
    server = Server()
    it = WebSocketStream(scope(**{ABORT: lambda: calls.append("abort")}), server.receive, server.send)
    it.abort()
    await it.close(1000, "")
    assert (calls, server.sent) == (["abort"], [])
    WebSocketStream(scope(), server.receive, server.send).abort()


async def test_tls_is_the_websockets_own() -> None:
    it, _ = stream()
    assert (it.offers_tls, it.is_secure, it.peer, it.origin) == (False, True, "192.0.2.7", None)
    with pytest.raises(StreamMisused):
        await it.start_tls()


class Tunnels:
    """Keeps what it was asked to serve."""

    def __init__(self) -> None:
        self.served: dict[str, Any] = {}

    async def serve(self, stream: Stream, **given: Any) -> None:
        self.served = {"origin": stream.origin, **given}


async def served(*headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    tunnels, server = Tunnels(), Server({"type": "websocket.connect"})
    endpoint = TunnelEndpoint(tunnels, Peers(ListenSettings()))  # type: ignore[arg-type]
    await endpoint(scope(*headers, query=query), server.receive, server.send)
    assert server.sent == [{"type": "websocket.accept"}]
    return tunnels.served


async def test_address_in_the_url_chooses_the_target() -> None:
    host = (b"host", b"gateway.example:4444")
    assert (await served(host, query=b"address=db.example:5432"))["address"] == Address("db.example", 5432)
    assert (await served(host, query=b"address=db.example"))["address"] == Address("db.example", None)


async def test_without_one_the_name_that_the_gateway_was_reached_by_does() -> None:
    """The driver goes to the database's own name; the port is that of HTTP."""
    assert (await served((b"host", b"db.example:4444")))["address"] == Address("db.example", None)
    assert (await served())["address"] == Address("", None)


async def test_pool_mode_in_the_url_and_the_page_are_passed_on() -> None:
    given = await served((b"origin", b"https://app.example"), query=b"pool_mode=session")
    assert (given["pool_mode"], given["origin"], given["door"]) == ("session", "https://app.example", "websocket")
    assert (await served())["pool_mode"] is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("db", Address("db")),
        ("db:5432", Address("db", 5432)),
        ("[::1]:5432", Address("::1", 5432)),
        ("[::1]", Address("::1")),
        ("", None),
        (":5432", None),
        ("db:port", None),
        ("db:5432:1", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    assert address_of(text) == address


def test_paths_are_those_of_neon_its_driver_and_wsproxy() -> None:
    assert {"/", "/sql", "/v1", "/v2"} == PATHS
