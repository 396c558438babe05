"""A WebSocket that carries one `Line`, synchronously. The exceptions of websockets end here, and in `_tunnel_async`.

The steps of a line are carried out here: bytes out, bytes in, until a deadline. websockets keeps a thread to read
with, which answers the server's pings while the program does something else.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR
from sys import is_finalizing
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from sqlhttp import _errors as errors
from sqlhttp._endpoint import Endpoint
from sqlhttp._http1 import encode_headers
from sqlhttp._line import Cut, Line, Steps, TimedOut
from sqlhttp._transport import CONNECT_TIMEOUT, POOL, connected, reason_of
from sqlhttp._wire.frontend import TERMINATE

if TYPE_CHECKING:
    from ssl import SSLContext

try:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
    from websockets.protocol import State
    from websockets.sync.client import connect
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "websockets":
        raise
    raise ImportError(
        "begin, session and listen need the package websockets: pip install 'sqlhttp[websocket]'"
    ) from error

Kind = TypeVar("Kind")

CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake; then the connection is dropped."""

PING_INTERVAL = 20.0
"""Seconds between pings where a connection may be silent for long, so that nobody on the way forgets it."""

NO_TURN = "the connection was in use by others for all of the time that there was; the statement was not sent"

_NEVER_BLOCKS = 16_384
"""Bytes that a socket takes at once when all that was sent before has been answered."""


class Tunnel:
    """One connection; asked by one thread at a time, the others wait."""

    def __init__(
        self,
        where: Endpoint,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        context: "SSLContext | None" = None,
        deadline: float | None = None,
        ping_interval: float | None = None,
    ) -> None:
        """Connect. `deadline` is on the monotonic clock; without `ping_interval` only the server's pings are answered.

        Raises:
            ConnectFailed, ConnectTimeout, CertificateRejected: there is no connection.
            Refused, ServerFailed: the server does not take WebSockets, now or at all.
            InterfaceError: a header has a character that HTTP does not allow.
        """
        self.line = Line()
        self._lock = threading.Lock()
        check_headers(headers)
        with failing_to_connect(where):
            socket = connected(where.origin, None, deadline)
            socket.settimeout(None)  # the one for connecting; it would end a silence later on
            with socket.dup() as same:  # TLS takes the other one over
                try:
                    left = CONNECT_TIMEOUT if deadline is None else min(CONNECT_TIMEOUT, deadline - monotonic())
                    opened = connect(
                        where.websocket_url,
                        sock=socket,
                        ssl=tls_of(where, context),
                        additional_headers=list(headers),
                        user_agent_header="sqlhttp",
                        compression=None,
                        open_timeout=max(0.001, left),
                        close_timeout=CLOSE_TIMEOUT,
                        ping_interval=ping_interval,
                        max_size=None,
                    )
                except Exception:
                    socket.close()
                    raise
                except BaseException:
                    # A Ctrl-C: a thread that reads already ends by this, and closes the socket. Closed under it, that
                    # would not be told, and wait for ever.
                    with suppress(OSError):
                        same.shutdown(SHUT_RDWR)
                    raise
        self._socket = opened.__enter__()  # what it promises to all versions; `close` below is its end

    def drive(self, steps: Steps[Kind], deadline: float | None) -> Kind:
        """Carry out the steps; what they return, or raise.

        Raises:
            SendFailed: other threads have used the connection until the deadline; nothing was asked.
        """
        with self._turn(deadline):
            try:
                out = next(steps)
                while True:
                    try:
                        received = self._exchange(out, deadline)
                    except (Cut, TimedOut) as error:
                        out = steps.throw(error)
                    else:
                        out = steps.send(received)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # a generator's return value is not typed there

    def close(self) -> None:
        """Say goodbye where that can be heard, and close. Where it cannot, nobody waits."""
        if is_finalizing():
            self._cut_off()  # a session that nobody has closed; its thread does not run any more, and cannot be joined
            return
        try:
            if self.line.is_usable:
                with suppress(ConnectionClosed, OSError):
                    self._socket.send(TERMINATE)
            else:
                self._cut_off()
                # An interrupt may have come in the middle of websockets' own lock; what is left of it ends with its
                # traceback, and with that the thread that reads, which closes the socket.
                if not self._socket.protocol_mutex.acquire(timeout=CLOSE_TIMEOUT):
                    return
                self._socket.protocol_mutex.release()
            self._socket.close()
        except BaseException:  # a Ctrl-C, which is not to leave the socket and its thread behind
            self._cut_off()
            raise

    @contextmanager
    def _turn(self, deadline: float | None) -> Iterator[None]:
        if not self._lock.acquire(timeout=-1 if deadline is None else max(0.0, deadline - monotonic())):
            raise errors.SendFailed(NO_TURN)
        try:
            yield
        finally:
            self._lock.release()

    def _exchange(self, out: bytes, deadline: float | None) -> bytes:
        is_sent = not out or self._send(out, deadline)
        if deadline is not None and monotonic() >= deadline:
            raise TimedOut
        try:
            # After a broken send this still gives what came before: the server's last word.
            received = self._socket.recv(timeout=None if deadline is None else deadline - monotonic())
        except TimeoutError:
            raise TimedOut from None
        except (ConnectionClosed, OSError) as error:
            raise Cut(closed_because(error), sent=is_sent) from error
        return binary(received)

    def _send(self, out: bytes, deadline: float | None) -> bool:
        """Whether it may have left, in part at least."""
        if self._socket.state is not State.OPEN:
            return False
        guard = None
        if deadline is not None and len(out) > _NEVER_BLOCKS:
            # Nobody else would end a send that the server does not read.
            guard = threading.Timer(max(0.0, deadline - monotonic()), self._cut_off)
            guard.start()
        try:
            self._socket.send(out)
        except (ConnectionClosed, OSError):
            if deadline is not None and monotonic() >= deadline:
                raise TimedOut from None
        finally:
            if guard is not None:
                guard.cancel()
        return True

    def _cut_off(self) -> None:
        with suppress(OSError):  # it may have ended by itself
            self._socket.socket.shutdown(SHUT_RDWR)


def check_headers(headers: tuple[tuple[str, str], ...]) -> None:
    """The rules of HTTP; websockets has them, too, and shows the value, which may be a token.

    Raises:
        InterfaceError: a header has a character that HTTP does not allow. Its text never has the value.
    """
    try:
        encode_headers(headers)
    except ValueError as error:
        raise errors.InterfaceError(str(error)) from None


def tls_of(where: Endpoint, context: "SSLContext | None") -> "SSLContext | None":
    """The caller's own settings, else those of all; None where there is no TLS."""
    return (context or POOL.default_context()) if where.origin.tls else None


@contextmanager
def failing_to_connect(where: Endpoint) -> Iterator[None]:
    """Exceptions of websockets, TLS and sockets become errors of ours."""
    place = f"{where.origin.host}:{where.origin.port}"
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        body = (error.response.body or b"")[:500].decode("utf-8", "replace").strip()
        kind = errors.Refused if status in (429, 503) else errors.ServerFailed
        raise kind(f"{place} does not open a WebSocket: HTTP status {status}: {body}".rstrip(": ")) from error
    except InvalidHandshake as error:
        if isinstance(error.__cause__, EOFError):  # as where a gateway behind a balancer begins anew
            raise errors.ConnectFailed(f"no WebSocket to {place}: the connection ended before it was one") from error
        raise errors.ServerFailed(f"{place} does not open a WebSocket: {error}") from error
    except TimeoutError as error:
        raise errors.ConnectTimeout(f"no WebSocket to {place} in time") from error
    except (OSError, ConnectionClosed, EOFError, UnicodeError) as error:
        if type(error).__name__ == "SSLCertVerificationError":
            raise errors.CertificateRejected(f"the certificate of {place} is not valid: {reason_of(error)}") from error
        raise errors.ConnectFailed(f"no WebSocket to {place}: {reason_of(error)}") from error


def closed_because(error: Exception) -> str:
    """What is known of the reason: the server's own word, or the system's."""
    frame = getattr(error, "rcvd", None)
    if frame is not None:
        return f"the server closed it ({frame.code}{': ' if frame.reason else ''}{frame.reason})"
    return reason_of(error.__cause__ or error)


def binary(received: str | bytes) -> bytes:
    """The message's bytes.

    Raises:
        ProtocolError: it is text, which Postgres's protocol never is.
    """
    if isinstance(received, str):
        raise errors.ProtocolError("the server sent text; does the endpoint carry Postgres's protocol?")
    return received
