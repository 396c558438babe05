"""What a tunnel needs of its transport; a WebSocket and a TCP socket are the two that exist."""

from typing import Protocol

TOO_BIG = 1009
"""RFC 6455's close code of a message that is too big to process."""


class StreamClosed(Exception):
    """The program has gone."""


class StreamMisused(Exception):
    """The program sent what cannot be part of a byte stream; the text says what."""


class Sink(Protocol):
    """Who takes what a program sends, as it comes. None of this may wait."""

    def take(self, data: bytes) -> None:
        """What the program sent."""

    def leave(self, error: StreamMisused | None) -> None:
        """Nothing more comes: the program has gone, or sent what is no part of a stream. Told once."""

    def go_on(self) -> None:
        """There is room again for what is to be sent."""


class Flow(Protocol):
    """A stream without waiting: what arrives is pushed into a Sink, what is to be sent is pushed out."""

    def write(self, data: bytes) -> bool:
        """Send bytes. False when the transport has enough for now: the sink is told to `go_on`, and until then
        nothing more may be written. What is written after the program has gone is dropped."""

    def pause_reading(self) -> None:
        """Let the program wait until its bytes are wanted; a little may come still."""

    def resume_reading(self) -> None:
        """The opposite of `pause_reading`."""

    async def stop(self) -> None:
        """The sink is told of nothing more."""


class Stream(Protocol):
    """Bytes both ways, in whatever pieces: first with `receive` and `send`, then, from `flow` on, without waiting."""

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

    def flow(self, sink: Sink) -> Flow:
        """From now on `sink` takes what comes, what is there already first; `receive` and `send` are over.

        The sink is told of nothing before this returns.
        """

    async def start_tls(self) -> None:
        """Do the TLS handshake as the server."""

    async def close(self, code: int, reason: str) -> None:
        """End it. `code` and `reason` are a WebSocket's; elsewhere only TOO_BIG means something: the program is in the
        middle of what is not wanted, and learns why only if that is read."""

    def abort(self) -> None:
        """Drop it and whatever waits to be sent: the program does not read."""
