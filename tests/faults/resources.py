"""What the gateway lacks: space for its log, somebody who reads it, files that it may open, memory.

Each function lets one gateway run short of one thing and says what is false of it: that it goes on with what it has,
refuses the rest in its own words, takes no processor time for nothing, and is as before once there is enough.
"""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.faults.world import VARIABLE, World, environment
from tests.support.gateway import answers, free_port
from tests.support.processes import cpu_seconds

_LINES = 350
"""Lines of the log that are more than a pipe holds."""
_ENDS_WITHIN = 20.0
BUSY = 0.5
"""The share of a processor that a gateway with nothing to do may take at most."""
_BACK_WITHIN = 10.0
_CONNECTIONS = 200


def log_on_a_full_disk(world: World) -> list[str]:
    """Every line of the log fails with ENOSPC."""
    with Path("/dev/full").open("wb", buffering=0) as full, gateway(world, full.fileno()) as (process, port):
        return _goes_on_and_ends(world, process, port, fails=20)


def log_that_nobody_reads(world: World) -> list[str]:
    """The log is a pipe, and full; somebody has made it non-blocking besides."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with gateway(world, writing) as (process, port):
            return _goes_on_and_ends(world, process, port, fails=_LINES)
    finally:
        os.close(reading)
        os.close(writing)


def files(world: World) -> list[str]:
    """The process may open hardly more files than it has; programs connect at both doors, and none goes."""
    faults = []
    pid = world.serving[0]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    kept = socket.create_connection(("127.0.0.1", world.gateway.port), timeout=10)
    many: list[socket.socket] = []
    try:
        if b" 200 " not in _ask(kept, world):
            faults.append("no answer before")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (world.descriptors() + 10, before[1]))
        for port in (world.gateway.port, world.door.port):
            many += [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(_CONNECTIONS)]
        began, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(1.0)  # what is measured is what it does meanwhile, with nothing to do
        share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        if share > BUSY:
            faults.append(f"{share:.0%} of a processor without anything to do")
        if b" 200 " not in _ask(kept, world):
            faults.append("a connection that was there before is not answered any more")
    finally:
        for each in many:
            each.close()
        kept.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    return faults + _is_back(world)


def memory(world: World) -> list[str]:
    """The worker that answers cannot get more memory, and is asked for a great deal.

    It may refuse the request, or end: libraries in C do not survive every allocation that fails, and Linux itself ends
    processes where memory is short. Then another takes its place. Needs a world of several workers.
    """
    faults = []
    for pid in world.serving:
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (size + (4 << 20), resource.RLIM_INFINITY))
    for _ in range(2 * world.workers):
        status = post(world, world.gateway.port, "SELECT repeat('x', 1000) FROM generate_series(1, 9000)")
        if status == 200:
            faults.append("there was memory enough, and nothing was tried")
    for pid in world.serving:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return faults + _is_back(world)


def _goes_on_and_ends(world: World, process: "subprocess.Popen[bytes]", port: int, *, fails: int) -> list[str]:
    faults = []
    if any(post(world, port, "SELECT 1/0") != 400 for _ in range(fails)):  # a line of the log each
        faults.append("a statement that fails was not answered")
    if post(world, port, "SELECT 1") != 200:
        faults.append("no answer")
    process.terminate()
    try:
        status = process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        return [*faults, f"it did not end within {_ENDS_WITHIN:g} s"]
    return faults if not status else [*faults, f"it ended with status {status}"]


@contextmanager
def gateway(
    world: World, log: int, settings: Mapping[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """One more gateway before the world's Postgres, that logs to this descriptor: its process and its port."""
    port = free_port()
    given: Mapping[str, str] = {**environment(world.upstream), **(settings or {}), VARIABLE: world.broken}
    module = "tests.faults.broken_gateway" if world.broken else "sqlhttp_gateway"
    process = subprocess.Popen(
        [sys.executable, "-m", module, "serve", "--port", str(port)],
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + _ENDS_WITHIN
        while not answers(f"http://127.0.0.1:{port}/livez"):
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.02)
        yield process, port
    finally:
        process.kill()
        process.wait()


def post(world: World, port: int, query: str) -> int:
    """The status of one statement's answer; 0 when there was none."""
    head = {"Neon-Connection-String": world.database.url}
    request = Request(f"http://127.0.0.1:{port}/sql", json.dumps({"query": query}).encode(), head)
    try:
        with urlopen(request, timeout=30) as answer:
            answer.read()
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (URLError, OSError):
        return 0


def _ask(connection: socket.socket, world: World) -> bytes:
    """The first line of an answer on a connection that is there."""
    body = b'{"query":"SELECT 1"}'
    head = f"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Neon-Connection-String: {world.database.url}\r\n\r\n".encode() + body)
    with contextlib.suppress(OSError):
        return connection.recv(65536).split(b"\r\n", 1)[0]
    return b""


def _is_back(world: World) -> list[str]:
    """Whether every one of some new connections is answered, before long."""
    deadline = time.monotonic() + _BACK_WITHIN
    while any(post(world, world.gateway.port, "SELECT 1") != 200 for _ in range(8)):
        if time.monotonic() > deadline:
            return [f"not as before within {_BACK_WITHIN:g} s"]
        time.sleep(0.05)
    return []
