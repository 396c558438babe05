"""A connection string becomes a Dsn: the caller's, from the Neon-Connection-String header, and the configured one.

The grammar is a URL's, read as browsers and Neon's own server read it: the last "@" ends the user part, "+" is a plus,
a "%" that begins no escape stands for itself. What could change its meaning on the way to Postgres is refused, above
all a NUL, which ends a text on Postgres's wire. No part of the string appears in the text of an error.

Nothing secret is remembered between calls: a cache would keep passwords in memory for longer than their request.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.model import Dsn

MAX_LENGTH = 8192
"""Most bytes of a connection string; cloud providers' log-in tokens, used as passwords, reach about 4,000."""

_HINT = "The form is postgres://role:password@host/database"
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
    parts = _split(text)
    if parts.path is None:
        raise _refusal("missing database name")
    if not parts.role:
        raise _refusal("missing username")
    if not parts.host:
        raise _refusal("missing hostname")
    return _dsn(parts, host=parts.host, port=parts.port)


def dsn_from_url(text: str) -> Dsn:
    """A connection string from the settings, where libpq's liberties are taken too.

    The database defaults to the role, and the host may stand among the parameters (`?host=/var/run/postgresql`),
    which is how a URL names the folder of a Unix socket.

    Raises:
        InvalidConnectionString: the string cannot be used.
    """
    if len(text) > MAX_LENGTH:
        raise _refusal(f"invalid connection string: longer than {MAX_LENGTH} characters")
    if not text.isprintable():
        raise _refusal("invalid connection string: a control character in it is not percent-encoded")
    parts = _split(text)
    if not parts.role:
        raise _refusal("missing username")
    host, port = parts.host, parts.port
    dsn = _dsn(parts, host=host, port=port)
    if host:
        return dsn
    given = dict(dsn.parameters)
    host = given.pop("host", "")
    if "," in host:
        raise _refusal("invalid connection string: several hosts are not supported")
    if not host:
        raise _refusal("missing hostname")
    if port is None and "port" in given:
        port = _port(given.pop("port"))
    return Dsn(host, port, dsn.database, dsn.role, dsn.password, tuple(given.items()))


def _split(text: str) -> _Parts:
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
    host, port = _host_and_port(place)
    # "role:@host" has no password, as in Neon: an empty one could never be right.
    return _Parts(role, password if colon and password else None, host, port, path if slash else None, query)


def _host_and_port(place: str) -> tuple[str, int | None]:
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
    role = _decoded(parts.role, "username")
    database, _, _ = (parts.path or "").partition("/")
    password = None if parts.password is None else unquote_to_bytes(parts.password)
    if password is not None and b"\0" in password:
        raise _refusal("invalid password: it contains a NUL character")
    return Dsn(
        host=host,
        port=port,
        database=_decoded(database, "database name") or role,
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


def _refusal(message: str) -> InvalidConnectionString:
    return InvalidConnectionString(message, hint=_HINT)
