"""Processes of a bench run: servers that answer on a port of loopback, and how all of them are ended."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT = 20.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds until SIGTERM is followed by SIGKILL


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment without settings of the gateway, so that defaults are what is measured.

    Byte code is kept, as that of an installed package is: to compile at each start would be most of an import.
    """
    others = ("DATABASE_URL", "PYTHONDONTWRITEBYTECODE")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("SQLHTTP_", "PG")) and name not in others
    }
    return kept | changes


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


class Process:
    """A child with its own session, so that a Ctrl-C reaches the bench alone, which then ends its children.

    What it writes goes to a file: a pipe that nobody reads would stop it when full.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        port: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`port` is where it listens; `options` go to subprocess.Popen."""
        self.name = name
        self.port = port
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            start_new_session=True,
            **({"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": self._log} | dict(options or {})),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def wait_until_listening(self) -> None:
        """Until its port takes connections."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not listen on port {self.port}:\n{self.log}")
            time.sleep(0.02)

    def ask(self, line: str, *, timeout: float) -> str:
        """One line to its stdin and one from its stdout, which are then pipes."""
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        sink.write(line.encode() + b"\n")
        sink.flush()
        answer = b""
        deadline = time.monotonic() + timeout
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(source.fileno(), 65536) if ready else b""
            if not chunk:
                raise RuntimeError(f"{self.name} {'ended' if ready else 'is stuck'}:\n{self.log}")
            answer += chunk
        return answer.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for end in (self._process.stdin, self._process.stdout, self._log):
            if end is not None:
                end.close()

    def end(self) -> bool:
        """End it by SIGTERM, or by SIGKILL when that does not help; whether the first was enough."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                return False
        return True
