"""A connection string becomes a Dsn: the caller's, from the Neon-Connection-String header, and the configured one.

The grammar is a URL's, read as browsers and Neon's own server read it: the last "@" ends the user part, "+" is a plus,
a "%" that begins no escape stands for itself. What could change its meaning on the way to Postgres is refused, above
all a NUL, which ends a text on Postgres's wire. No part of the string appears in the text of an error.

Nothing secret is remembered between calls: a cache would keep passwords in memory for longer than their request.
"""

import re
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.model import Dsn

MAX_LENGTH = 8192
"""Most bytes of a connection string; cloud providers' log-in tokens, used as passwords, reach about 4,000."""

_HINT = "The form is postgres://role:password@host/database"
_SOCKET_HINT = "The form is postgres://role:password@host/database, or postgres://role@/database?host=/folder/of/socket"
_SCHEMES = frozenset({"postgres", "postgresql"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_USUAL = re.compile(
    r"postgres(?:ql)?://([^:@/?#%]+):([^:@/?#%]+)@([A-Za-z0-9._-]+)(?::([1-9][0-9]{0,3}))?/([^/?#%]+)"
    r"(?:\?(sslmode=[a-z-]+(?:&channel_binding=[a-z]+)?))?"
)
"""The form nearly every string has: nothing percent-encoded, no parameters but those that Neon's console adds."""


class _Parts(NamedTuple):
    """The pieces of a URL as they stand there, not decoded yet; None where the piece and its mark are absent."""

    role: str
    password: str | None
    host: str
    port: int | None
    path: str | None
    query: str


def dsn_from_header(value: bytes | None) -> Dsn:
    """The caller's connection string. A password may be missing from it, and the port and the parameters may be.

    The checks and their texts come in Neon's order, which its tests and drivers know.

    Raises:
        InvalidConnectionString: the header is absent or cannot be used.
    """
    if value is None or len(value) > MAX_LENGTH:
        raise InvalidConnectionString("invalid header: neon-connection-string", hint=_HINT)
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:
        raise InvalidConnectionString("invalid header: neon-connection-string", hint=_HINT)
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        role, password, host, port, database, query = usual.groups()
        return Dsn(
            host,
            int(port) if port else None,
            database,
            role,
            password.encode(),
            _usual_parameters(query) if query else (),
        )
    parts = _split(text, may_be_folder=False)
    if parts.path is None:
        raise _refusal("missing database name")
    if not parts.role:
        raise _refusal("missing username")
    if not parts.host:
        raise _refusal("missing hostname")
    dsn = _dsn(parts, host=parts.host, port=parts.port)
    return dsn if dsn.database else replace(dsn, database=dsn.role)


def dsn_from_url(text: str, *, account: str = "") -> Dsn:
    """A connection string from the settings, where libpq's liberties are taken too.

    The database defaults to the role. Host, port, role, password and database may stand among the parameters under
    libpq's names. A host that begins with a slash is the folder of a Unix socket (`?host=/var/run/postgresql`, or in
    its place with every slash as %2F); there the role defaults to `account`, the system's word for whoever asks.

    Raises:
        InvalidConnectionString: the string cannot be used.
    """
    if len(text) > MAX_LENGTH:
        raise _refusal(f"invalid connection string: longer than {MAX_LENGTH} characters")
    if not text.isprintable():
        raise _refusal("invalid connection string: a control character in it is not percent-encoded")
    parts = _split(text, may_be_folder=True)
    dsn = _dsn(parts, host=parts.host, port=parts.port)
    given = dict(dsn.parameters)
    host, port = dsn.host or given.pop("host", ""), dsn.port
    if port is None and "port" in given:
        port = _port(given.pop("port"))
    role = dsn.role or given.pop("user", "") or (account if host.startswith("/") else "")
    password = dsn.password
    if password is None and given.get("password"):
        password = given.pop("password").encode()
    database = dsn.database or given.pop("dbname", "") or role
    if not role:
        raise _refusal("missing username")
    if not host:
        raise _refusal("missing hostname", hint=_SOCKET_HINT)
    if "," in host:
        raise _refusal("invalid connection string: several hosts are not supported")
    if host.startswith("@"):
        raise _refusal("invalid connection string: an abstract Unix socket is not supported", hint=_SOCKET_HINT)
    if host.startswith("/") and "/.s.PGSQL." in host:
        raise _refusal("invalid connection string: host is not the folder of the socket", hint=_SOCKET_HINT)
    return Dsn(host, port, database, role, password, tuple(given.items()))


def _split(text: str, *, may_be_folder: bool) -> _Parts:
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise _refusal("invalid connection string: relative URL without a base")
    if scheme.group()[:-1].lower() not in _SCHEMES:
        raise _refusal("incorrect scheme")
    rest = text[scheme.end() :]
    if not rest.startswith("//"):
        raise _refusal("invalid connection string: no // after the scheme")
    rest, _, _ = rest.removeprefix("//").partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, _, place = authority.rpartition("@")
    role, colon, password = user.partition(":")
    host, port = _host_and_port(place, may_be_folder=may_be_folder)
    # "role:@host" has no password, as in Neon: an empty one could never be right.
    return _Parts(role, password if colon and password else None, host, port, path if slash else None, query)


def _host_and_port(place: str, *, may_be_folder: bool) -> tuple[str, int | None]:
    if "," in place:
        raise _refusal("invalid connection string: several hosts are not supported")
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        try:
            IPv6Address(host)
        except ValueError:
            bracket = ""
        if "%" in host:  # a zone is one machine's word for its network card; it cannot name a server
            bracket = ""
        if not bracket or (port and not port.startswith(":")):
            raise _refusal("invalid connection string: invalid IPv6 address")
        return host, _port(port[1:])
    host, _, port = place.partition(":")
    if may_be_folder and host[:3].upper() == "%2F":
        return _decoded(host, "host name"), _port(port)
    if host and _HOST.fullmatch(host) is None:
        raise _refusal("invalid connection string: invalid domain character")
    return host, _port(port)


def _port(text: str) -> int | None:
    if not text:
        return None
    # Five digits bound the number before it is made one.
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 < int(text) < 65536:
        raise _refusal("invalid connection string: invalid port number")
    return int(text)


def _dsn(parts: _Parts, *, host: str, port: int | None) -> Dsn:
    """Decoded; role and database may be empty."""
    role = _decoded(parts.role, "username")
    database, _, _ = (parts.path or "").partition("/")
    password = None if parts.password is None else unquote_to_bytes(parts.password)
    if password is not None and b"\0" in password:
        raise _refusal("invalid password: it contains a NUL character")
    return Dsn(
        host=host,
        port=port,
        database=_decoded(database, "database name"),
        role=role,
        password=password,
        parameters=_parameters(parts.query),
    )


def _parameters(query: str) -> tuple[tuple[str, str], ...]:
    """Names and values in their order. A name that comes twice is refused: which of the two counts would be a guess."""
    if not query:
        return ()
    parameters = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name = _decoded(name, "parameter")
        if name in parameters:
            raise _refusal("invalid connection string: a parameter is given twice")
        parameters[name] = _decoded(value, "parameter")
    return tuple(parameters.items())


_usual_parameters = lru_cache(maxsize=32)(_parameters)


def _decoded(text: str, what: str) -> str:
    if "%" in text:
        try:
            text = unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            raise _refusal(f"invalid {what}: it is not UTF-8") from None
    if "\0" in text:
        # Start-up parameters are NUL-terminated: what follows a NUL would be read as parameters of its own.
        raise _refusal(f"invalid {what}: it contains a NUL character")
    return text


def _refusal(message: str, *, hint: str = _HINT) -> InvalidConnectionString:
    return InvalidConnectionString(message, hint=hint)
