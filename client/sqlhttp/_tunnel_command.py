"""`sqlhttp tunnel`: a local port whose bytes travel through a gateway's WebSocket.

Whatever speaks Postgres's own wire, psql, pg_dump or a migration tool, then reaches a database that speaks HTTPS only.
The bytes are not looked at: log-in and all that follows is between the program and the gateway.
"""

import argparse
import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

DESCRIPTION = """\
Open a local port that leads through a gateway's WebSocket to its Postgres.

  sqlhttp tunnel https://gateway.example
  psql postgres://role@127.0.0.1:5432/database

Programs log in as they would directly. The way is encrypted by the gateway's https; on this
machine it is not, so that sslmode must not be require.

Exit status: 0 after an interrupt, 1 when the port cannot be had, 2 when the command is wrong."""

_CHUNK = 65_536
_ENCRYPTION = (b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30")
"""SSLRequest and GSSENCRequest ("Message Formats" of the Postgres manual)."""
_FIRST_WORDS = 2.0
"""Seconds in which a program says what it wants."""
_ADDRESS = re.compile(r"(?:\[(?P<ip>[0-9A-Fa-f:]+)\]|(?P<host>[^:\s]*)):(?P<port>\d{1,5})")
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def main(arguments: Sequence[str]) -> int:
    """Run the command until it is interrupted; the exit status is returned."""
    given = _parser().parse_args(arguments)
    host, port = given.listen
    try:
        import websockets  # noqa: F401 - to say at once that it is missing
    except ModuleNotFoundError:
        print("sqlhttp: tunnel needs websockets: pip install 'sqlhttp[websocket]'", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(host, port, websocket_url(given.gateway, address=given.address), ready=_say))
    except OSError as error:
        print(f"sqlhttp: cannot listen on {host} port {port}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


async def serve(host: str, port: int, url: str, *, ready: Callable[[str, int, str], None]) -> None:
    """Listen until cancelled or told to stop by SIGTERM; `ready` is told where, once.

    Raises:
        OSError: the port cannot be had.
    """
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on every system, nor in every thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    open_tunnels: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(carry(reader, writer, url))
        open_tunnels.add(task)
        task.add_done_callback(open_tunnels.discard)

    server = await asyncio.start_server(begin, host, port)
    ready(host, server.sockets[0].getsockname()[1], url)
    try:
        await stop.wait()
    finally:
        server.close()
        for task in open_tunnels:
            task.cancel()
        await asyncio.gather(*open_tunnels, return_exceptions=True)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str) -> None:
    """One program's bytes, both ways, until either side ends."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    from sqlhttp._tunnel_async import ConnectThere

    try:
        # A proxy would read along what is not encrypted.
        proxy: Literal[True] | None = True if url.startswith("wss:") else None
        async with ConnectThere(url, compression=None, max_size=None, proxy=proxy) as socket:
            pumps = {asyncio.create_task(_upwards(reader, socket)), asyncio.create_task(_downwards(socket, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        await _decline_encryption(reader, writer)
        writer.write(refusal(f"the gateway at {_without_credentials(url)} cannot be reached: {error}"))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _decline_encryption(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """libpq shows no error that comes in place of an answer to its question for TLS or GSSAPI, which it asks first."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(_FIRST_WORDS):
            while await reader.readexactly(8) in _ENCRYPTION:
                writer.write(b"N")


async def _upwards(reader: asyncio.StreamReader, socket: "ClientConnection") -> None:
    while data := await reader.read(_CHUNK):
        await socket.send(data)


async def _downwards(socket: "ClientConnection", writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        assert isinstance(message, bytes), "the gateway sends no text"
        writer.write(message)
        await writer.drain()


def websocket_url(gateway: str, *, address: str | None = None) -> str:
    """Where the WebSocket goes: the gateway's URL with its scheme translated, and /v2 where it has no path.

    Raises:
        ValueError: it is no URL of a gateway.
    """
    parts = urlsplit(gateway)
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise ValueError("not the URL of a gateway")  # never its text: it may have a password
    path = parts.path if parts.path not in ("", "/") else "/v2"
    query = "&".join(part for part in (parts.query, f"address={quote(address, safe=':[]')}" if address else "") if part)
    return f"{scheme}://{parts.netloc}{path}{'?' if query else ''}{query}"


def refusal(message: str) -> bytes:
    """An ErrorResponse, so that the program shows it as it shows those of a server."""
    fields = {"S": "FATAL", "V": "FATAL", "C": "08001", "M": message}
    body = b"".join(f"{code}{text}\0".encode(errors="replace") for code, text in fields.items()) + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4) + body


def _say(host: str, port: int, url: str) -> None:
    print(f"listening on {host} port {port}, through {_without_credentials(url)}", file=sys.stderr, flush=True)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sqlhttp tunnel", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gateway", type=_gateway, metavar="URL", help="the gateway, such as https://gateway.example")
    parser.add_argument(
        "--listen", type=_address, default=("127.0.0.1", 5432), metavar="HOST:PORT", help="default 127.0.0.1:5432"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="which of the gateway's targets, if it has several")
    return parser


def _gateway(text: str) -> str:
    try:
        websocket_url(text)
    except ValueError:  # argparse would show the text, which may have a password
        raise argparse.ArgumentTypeError("not the URL of a gateway, such as https://gateway.example") from None
    return text


def _address(text: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise argparse.ArgumentTypeError("expected HOST:PORT, such as 127.0.0.1:5432")
    return match["ip"] or match["host"] or "127.0.0.1", int(match["port"])
