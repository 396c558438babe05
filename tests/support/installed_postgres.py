"""Postgres of other versions than the embedded one, where the system has them installed (Debian's folders).

For what rests on how Postgres itself treats a run of messages. Such a server has the superuser `postgres` with the
password of all tests, is made anew each time, and is not durable.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlhttp_gateway.embedded import Account
from tests.support.cluster import FAST, PASSWORD, Database
from tests.support.gateway import free_port

_FOLDERS = Path("/usr/lib/postgresql")
_START_TIMEOUT = 30.0  # seconds


def installed() -> list[str]:
    """The major versions that can be started here."""
    return sorted(path.parent.parent.name for path in _FOLDERS.glob("*/bin/postgres"))


@contextmanager
def running(version: str) -> Iterator[Database]:
    """A server of this version for the length of the block, as its maintenance database."""
    programs = _FOLDERS / version / "bin"
    folder = Path(tempfile.mkdtemp(prefix="sqlhttp-test-"))
    try:
        account = Account.for_folder(folder)
        account.own(folder)
        password, data, port = folder / "password", folder / "data", free_port()
        password.write_text(PASSWORD)
        account.own(password)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        subprocess.run(
            [
                *(str(programs / "initdb"), "-D", str(data), "--username=postgres", "--pwfile", str(password)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            **account.switch,
            env=environment,
            cwd="/",
            check=True,
            capture_output=True,
        )
        options = FAST | {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *settings],
                **account.switch,
                env=environment,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait_until_ready(data, server)
            yield Database("127.0.0.1", port, "postgres")
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(data: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    status = data / "postmaster.pid"
    while time.monotonic() < deadline:
        if status.exists() and "ready" in status.read_text():
            return
        if server.poll() is not None:
            raise AssertionError((data.parent / "log").read_text(errors="replace"))
        time.sleep(0.01)
    raise AssertionError(f"Postgres was not ready after {_START_TIMEOUT:g} s")
