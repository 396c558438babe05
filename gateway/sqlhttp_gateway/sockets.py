"""What the gateway listens on: sockets bound before anything is served, so that a taken address is one message.

They listen from then on, too, and who connects before the gateway serves waits. As long as none does, several may be
bound to one address, by two gateways that start together or by two doors of one: all but one would then be deaf, and
uvloop says nothing of it.

A worker has a set of its own. On Linux the kernel spreads connections over sockets that share a port (SO_REUSEPORT),
and evenly, which matters as every worker has its share of the pool's bound; elsewhere, and on a Unix socket, the
workers accept from one socket. The parent has them all as well, so that whoever waits in the queue of a worker that is
killed is served by the one that takes its place.
"""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlhttp_gateway.errors import AddressUnavailable, ConfigurationError
from sqlhttp_gateway.settings import ListenSettings, Settings

_LONGEST_PATH = 107
"""Bytes of a Unix socket's path; sun_path has 108 on Linux, one of which ends it."""


_PASSING = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""What may be otherwise a moment later: the second is an address that moves between machines, or one still to come."""


class Sockets(NamedTuple):
    """All that one worker accepts from."""

    http: socket.socket
    http_unix: socket.socket | None = None
    postgres: socket.socket | None = None
    postgres_unix: socket.socket | None = None
    admin: socket.socket | None = None
    admin_unix: socket.socket | None = None

    def close(self, *, but: "Sockets | None" = None) -> None:
        """Accept nothing in this process any more, on none of these but those that are among the others, too."""
        kept = {id(each) for each in but or ()}
        _close(each for each in self if id(each) not in kept)


@contextmanager
def bind_all(settings: Settings) -> Iterator[list[Sockets]]:
    """The sockets of each worker. At the end they are closed and the files of Unix sockets removed.

    Raises:
        ConfigurationError: an address is taken, not this machine's, or not allowed.
    """
    listen, admin = settings.listen, settings.admin
    with ExitStack() as bound:
        unix = (
            _entered(bound, "listen.unix_socket", listen.unix_socket, listen),
            _entered(bound, "listen.postgres_socket_directory", postgres_socket(listen), listen),
            _entered(bound, "admin.unix_socket", admin.unix_socket, listen),
        )
        http = bind(listen)
        bound.callback(_close, http)
        postgres = _bind_wanted(listen.host, listen.postgres, "listen.postgres", listen.workers)
        bound.callback(_close, postgres)
        admins = _bind_wanted(admin.host, admin.port, "admin.port", listen.workers)
        bound.callback(_close, admins)
        yield [
            Sockets(http[worker], unix[0], postgres[worker], unix[1], admins[worker], unix[2])
            for worker in range(listen.workers)
        ]


def bind(listen: ListenSettings) -> list[socket.socket]:
    """A bound socket for each worker, all on the one HTTP port.

    Raises:
        ConfigurationError: the address is taken, not this machine's, or not allowed.
    """
    return _bind_each(listen.host, listen.port, "listen.port", listen.workers)


def bind_port(host: str, port: int, setting: str, *options: int) -> socket.socket:
    """A socket that listens on one address, with these options of SOL_SOCKET besides; `setting` is what names the port.

    Raises:
        ConfigurationError: the address is taken, not this machine's, or not allowed.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no name of a host"  # such as a..b
        raise ConfigurationError(f"{_host_of(setting)}: {host!r} is no address of this machine ({why})") from None
    bound = socket.socket(family, kind, protocol)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(where)
        bound.listen()
    except OSError as error:
        bound.close()
        fault = AddressUnavailable if error.errno in _PASSING else ConfigurationError
        raise fault(_why_not(host, port, setting, error)) from None
    return bound


def address(bound: socket.socket, scheme: str = "http") -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _close(sockets: Iterable[socket.socket | None]) -> None:
    for each in sockets:
        if each is not None:
            each.close()


def postgres_socket(listen: ListenSettings) -> Path | None:
    """Where libpq looks in a directory for the socket of a port."""
    folder = listen.postgres_socket_directory
    return folder / f".s.PGSQL.{listen.postgres}" if folder is not None else None


def _bind_wanted(host: str, port: int | None, setting: str, workers: int) -> Sequence[socket.socket | None]:
    return _bind_each(host, port, setting, workers) if port is not None else [None] * workers


def _bind_each(host: str, port: int, setting: str, workers: int) -> list[socket.socket]:
    first = bind_port(host, port, setting)
    if workers == 1:
        return [first]
    if not sys.platform.startswith("linux"):
        return [first] * workers
    port = first.getsockname()[1]
    first.close()  # it had the port to itself, so no other gateway is there with which to share it by mistake
    return [bind_port(host, port, setting, socket.SO_REUSEPORT) for _ in range(workers)]


def _host_of(setting: str) -> str:
    return f"{setting.partition('.')[0]}.host"


def _why_not(host: str, port: int, setting: str, error: OSError) -> str:
    section, _, name = setting.partition(".")
    if error.errno == errno.EADDRINUSE:
        taken = f"{setting}: {host} port {port} is in use by another program. Choose another port: "
        if setting == "listen.port":
            taken += "make run PORT=…, --port, "
        return f"{taken}SQLHTTP_{section.upper()}__{name.upper()}, or {name} under [{section}] in the settings file."
    if error.errno == errno.EACCES:
        return f"{setting}: this user may not listen on port {port}; ports from 1024 up are open to all."
    return f"{_host_of(setting)}: cannot listen on {host} port {port}: {error.strerror}"


# ── Unix sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _entered(bound: ExitStack, setting: str, path: Path | None, listen: ListenSettings) -> socket.socket | None:
    if path is None:
        return None
    return bound.enter_context(unix_socket(setting, path, mode=int(listen.unix_socket_mode, 8)))


@contextmanager
def unix_socket(setting: str, path: Path, *, mode: int) -> Iterator[socket.socket]:
    """A socket bound to `path`, which is removed at the end if it is still this one's.

    Raises:
        ConfigurationError: it is in use, something else is in its place, or it may not be made there.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigurationError(f"{setting}: {path} is longer than the {_LONGEST_PATH} bytes of a Unix socket's path")
    _clear(setting, path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody connects before the mode is what it should be
    try:
        bound.bind(os.fspath(path))
    except OSError as error:
        bound.close()
        raise ConfigurationError(f"{setting}: cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    path.chmod(mode)
    bound.listen()
    inode = path.lstat().st_ino
    try:
        yield bound
    finally:
        bound.close()
        with contextlib.suppress(OSError):
            if path.lstat().st_ino == inode:
                path.unlink()


def _clear(setting: str, path: Path) -> None:
    """Remove what a gateway left behind that was killed; nothing else."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise ConfigurationError(f"{setting}: {path} is there, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigurationError(f"{setting}: {path} cannot be used: {error.strerror}") from None
    raise AddressUnavailable(f"{setting}: {path} is in use by another program")
