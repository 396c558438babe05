"""What a tunnel needs of its transport; a WebSocket and a TCP socket are the two that exist."""

from typing import Protocol


class StreamClosed(Exception):
    """The program has gone."""


class StreamMisused(Exception):
    """The program sent what cannot be part of a byte stream; the text says what."""


class Stream(Protocol):
    """Bytes both ways, in whatever pieces."""

    @property
    def peer(self) -> str:
        """The program's address, for limits and logs."""

    @property
    def origin(self) -> str | None:
        """The page that opened it, where a browser says so."""

    @property
    def offers_tls(self) -> bool:
        """Whether `start_tls` is possible."""

    @property
    def is_secure(self) -> bool:
        """Whether a password may be sent here: it is encrypted, or never leaves the machine."""

    async def receive(self) -> bytes:
        """The next bytes.

        Raises:
            StreamClosed: there will be none.
            StreamMisused: they are not bytes.
        """

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when the transport's buffer has room again.

        Raises:
            StreamClosed: the program has gone.
        """

    async def start_tls(self) -> None:
        """Do the TLS handshake as the server."""

    async def close(self, code: int, reason: str) -> None:
        """End it. `code` and `reason` are a WebSocket's, and mean nothing elsewhere."""

    def abort(self) -> None:
        """Drop it and whatever waits to be sent: the program does not read."""
