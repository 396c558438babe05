"""The synchronous transport: one pool of kept-alive connections per process, on plain sockets.

Shared by all clients, so that a warm Lambda finds its connection again whatever the handler builds. A connection is
used by one thread at a time; any number of threads may ask. A forked child begins with an empty pool.
"""

import atexit
import os
import socket
import threading
from _thread import start_new_thread
from contextlib import suppress
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

from sqlhttp import _errors as errors
from sqlhttp import _forks  # noqa: F401 - stands ready from its import on
from sqlhttp._endpoint import Endpoint, Origin
from sqlhttp._http1 import Cut, NotHttp, Reply, ReplyReader, encode_head, encode_request
from sqlhttp._request import Request

if TYPE_CHECKING:
    from ssl import SSLContext

CONNECT_TIMEOUT = 10.0
"""Seconds for one attempt to connect, TLS included, when the caller's time is longer."""

MAX_REST = 30.0
"""Seconds that a connection may rest between two requests. Load balancers drop silent ones after 60 and more."""

ASK_AFTER = 1.0
"""Seconds of rest after which a connection is asked before a statement that writes is sent over it."""

CONTINUE_WAIT = 1.0
"""Seconds to wait for "100 Continue" before the body is sent all the same."""

LAST_WORD_WAIT = 0.05
"""Seconds to look for what a server has said that takes no more of a request."""

MAX_IDLE = 32
"""Idle connections kept to one place; a burst of threads opens more, and they are closed after it."""

MAX_PLACES = 64
"""Places, each with TLS settings of its own, to which idle connections are kept; a program may go to any number."""

_READ_BYTES = 65_536


class Transport(Protocol):
    """Sends one request and brings its reply."""

    def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        """One attempt. `deadline` is on the monotonic clock.

        Raises:
            NotSent, OutcomeUnknown, ProtocolError: by what is known of the request's fate.
        """
        ...

    def close(self) -> None:
        """Close what is idle."""
        ...


class StaleConnection(Exception):
    """A connection that had rested was closed by the other side; nothing of the request was carried out."""


class Connection:
    """One socket; carries one request at a time."""

    def __init__(self, origin: Origin, context: "SSLContext | None", deadline: float | None) -> None:
        self._socket = connected(origin, context, deadline)
        self._rested = False
        self._rested_at = (monotonic(), time())

    def exchange(self, head: bytes, request: Request, deadline: float | None) -> Reply:
        """Send a request and read its reply.

        Raises:
            StaleConnection: the connection had been closed while it rested; the request can be sent over another.
            SendFailed, OutcomeUnknown, ProtocolError: by what is known of the request's fate.
        """
        rested, self._rested = self._rested, False
        reader = ReplyReader()
        try:
            if rested and not request.reads_only and self._rested_for() > ASK_AFTER:
                reply = self._ask(reader, head, request, deadline)
                if reply is not None:
                    return reply
            else:
                self._send(encode_request(head, request.body), deadline)
            reply = self._read(reader, deadline)
            assert reply is not None  # only an interim reply is None
            return reply
        except errors.SendFailed as error:
            if rested:
                raise StaleConnection from error
            reply = self._last_word(reader)
            if reply is None:
                raise
            return reply
        except errors.ConnectionLost as error:
            if rested and request.reads_only:
                raise StaleConnection from error
            raise

    def _ask(self, reader: ReplyReader, head: bytes, request: Request, deadline: float | None) -> Reply | None:
        """Send the head alone and the body only when the server has shown that it is there (RFC 9110, 10.1.1).

        The end of a connection that was closed while it rested may arrive after the request has left. Without this a
        statement that writes would then have an unknown outcome; a new connection would cost more than one answer.
        """
        self._send(encode_request(head, request.body, expect=True), deadline)
        wait = monotonic() + CONTINUE_WAIT
        try:
            reply = self._read(reader, wait if deadline is None else min(wait, deadline), until_interim=True)
        except (errors.RequestTimeout, errors.ConnectionLost) as error:
            if isinstance(error, errors.ConnectionLost):
                raise StaleConnection from error
            reply = None  # some servers never say it, and the body may be sent all the same
        if reply is not None:
            if reply.status == 417:
                raise StaleConnection  # it does not like to be asked; a new connection is not asked
            return reply._replace(keep_alive=False)  # the server has answered without the body it was promised
        self._send(request.body, deadline)
        return None

    def _send(self, data: bytes, deadline: float | None) -> None:
        try:
            self._socket.settimeout(_remaining(deadline))
            self._socket.sendall(data)
        except OSError as error:
            # sendall raises before its last byte is with the kernel, so the server cannot have the whole request.
            raise errors.SendFailed(f"the request could not be sent: {reason_of(error)}") from error

    def _read(self, reader: ReplyReader, deadline: float | None, *, until_interim: bool = False) -> Reply | None:
        while True:
            try:
                self._socket.settimeout(_remaining(deadline))
                received = self._socket.recv(_READ_BYTES)
            except TimeoutError as error:
                raise errors.RequestTimeout("no whole answer came in time") from error
            except OSError as error:
                raise _lost(reader, reason_of(error)) from error
            try:
                reply = reader.receive(received) if received else reader.end()
            except Cut:
                raise _lost(reader, "the server closed the connection") from None
            except NotHttp as error:
                raise errors.ProtocolError(f"{error}; is the endpoint a SQL-over-HTTP server?") from None
            if reply is not None or (until_interim and reader.interim):
                return reply

    def _last_word(self, reader: ReplyReader) -> Reply | None:
        """Why the server, or something on the way, stopped reading, where it said so: 413, 401 and the like.

        408 is what a connection is left with that has been silent, and says nothing of the request.
        """
        try:
            reply = self._read(reader, monotonic() + LAST_WORD_WAIT)
        except errors.NeonDbError:
            return None
        if reply is None or not 400 <= reply.status < 500 or reply.status == 408:
            return None
        return reply._replace(keep_alive=False)

    def rest(self) -> None:
        """Note that it is idle from now on."""
        self._rested = True
        self._rested_at = (monotonic(), time())

    def is_old(self) -> bool:
        return self._rested_for() > MAX_REST

    def _rested_for(self) -> float:
        """Seconds. Both clocks count: the monotonic one stands still in a frozen sandbox, the other can be set."""
        at, wall = self._rested_at
        return max(monotonic() - at, abs(time() - wall))

    def is_fresh(self) -> bool:
        """Whether the connection can be trusted with another request."""
        return not self.is_old() and self._is_silent()

    def _is_silent(self) -> bool:
        """Nothing to read: neither the end of the connection nor bytes that nobody asked for."""
        try:
            self._socket.settimeout(0.0)
            self._socket.recv(1)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")
        return False

    def close(self) -> None:
        """End the connection, also for a child that was forked while it was in use and holds it open."""
        with suppress(OSError):  # it may have ended by itself
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def leave(self) -> None:
        """Give up this process's part in a connection that is its parent's."""
        self._socket.close()


class ConnectionPool:
    """Idle connections by where they go; the last one used is the next one taken."""

    def __init__(self) -> None:
        self._idle: dict[tuple[Origin, SSLContext | None], list[Connection]] = {}
        self._lock = threading.RLock()  # a signal's handler may ask in the middle of it, and what it finds is whole
        self._context: SSLContext | None = None

    def send(self, endpoint: Endpoint, request: Request, deadline: float | None, context: "SSLContext | None") -> Reply:
        """One request over an idle connection or a new one; see `Transport.send`."""
        origin = endpoint.origin
        context = (context or self.default_context()) if origin.tls else None
        try:
            head = encode_head(endpoint.authority, endpoint.target, request.headers)
        except ValueError as error:
            raise errors.InterfaceError(str(error)) from None
        key = (origin, context)
        while True:
            # The loop ends with the idle connections: a new one is never stale.
            connection = self._take(key) or Connection(origin, context, deadline)
            try:
                reply = connection.exchange(head, request, deadline)
            except StaleConnection:
                connection.close()
                continue
            except BaseException:
                connection.close()
                raise
            if reply.keep_alive:
                self._give(key, connection)
            else:
                connection.close()
            return reply

    def close(self) -> None:
        """Close the idle connections. The pool can be used afterwards."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def forget(self) -> None:
        """Leave the connections to the parent process; a lock that was held at the fork is replaced."""
        self._lock = threading.RLock()
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.leave()

    def _take(self, key: "tuple[Origin, SSLContext | None]") -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                connection = idle.pop() if idle else None
            if connection is None or connection.is_fresh():
                return connection
            connection.close()

    def _give(self, key: "tuple[Origin, SSLContext | None]", connection: Connection) -> None:
        connection.rest()
        with self._lock:
            # The place that was used last stands last, and so does the connection in its list.
            idle = self._idle[key] = self._idle.pop(key, [])
            idle.append(connection)
            # The first has rested longest; nobody takes it while later ones are enough.
            leaving = idle[:1] if len(idle) > MAX_IDLE or (idle and idle[0].is_old()) else []
            del idle[: len(leaving)]
            place = next(iter(list(self._idle)), key)
            resting = self._idle.get(place)
            if len(self._idle) > MAX_PLACES or not resting or resting[-1].is_old():
                leaving += self._idle.pop(place, [])
        for each in leaving:
            each.close()

    def default_context(self) -> "SSLContext":
        """TLS as Python does it, made once."""
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
        return self._context


POOL = ConnectionPool()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


atexit.register(POOL.close)


class SocketTransport:
    """Sends over the pool of the process, with the caller's own TLS settings where given."""

    def __init__(self, context: "SSLContext | None" = None) -> None:
        self._context = context

    def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        return POOL.send(endpoint, request, deadline, self._context)

    def close(self) -> None:
        POOL.close()


def connected(origin: Origin, context: "SSLContext | None", deadline: float | None) -> socket.socket:
    left = CONNECT_TIMEOUT if deadline is None else min(CONNECT_TIMEOUT, deadline - monotonic())
    where = f"{origin.host}:{origin.port}"
    if left <= 0:
        raise errors.ConnectTimeout(f"no time was left to connect to {where}")
    # For a host that is text, Python imports its tables of international names, also where there is nothing to look up.
    host: Any = origin.host.encode() if origin.host.isascii() else origin.host
    plain = None
    try:
        until = monotonic() + left
        plain = _connected_to_one(_addresses(host, origin.port, until), until)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return plain
        plain.settimeout(_remaining(until))
        return context.wrap_socket(plain, server_hostname=origin.host)
    except BaseException as error:
        if plain is not None:
            plain.close()
        if isinstance(error, TimeoutError):
            raise errors.ConnectTimeout(f"no connection to {where} within {left:.1f} s") from error
        if type(error).__name__ == "SSLCertVerificationError":
            raise errors.CertificateRejected(f"the certificate of {where} is not valid: {reason_of(error)}") from error
        if isinstance(error, OSError | UnicodeError):
            raise errors.ConnectFailed(f"no connection to {where}: {reason_of(error)}") from error
        raise


def _addresses(host: Any, port: int, until: float) -> list[Any]:
    """What getaddrinfo gives. Nothing can end it while it asks a name server, so a thread does that, and is left behind
    where no answer comes in time.

    Raises:
        OSError: there is no such host; a TimeoutError, no answer by then.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        return look_up(flags=socket.AI_NUMERICHOST)
    except OSError:
        pass  # it is a name
    found: list[Any] = []
    is_found = threading.Lock()
    is_found.acquire()

    def ask() -> None:
        try:
            found.append(look_up())
        except BaseException as error:
            found.append(error)
        is_found.release()

    try:
        start_new_thread(ask, ())  # threading's have a lock, which a signal's handler may meet
    except RuntimeError:
        ask()  # there are no more threads, for instance because the interpreter ends
    if not is_found.acquire(timeout=max(0.0, until - monotonic())):
        raise TimeoutError("no name server has answered")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]  # type: ignore[no-any-return]  # a list, if not an exception


def _connected_to_one(addresses: list[Any], until: float) -> socket.socket:
    """The first of a host's addresses that takes a connection. Each has its share of the time that is left: one that is
    silent leaves some to the next, and all together take no more than there is.
    """
    failure = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = _remaining(until)
        assert left is not None
        plain = None
        try:
            plain = socket.socket(family, kind, protocol)
            plain.settimeout(left / (len(addresses) - number))
            plain.connect(address)
            return plain
        except BaseException as error:
            if plain is not None:
                plain.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    raise failure


def _remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline, as a socket's timeout.

    Raises:
        TimeoutError: there are none.
    """
    if deadline is None:
        return None
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def _lost(reader: ReplyReader, reason: str) -> errors.OutcomeUnknown:
    if reader.begun:
        return errors.ReplyCut(f"the answer ended in the middle: {reason}")
    return errors.ConnectionLost(f"the connection ended before an answer came: {reason}")


def reason_of(error: BaseException) -> str:
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    return text or type(error).__name__
