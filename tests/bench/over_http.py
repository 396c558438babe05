"""The loader's callers over HTTP."""

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

from tests.bench.tally import Tally, repeat

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """One HTTP connection that sends, waits for the whole answer, and sends again."""

    def __init__(self, tally: Tally, requests: Iterator[bytes], *, once: bool = False) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._requests = requests
        self._once = once
        self._began = time.perf_counter()
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end + 2)
            if length is None:
                self._fail("an answer without Content-Length")
                return
            self._missing = end + 4 + int(length[1]) - len(self._head)
            if not self._head.startswith(b"HTTP/1.1 200 "):
                self._tally.note_error(self._head[:2000].decode("latin-1"))
        if self._missing > 0:
            return
        self._missing = 0
        self._head = b""
        self._tally.latencies.append(time.perf_counter() - self._began)
        if self._once:
            self._transport.close()
        else:
            self._began = time.perf_counter()
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            if self._head or self._missing:
                self._tally.note_error(f"the connection was lost: {error}")
            self.done.set_result(None)

    def _next(self) -> None:
        if self._once or self._tally.may_begin():
            self._transport.write(next(self._requests))
        else:
            self._transport.close()

    def _fail(self, text: str) -> None:
        self._tally.note_error(text)
        self._transport.abort()


class KeptCaller(Caller):
    """The same, which begins when it is told, and keeps its connection for the next time."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def begin(self, tally: Tally) -> asyncio.Future[None]:
        """Ask until the tally ends it; done then."""
        self.done = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._began = time.perf_counter()
        self._next()
        return self.done

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._tally.note_error(f"a kept connection was lost: {error}")
            self.done.set_result(None)

    def close(self) -> None:
        self._transport.close()

    def _next(self) -> None:
        if self._tally.may_begin():
            self._transport.write(next(self._requests))
        else:
            self.done.set_result(None)


class Kept:
    """Connections that stay open from one order to the next, so that opening them is not measured with the asking."""

    def __init__(self) -> None:
        self._callers: list[KeptCaller] = []

    async def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """So many connections in place of those there were, each with its first request behind it."""
        self.close()
        loop = asyncio.get_running_loop()
        requests = itertools.cycle(request.encode("latin-1") for request in order["requests"])
        tally = Tally(order["seconds"], 0)
        for _ in range(order["connections"]):  # one after the other: more at once might be than the server lets wait
            _, caller = await loop.create_connection(lambda: KeptCaller(tally, requests), "127.0.0.1", order["port"])
            self._callers.append(caller)
            await caller.begin(Tally(order["seconds"], 1))
        return tally.summary()

    def close(self) -> None:
        """Close them all."""
        while self._callers:
            self._callers.pop().close()

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """All of them ask."""
        tally = Tally(order["seconds"], order["most"])
        await asyncio.gather(*(caller.begin(tally) for caller in self._callers))
        return tally.summary()


async def http(order: dict[str, Any]) -> dict[str, Any]:
    """Keep-alive connections, or with `keep_alive` false a new connection for each request."""
    loop = asyncio.get_running_loop()
    requests = itertools.cycle(request.encode("latin-1") for request in order["requests"])
    tally = Tally(order["seconds"], order["most"])

    async def keep_alive() -> None:
        _, caller = await loop.create_connection(lambda: Caller(tally, requests), "127.0.0.1", order["port"])
        await caller.done

    async def anew() -> None:
        _, caller = await loop.create_connection(lambda: Caller(tally, requests, once=True), "127.0.0.1", order["port"])
        await caller.done

    if order["keep_alive"]:
        await asyncio.gather(*(keep_alive() for _ in range(order["connections"])))
    else:
        await repeat(anew, order["connections"], tally, timed=False)
    return tally.summary()
