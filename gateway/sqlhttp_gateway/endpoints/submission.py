"""Several writes to several sockets in one system call: Linux's io_submit, which Python itself does not offer.

Nothing is asynchronous about it here. The kernel makes the writes one after the other before the call returns, each as
write(2) on a socket that does not block would, and keeps what became of each until it is fetched. What it saves is not
so much the calls: whoever is woken by a write, a program or a server on the same machine, takes the gateway's place on
its core as soon as the call is over, which here is once for all writes and not behind each of them.

Whom to write to, and what is to be done with a write that was not taken, is not known here.
"""

import ctypes
import platform
import socket
import sys
from collections.abc import Sequence
from struct import Struct
from typing import Final

MOST: Final = 32
"""Writes of one call."""

_NUMBERS: Final = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""io_setup, io_destroy, io_getevents and io_submit, by machine (the kernel's unistd.h)."""
_WRITE: Final = 1  # IOCB_CMD_PWRITE
_ORDER: Final = Struct("=QIIHhIQQqQII")
"""struct iocb of io_submit(2): data, key, flags, opcode, priority, descriptor, buffer, bytes, offset, three more."""
_ADDRESSED: Final = Struct("=IQQ")
"""Of these only the descriptor, the buffer and the bytes differ from one write to the next."""
_ADDRESSED_AT: Final = 20
_EVENT: Final = 4
"""64-bit words of struct io_event: data, the order's address, the result, a second one."""
_RESULT: Final = 2

NOT_KNOWN: Final = -1_000_000
"""In place of a result, of a write of which the kernel has told nothing."""
NOT_TRIED: Final = -1_000_001


class Submission:
    """The kernel's context for such calls, and the orders that it is handed.

    Of one process and one thread; a child made by fork cannot use its parent's.
    """

    __slots__ = (
        "_bytes",
        "_context",
        "_destroy",
        "_events",
        "_fetch",
        "_orders",
        "_places",
        "_pointers",
        "_submit",
        "_syscall",
        "_told",
    )

    def __init__(self) -> None:
        """
        Raises:
            OSError: the system has no such call, forbids it, or has no context left (fs.aio-max-nr).
        """
        numbers = _NUMBERS.get(platform.machine())
        if sys.platform != "linux" or numbers is None or sys.maxsize < 2**32:
            raise OSError("io_submit is not known on this system")
        # Not ctypes.CDLL, which lets go of the interpreter's lock around a call that does not wait.
        self._syscall = ctypes.PyDLL(None).syscall
        set_up, destroy, fetch, submit = map(ctypes.c_long, numbers)
        self._destroy, self._fetch, self._submit = destroy, fetch, submit
        self._orders = bytearray(MOST * _ORDER.size)
        events = bytearray(MOST * _EVENT * 8)
        self._told = memoryview(events).cast("q")
        first = _address(self._orders)
        self._pointers = (ctypes.c_void_p * MOST)(*(first + place * _ORDER.size for place in range(MOST)))
        self._events = ctypes.c_void_p(_address(events))
        self._places = list(range(MOST))
        for place in self._places:
            _ORDER.pack_into(self._orders, place * _ORDER.size, place, 0, 0, _WRITE, 0, 0, 0, 0, 0, 0, 0, 0)
        self._bytes = b""
        """What is being written."""
        context = ctypes.c_ulong(0)
        if self._syscall(set_up, MOST, ctypes.byref(context)):
            raise OSError("io_setup was refused")
        self._context = context

    def write(self, descriptors: Sequence[int], pieces: Sequence[bytes]) -> list[int]:
        """Write each piece, of MOST at most, to its descriptor; for each, in turn, the bytes that were taken, or a
        negative errno.

        NOT_TRIED stands for one that the kernel did not come to, NOT_KNOWN for one that may have been made.
        """
        # Kept by this object, as the kernel is told nothing but an address: a compiled function lets go of a variable
        # behind its last use.
        self._bytes = b"".join(pieces)
        address = ctypes.c_void_p.from_buffer(ctypes.c_char_p(self._bytes)).value or 0
        at = _ADDRESSED_AT
        for descriptor, piece in zip(descriptors, pieces, strict=True):
            size = len(piece)
            _ADDRESSED.pack_into(self._orders, at, descriptor, address, size)
            address += size
            at += _ORDER.size
        count = len(pieces)
        tried = max(self._syscall(self._submit, self._context, count, self._pointers), 0)
        # All that was submitted is over, so that nothing is waited for.
        told = max(self._syscall(self._fetch, self._context, tried, tried, self._events, None), 0) if tried else 0
        self._bytes = b""
        results: list[int] = self._told[_RESULT : told * _EVENT : _EVENT].tolist()
        places = self._told[: told * _EVENT : _EVENT].tolist()
        if told == count and places == self._places[:count]:
            return results
        found = [NOT_KNOWN] * tried + [NOT_TRIED] * (count - tried)
        for place, result in zip(places, results, strict=True):
            found[place] = result
        return found

    def close(self) -> None:
        """Give the kernel its context back; nothing can be written any more."""
        self._syscall(self._destroy, self._context)


def _address(buffer: bytearray) -> int:
    """Where its bytes are, for as long as nobody changes its size."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def submission() -> Submission | None:
    """One that has been seen to work; None where there is none to be had.

    A sandbox may know the calls and do something else.
    """
    try:
        found = Submission()
    except OSError:
        return None
    try:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            taken = found.write((ours.fileno(), theirs.fileno()), (b"to and", b"fro"))
            if taken == [6, 3] and (theirs.recv(16), ours.recv(16)) == (b"to and", b"fro"):
                return found
    except OSError:
        pass
    found.close()
    return None
