"""Answers on their way out: a program that does not take its answer is cut off, or its bytes would stay here for ever.

What a program does not read is kept by the kernel up to a point, and from there on by this process. Most answers never
get that far and are never looked at here. An answer with a deadline has to be with the kernel by then, all of it; any
other may take its time as long as it moves.
"""

import asyncio
import fcntl
import struct
import termios

from sqlhttp_gateway.deadline import Due
from sqlhttp_gateway.events import Observer, Unsent

LEAST_BYTES = 65_536
"""Bytes, or all that is left, that a program has to take in each send timeout, however slow its way."""


class Sending:
    """What one connection still has to send."""

    __slots__ = ("_due", "_due_timer", "_left", "_loop", "_observe", "_peer", "_timeout", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, *, timeout: float, peer: str, observe: Observer) -> None:
        """`timeout` is in seconds; `peer` is who does not read, for the log."""
        self._transport = transport
        self._timeout = timeout
        self._peer = peer
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due: Due | None = None
        self._due_timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Much waits to be sent, or the connection closes behind what does: from now on it has to move."""
        if self._timer is None:
            self._left = self._not_taken()
            self._timer = self._loop.call_later(self._timeout, self._look)

    def finish_by(self, due: Due) -> None:
        """The answer that was just written has to be sent by then; nothing else is written until it is."""
        # Not now: an event loop may write at the end of its turn only.
        self._loop.call_soon(self._look_whether_sent, due)

    def has_room(self) -> None:
        """The transport says that little is left, or with an answer that is due, nothing."""
        if self._due is not None:
            self._due = None
            self._transport.set_write_buffer_limits()
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
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
        if not self._transport.get_write_buffer_size():
            return
        taken = self._left - self._not_taken()
        if taken >= LEAST_BYTES:
            self.watch()
        else:
            seconds = f"{self._timeout:g} s (request.send_timeout)"
            self._cut("send_timeout", f"in {seconds} the program took {max(0, taken)} bytes of its answer")

    def _not_taken(self) -> int:
        """Bytes here and in the kernel, which takes more from here only once a third of what it has is gone."""
        held = self._transport.get_write_buffer_size()
        plug = self._transport.get_extra_info("socket")
        try:
            queued: int = struct.unpack("i", fcntl.ioctl(plug.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        except (AttributeError, OSError):  # no socket any more, or a system whose sockets do not tell
            return held
        return held + queued

    def _look_whether_sent(self, due: Due) -> None:
        if self._due is not None or not self._transport.get_write_buffer_size():
            return
        self._due = due
        self._due_timer = self._loop.call_at(due.when, self._late, due, self._loop.time())
        # With no room at all there is nobody who writes, and the transport says when the last byte has gone.
        self._transport.set_write_buffer_limits(high=0)

    def _late(self, due: Due, since: float) -> None:
        self._due_timer = None
        self._cut("deadline", due.told(self._loop.time() - since), due.request_id)

    def _cut(self, reason: str, text: str, request_id: str = "") -> None:
        left = self._transport.get_write_buffer_size()
        self.close()
        self._transport.abort()
        self._observe(Unsent(reason, f"{text}; {left} were left", request_id, self._peer))
