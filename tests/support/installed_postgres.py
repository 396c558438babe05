"""Postgres of other versions than the embedded one, where the system has them installed (Debian's folders).

For what rests on how Postgres itself treats a run of messages, and for TLS, for which the embedded one is not built.
Such a server has the superuser `postgres` with the password of all tests, is made anew each time, and is not durable.
"""

import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlhttp_gateway.embedded import Account
from tests.support.certificates import Authority, Files
from tests.support.cluster import FAST, PASSWORD, Database
from tests.support.gateway import free_port

_FOLDERS = Path("/usr/lib/postgresql")
_START_TIMEOUT = 60.0  # seconds; recovery after a crash is part of a start


def installed() -> list[str]:
    """The major versions that can be started here."""
    return sorted(path.parent.parent.name for path in _FOLDERS.glob("*/bin/postgres"))


class InstalledPostgres:
    """One cluster in `folder`, of one version; what a `Cluster` asks of a `PrivatePostgres` is here as well.

    With a certificate it takes connections with TLS beside those without.
    """

    def __init__(
        self, folder: Path, version: str, *, options: Mapping[str, str] | None = None, certificate: Files | None = None
    ) -> None:
        self.port = free_port()
        self.data = folder / "data"
        self.log = folder / "log"
        self._programs = _FOLDERS / version / "bin"
        self._account = Account.for_folder(folder)
        self._process: subprocess.Popen[bytes] | None = None
        listening = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        self._options = FAST | listening | dict(options or {})
        password = folder / "password"
        password.write_text(PASSWORD)
        handed_over = [folder, password]
        if certificate is not None:
            handed_over += [certificate.certificate, certificate.key]
            certificate.key.chmod(0o600)  # Postgres reads no key that others may read
            files = {"ssl_cert_file": str(certificate.certificate), "ssl_key_file": str(certificate.key)}
            self._options |= {"ssl": "on"} | files
        for path in handed_over:
            self._account.own(path)
        subprocess.run(
            [
                *(str(self._programs / "initdb"), "-D", str(self.data), "--username=postgres"),
                *("--pwfile", str(password), "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            **self._account.switch,
            env=_ENVIRONMENT,
            cwd="/",
            check=True,
            capture_output=True,
        )

    @property
    def pid(self) -> int | None:
        """The postmaster, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Return when connections are taken."""
        settings = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.data), *settings],
                **self._account.switch,
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_ready():
            assert self.pid is not None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline, f"Postgres was not ready after {_START_TIMEOUT:g} s"
            time.sleep(0.01)

    def stop(self) -> None:
        """A fast shutdown; harmless when it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_TIMEOUT)
            self._process = None

    def wait(self) -> int:
        """Block until it ends; its exit status."""
        return self._process.wait(_START_TIMEOUT) if self._process is not None else 0

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        # One that crashed leaves its file behind, with another pid in the first line.
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


class TlsPostgres(NamedTuple):
    """A server, and who has signed its certificate."""

    server: InstalledPostgres
    authority: Authority

    @property
    def database(self) -> Database:
        return Database("127.0.0.1", self.server.port, "postgres")

    @property
    def trusting(self) -> ssl.SSLContext:
        """How to speak to it."""
        return ssl.create_default_context(cafile=str(self.authority.root))


@contextmanager
def running(version: str) -> Iterator[Database]:
    """A server of this version for the length of the block, as its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="sqlhttp-test-") as folder:
        server = InstalledPostgres(Path(folder), version)
        try:
            server.start()
            yield Database("127.0.0.1", server.port, "postgres")
        finally:
            server.stop()


@contextmanager
def running_with_tls(version: str, options: Mapping[str, str] | None = None) -> Iterator[TlsPostgres]:
    """One that has a certificate, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="sqlhttp-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "server").mkdir()
        authority = Authority(folder)
        server = InstalledPostgres(folder / "server", version, options=options, certificate=authority.issue("server"))
        try:
            server.start()
            yield TlsPostgres(server, authority)
        finally:
            server.stop()


_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
