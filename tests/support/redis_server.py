"""A Redis of the tests' own, on a port of its own and without a disk. Skips the test where there is none."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.support.gateway import free_port
from tests.support.processes import frozen


class RedisServer:
    """It can be killed and started again on its port; what it held is lost then."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def frozen(self) -> AbstractContextManager[None]:
        """It stands still for the length of the block."""
        return frozen(self._process)

    def flush(self) -> None:
        """It forgets everything that it holds."""
        self._tell(b"FLUSHALL")

    def fill(self) -> None:
        """It has no room for anything from now on, as one with `maxmemory` that gives nothing up (its default)."""
        self._tell(b"CONFIG SET maxmemory 1")

    def _tell(self, command: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            assert connection.recv(16).startswith(b"+OK")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server for the length of the block."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    server = RedisServer(program)
    server.start()
    try:
        yield server
    finally:
        server.kill()
