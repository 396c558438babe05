"""Answers on their way out: a program that does not take its answer is cut off, or its bytes would stay here for ever.

What a program does not read is kept by the kernel up to a point, and from there on by this process. Most answers never
get that far and are never looked at here. An answer with a deadline has to be with the kernel by then, all of it; any
other may take its time as long as it moves.

TLS passes all that is written at once to a transport below it, of which it tells nothing: there the kernel is asked.
"""

import asyncio
import fcntl
import socket
import struct
import termios

from sqlhttp_gateway.deadline import Due
from sqlhttp_gateway.events import Observer, Unsent

LEAST_BYTES = 65_536
"""Bytes, or all that is left, that a program has to take in each send timeout, however slow its way."""

_BYTES_ACKED = struct.Struct("=Q"), 120
"""Where Linux's struct tcp_info, since 4.1, has how many bytes the other side has taken so far."""
_NOT_SENT = 0x894B
"""SIOCOUTQNSD of Linux: the bytes for which the other side has had no room yet."""


class Sending:
    """What one connection still has to send."""

    __slots__ = (
        "_due",
        "_due_timer",
        "_is_tls",
        "_loop",
        "_observe",
        "_peer",
        "_taken",
        "_timeout",
        "_timer",
        "_transport",
    )

    def __init__(self, transport: asyncio.Transport, *, timeout: float, peer: str, observe: Observer) -> None:
        """`timeout` is in seconds; `peer` is who does not read, for the log."""
        self._transport = transport
        self._timeout = timeout
        self._peer = peer
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self._taken = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due: Due | None = None
        self._due_timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Much waits to be sent, or the connection closes behind what does: from now on it has to move."""
        if self._timer is None:
            self._taken = self._taken_so_far()
            self._timer = self._loop.call_later(self._timeout, self._look)

    def watch_anew(self) -> None:
        """Much was written where nobody tells whether it waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.watch()

    def finish_by(self, due: Due) -> None:
        """The answer that was just written has to be sent by then; nothing else is written until it is."""
        # Not now: an event loop may write at the end of its turn only.
        self._loop.call_soon(self._look_whether_sent, due)

    def has_room(self) -> None:
        """The transport says that little is left, or with an answer that is due, nothing."""
        if self._is_tls:
            return  # below it there may be more
        self._is_sent()
        if self._timer is not None and not self._transport.is_closing():
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The connection is gone."""
        for timer in (self._timer, self._due_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._due_timer = self._due = None

    # ── inside ──

    def _look(self) -> None:
        """A send timeout has passed."""
        self._timer = None
        if not self._held():
            return
        taken = self._taken_so_far() - self._taken
        if taken >= LEAST_BYTES:
            self.watch()
        else:
            seconds = f"{self._timeout:g} s (request.send_timeout)"
            self._cut("send_timeout", f"in {seconds} the program took {max(0, taken)} bytes of its answer")

    def _held(self) -> int:
        """Bytes that wait, as far as it is known how many; 0: none."""
        held = self._transport.get_write_buffer_size()
        return held + self._ask_kernel(_NOT_SENT) if self._is_tls else held

    def _taken_so_far(self) -> int:
        """A number that grows with every byte that the program takes."""
        # The kernel takes more from here only once a third of what it has is gone, so that it has to be asked.
        plug = self._transport.get_extra_info("socket")
        try:
            told = plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            layout, at = _BYTES_ACKED
            return int(layout.unpack_from(told, at)[0])
        except (AttributeError, OSError, struct.error):  # no socket any more, a Unix socket, or another system
            return -self._transport.get_write_buffer_size() - self._ask_kernel(termios.TIOCOUTQ)

    def _ask_kernel(self, request: int) -> int:
        """Bytes that it holds; 0 where it does not tell."""
        plug = self._transport.get_extra_info("socket")
        try:
            return int(struct.unpack("i", fcntl.ioctl(plug.fileno(), request, bytes(4)))[0])
        except (AttributeError, OSError):
            return 0

    def _look_whether_sent(self, due: Due) -> None:
        if self._due is not None or not self._held():
            return
        self._due = due
        self._due_timer = self._loop.call_at(due.when, self._late, due, self._loop.time())
        # With no room at all there is nobody who writes, and the transport says when the last byte has gone.
        self._transport.set_write_buffer_limits(high=0)

    def _is_sent(self) -> None:
        """What was due is with the kernel."""
        if self._due is not None:
            self._due = None
            self._transport.set_write_buffer_limits()
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None

    def _late(self, due: Due, since: float) -> None:
        self._due_timer = None
        if not self._held():
            self._is_sent()
            return
        self._cut("deadline", due.told(self._loop.time() - since), due.request_id)

    def _cut(self, reason: str, text: str, request_id: str = "") -> None:
        left = f"{'at least ' * self._is_tls}{self._held()}"
        self.close()
        self._transport.abort()
        self._observe(Unsent(reason, f"{text}; {left} were left", request_id, self._peer))
