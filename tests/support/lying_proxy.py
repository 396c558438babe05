"""A proxy behind which a server says other things than it does, from a moment on that a mark in what it is sent names.

It stands for what no Postgres does on demand: an answer that does not come, one that is no answer, one that is cut off.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.bad_network import BadNetwork, Fault, Kind, Way, reset
from tests.support.cluster import Database

_CHUNK = 65536


def silent(data: bytes) -> bytes:
    """Nothing is said any more."""
    return b""


def nonsense(data: bytes) -> bytes:
    """A message that no Postgres has."""
    return b"\x01\0\0\0\x04"


def gone(data: bytes) -> bytes:
    """The connection is reset in place of the answer."""
    raise ConnectionResetError


class LyingProxy(BadNetwork):
    """The proxy, while it runs."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, lambda number: Fault(self._kind(), Way.TO_SERVER))  # by the way `_carry` knows it
        self.refuses = False
        """Whether new connections are reset as soon as they are made."""
        self._mark = b""
        self._lie: Callable[[bytes], bytes] = silent
        self._lying: set[frozenset[asyncio.StreamWriter]] = set()

    def lie(self, lie: Callable[[bytes], bytes], mark: bytes) -> None:
        """From the next `mark` on, what the server says to whoever sent it goes through `lie`."""
        self._lie, self._mark = lie, mark

    def tell_the_truth(self) -> None:
        """On every connection that is made from now on, and to every mark."""
        self._mark, self.refuses = b"", False

    def _kind(self) -> Kind:
        return Kind.REFUSE if self.refuses else Kind.NONE

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, pair: set[asyncio.StreamWriter]
    ) -> None:
        who = frozenset(pair)
        try:
            while data := await reader.read(_CHUNK):
                if fault.way is Way.TO_SERVER:
                    if self._mark and self._mark in data:
                        self._lying.add(who)
                elif who in self._lying:
                    data = self._lie(data)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            for each in pair:
                reset(each)
        finally:
            self._lying.discard(who)


@contextmanager
def lying_proxy(database: Database) -> Iterator[LyingProxy]:
    """One in front of the server of `database`, for the length of the block."""
    proxy = LyingProxy(database.host, database.port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
