"""A gateway to send requests to: in a thread of the test's own process, or as a process that takes signals.

Both listen on a free port of 127.0.0.1 and are set up as production is, by `serve`.
"""

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from sqlhttp_gateway.serve import GatewayServer
from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.sockets import Sockets, address, bind_all

READY_TIMEOUT = 60.0  # seconds; a start takes a few tenths of one, on a machine with nothing else to do

_chance = random.SystemRandom()
"""What seeds the tests' chance must not make two processes choose alike."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a running gateway is."""

    url: str
    settings: Settings
    sockets: Sockets | None = None

    @property
    def sql(self) -> str:
        """Where statements are posted."""
        return f"{self.url}/sql"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def gateway_in_thread(database_url: str, settings: Mapping[str, Any]) -> Iterator[Gateway]:
    """A gateway on an event loop of its own. `settings` are sections: `{"pool": {"max_size": 5}}`."""
    loaded = load_settings(**{"database_url": database_url, "listen": {"port": 0}, **settings})
    with bind_all(loaded) as [sockets]:
        running = threading.Event()
        server = GatewayServer(loaded, sockets, ready=running.set)
        with _in_thread(server, running):
            yield Gateway(address(sockets.http, server.scheme), loaded, sockets)


@contextmanager
def _in_thread(server: GatewayServer, running: threading.Event) -> Iterator[None]:
    def run() -> None:
        try:
            server.serve_until_told()
        finally:
            running.set()

    thread = threading.Thread(target=run, name="gateway")
    thread.start()
    try:
        assert running.wait(READY_TIMEOUT), "the gateway did not start"
        assert server.started, "the gateway ended at its start"
        yield
    finally:
        server.should_exit = True
        thread.join(READY_TIMEOUT + 30)
        assert not thread.is_alive(), "the gateway did not end"


class EndedEarly(Exception):
    """A gateway process that should have become ready has ended."""


class GatewayProcess:
    """`sqlhttp` as a process of its own, for signals, exit statuses and what it prints.

    `environment` goes over the test's own, without any setting of that. A `with` block kills what has not ended. What
    it prints goes through a pipe, which holds 64 KiB until the end, or to the file `log`. `module` is one that
    wraps the command.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path | None = None,
        log: Path | None = None,
        module: str = "sqlhttp_gateway",
    ) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith("SQLHTTP_") and name != "DATABASE_URL"
        }
        self._output = b""
        self._log = log
        with nullcontext(subprocess.PIPE) if log is None else log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**inherited, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    def wait_until_ready(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        """Until /livez of `url` answers 200; `tls` is whom to trust where it is HTTPS.

        Raises:
            EndedEarly: it ended instead; the text has its exit status and its output.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        while self._process.poll() is None and not answers(f"{url}/livez", tls):
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.02)
        if self._process.poll() is not None:
            raise EndedEarly(f"status {self.wait()}:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout: float = 30.0) -> int:
        """The exit status, once it has ended by itself."""
        output, _ = self._process.communicate(timeout=timeout)
        # All of it, however often it is asked for.
        if self._log is None or self._log.is_file():  # else a device, which has no end
            self._output = output or b"" if self._log is None else self._log.read_bytes()
        return self._process.returncode

    @property
    def output(self) -> str:
        """All it wrote, to either stream; known once it has ended."""
        return self._output.decode()


def answers(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urlopen(url, timeout=5, context=tls) as response:
            return bool(response.status == 200)
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError):
        return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, from a range in which the kernel gives none to whoever just connects."""
    while True:
        port = _chance.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
