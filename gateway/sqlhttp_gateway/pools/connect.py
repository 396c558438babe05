"""Opening a connection for a role, and what asyncpg's exceptions mean to whoever asked.

Every exception of asyncpg and of the network that opening can raise is translated here and nowhere else.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg

from sqlhttp_gateway.errors import (
    ConnectRefused,
    DatabaseMissing,
    FilesExhausted,
    GatewayError,
    PasswordFailed,
    TargetOverloaded,
    TargetUnavailable,
)
from sqlhttp_gateway.pools.backend import Backend, open_connection
from sqlhttp_gateway.pools.rounds import bound_log_ins
from sqlhttp_gateway.pools.session_jwt import KEY_PARAMETER, SessionKey
from sqlhttp_gateway.pools.targets import Upstream

_FIELDS = {
    "S": "severity",
    "V": "severity_en",
    "C": "sqlstate",
    "M": "message",
    "D": "detail",
    "H": "hint",
    "P": "position",
    "F": "server_source_filename",
    "L": "server_source_line",
    "R": "server_source_function",
}
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_PASSWORD_CODES = frozenset({"28P01", "28000"})
_DATABASE_CODES = frozenset({"3D000", "42501", "55000"})
_BUSY_CODES = frozenset({"53300", "57P03", "57P01", "57P02", "53400"})
_HINTS = {
    "Peer authentication failed": "pg_hba.conf asks the system whose process it is (peer), but the gateway logs in as "
    "each caller's role: let the line that begins with local say scram-sha-256 for these roles.",
    "connection requires a valid client certificate": "pg_hba.conf asks the gateway for a certificate (clientcert): "
    "name one in the connection string of its settings (sslcert, sslkey).",
}
"""Refusals that say nothing of the role or its password, by how they begin."""
bound_log_ins()
_FULL_PAUSE = 0.02
"""Seconds between two tries at a Unix socket before which too many wait; by TCP the system itself waits and tries."""


def password_failed(role: str) -> PasswordFailed:
    """The one text for a wrong password and for a role that does not exist."""
    return PasswordFailed(f'password authentication failed for user "{role}"')


async def connect(
    upstream: Upstream, *, database: str, role: str, password: bytes, on_lost: Callable[[Backend], None]
) -> Backend:
    """Open a connection and log in as `role`.

    Raises:
        PasswordFailed: Postgres refused the password or the role.
        DatabaseMissing: there is no such database, or the role may not connect to it.
        TargetOverloaded: Postgres has no connection left, or starts or stops just now.
        ConnectRefused: Postgres refused for another reason.
        TargetUnavailable: Postgres was not reached within `connect_timeout`.
        FilesExhausted: this process may open no more files.
    """
    target = upstream.target
    timeout = upstream.pool.connect_timeout
    try:
        text = password.decode()
    except UnicodeDecodeError:
        raise password_failed(role) from None
    key = SessionKey() if upstream.session_jwt else None
    server_settings = upstream.server_settings if key is None else upstream.server_settings | {KEY_PARAMETER: key.jwk}
    try:
        connection: Any = await _open(upstream, database, role=role, password=text, server_settings=server_settings)
        is_key_kept = key is not None and await _begin(key, connection, timeout)
    except asyncpg.ConnectionDoesNotExistError:  # asyncpg's own, though it looks like Postgres's
        raise _closed(target.name) from None
    except asyncpg.PostgresError as error:
        raise refusal(error, role) from None
    except TimeoutError:
        raise TargetUnavailable(
            f"target {target.name}: no connection to Postgres within {timeout:g} s", retry_after=1
        ) from None
    # ValueError: a host name that is none, or an answer in which asyncpg cannot find what it looks for.
    except (OSError, EOFError, ValueError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if getattr(error, "errno", None) in _NO_FILES:  # which is not the server's doing
            raise FilesExhausted(
                f"target {target.name}: no connection to Postgres can be opened: {os.strerror(errno.EMFILE)}",
                hint="Raise the limit on open files (ulimit -n, LimitNOFILE=), one for each program and connection.",
                retry_after=1,
            ) from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        way = " by its Unix socket" if target.is_socket else ""
        raise TargetUnavailable(
            f"target {target.name}: cannot connect to Postgres{way}: {reason}", retry_after=1
        ) from None
    if connection._transport.is_closing():  # since the last answer; nobody would be told of its end any more
        connection.terminate()
        raise _closed(target.name)
    backend = Backend(connection, statement_cache_size=upstream.pool.statement_cache_size, on_lost=on_lost)
    if is_key_kept:
        backend.session_key = key
    return backend


async def _open(upstream: Upstream, database: str, *, role: str, password: str, server_settings: dict[str, str]) -> Any:
    """A logged-in connection; a server that does not take the client check is asked once more without it."""
    check = upstream.client_check
    open_with = partial(
        _open_when_there_is_room,
        host=upstream.target.host,
        port=upstream.target.port,
        database=database,
        role=role,
        password=password,
        ssl=upstream.ssl,
        timeout=upstream.pool.connect_timeout,
    )
    if check is not None:
        try:
            return await open_with(server_settings=check.added_to(server_settings))
        except asyncpg.PostgresError as error:
            if not check.take_refusal(str(error)):
                raise
    return await open_with(server_settings=server_settings)


async def _open_when_there_is_room(*, timeout: float, **where: Any) -> Any:
    """`open_connection`, again and again while the socket's queue is full.

    TCP lets one wait then, a Unix socket says at once that one should come back (EAGAIN).
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            return await open_connection(timeout=max(0.001, deadline - loop.time()), **where)
        except BlockingIOError:
            if loop.time() + _FULL_PAUSE >= deadline:
                raise TimeoutError from None
            await asyncio.sleep(_FULL_PAUSE)


async def _begin(key: SessionKey, connection: Any, timeout: float) -> bool:
    """Whether pg_session_jwt took the key. The connection is ended if that cannot be found out."""
    try:
        async with asyncio.timeout(timeout):
            return await key.begin(connection)
    except BaseException:
        connection.terminate()
        raise


def _closed(target: str) -> TargetUnavailable:
    return TargetUnavailable(f"target {target}: Postgres closed the connection during log-in", retry_after=1)


def refusal(error: asyncpg.PostgresError, role: str) -> GatewayError:
    """What a refused log-in means."""
    fields = {
        letter: str(value) for letter, name in _FIELDS.items() if (value := getattr(error, name, None)) is not None
    }
    fields.setdefault("M", str(error))
    code = fields.get("C", "")
    hint = next((hint for begins, hint in _HINTS.items() if fields["M"].startswith(begins)), None)
    if hint is not None:
        return ConnectRefused(fields | {"H": hint})
    if code in _PASSWORD_CODES:
        return password_failed(role)
    if code in _DATABASE_CODES:
        return DatabaseMissing(fields)
    if code in _BUSY_CODES:
        return TargetOverloaded(fields)
    return ConnectRefused(fields)
