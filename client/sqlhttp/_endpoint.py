"""From what the caller gives to where requests go and which connection string they carry. Pure.

A postgres URL follows Neon's driver: https, the host's first label replaced by `api` (`apiauth` with a token), path
/sql, port left out. A host without a dot, or an IP address, cannot be Neon's, and is a gateway reached by http.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from sqlhttp._errors import InterfaceError

GATEWAY_PORT = 4444
"""Where a gateway listens unless told otherwise."""

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:/?#@\[\]\s]*)"
    r"(?::(?P<port>\d*))?"
    r"(?P<path>/[^?#\s]*)?"
    r"(?P<query>\?[^#\s]*)?"
)
_UNENCODED = "the connection string has characters that must be percent-encoded"
_DOTTED_QUAD = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")


class Origin(NamedTuple):
    """Where an HTTP connection goes."""

    tls: bool
    host: str
    """A name or an address, IPv6 without its brackets."""
    port: int


class Endpoint(NamedTuple):
    """One gateway's /sql, or its /v2 for WebSockets."""

    origin: Origin
    authority: str
    """The value of the Host header."""
    target: str
    """Path and query string."""

    @property
    def url(self) -> str:
        return f"{'https' if self.origin.tls else 'http'}://{self.authority}{self.target}"

    @property
    def websocket_url(self) -> str:
        return f"{'wss' if self.origin.tls else 'ws'}://{self.authority}{self.target}"


class Destination(NamedTuple):
    """Where requests go, and which connection string they carry; None leaves the header out."""

    endpoint: Endpoint
    endpoint_with_token: Endpoint
    """Where they go when an auth token is shown: Neon has another host for them."""
    connection_string: str | None
    websocket: Endpoint
    """Where WebSockets go."""

    def __repr__(self) -> str:
        return f"Destination({self.endpoint.url})"  # never the connection string


def destination(url: str | None, endpoint: str | None, environment: Mapping[str, str]) -> Destination:
    """Work out both from `neon()`'s first two arguments and the environment.

    Raises:
        InterfaceError: there is no URL, or one that cannot be used. Its text never holds a password.
    """
    database_url = environment.get("DATABASE_URL", "").strip() or None
    # As in JavaScript, what is around a URL is none of it; files that hold a secret often end with a line's end.
    url = database_url if url is None else url.strip()
    if url is None:
        raise InterfaceError("no connection string: give neon() a URL, or set DATABASE_URL")
    match = _parsed(url, "the connection string")
    scheme = match["scheme"].lower()
    explicit = (endpoint or environment.get("SQLHTTP_ENDPOINT", "")).strip() or None
    if scheme in ("http", "https"):
        if match["user"] and not (url.isascii() and url.isprintable()):
            raise InterfaceError(_UNENCODED)
        found = _endpoint(explicit or _bare(match))
        connection_string = _string_of_gateway(match, database_url)
        return Destination(found, found, connection_string, _websocket(found, connection_string))
    if scheme not in ("postgres", "postgresql"):
        raise InterfaceError(f"the connection string begins with {scheme}://, not postgresql:// or https://")
    if not match["host"]:
        raise InterfaceError("the connection string names no host")
    if not match["user"]:
        raise InterfaceError("the connection string names no role: postgresql://role:password@host/database")
    if not url.isascii() or not url.isprintable():
        raise InterfaceError(_UNENCODED)
    if explicit is not None:
        found = _endpoint(explicit)
        return Destination(found, found, url, _websocket(found, url))
    found, with_token = _endpoint(_derived(match, "api")), _endpoint(_derived(match, "apiauth"))
    if found.origin.tls:  # Neon's driver: wss, the database's own host, and its port left out
        return Destination(found, with_token, url, Endpoint(Origin(True, match["host"], 443), match["host"], "/v2"))
    return Destination(found, with_token, url, _websocket(found, url))


def _websocket(endpoint: Endpoint, connection_string: str | None) -> Endpoint:
    """Beside a gateway's /sql; `address` says which server is meant, as the connection string does over HTTP."""
    path, _, query = endpoint.target.partition("?")
    match = _URL.fullmatch(connection_string or "")
    if match is not None and match["host"]:
        port = f":{match['port']}" if match["port"] else ""
        query = f"{query}&address={match['host']}{port}".lstrip("&")
    return endpoint._replace(target=f"{path.removesuffix('/sql')}/v2" + (f"?{query}" if query else ""))


def _derived(match: re.Match[str], label: str) -> str:
    """The endpoint's URL that a postgres URL stands for."""
    host = match["host"]
    if "." not in host or host.startswith("[") or _DOTTED_QUAD.fullmatch(host) or host.endswith(".localhost"):
        return f"http://{host}:{match['port'] or GATEWAY_PORT}/sql"
    return f"https://{label}.{host.split('.', 1)[1]}/sql"


def _bare(match: re.Match[str]) -> str:
    """An http URL as an endpoint: with credentials its path is the database's name, else the path of requests."""
    port = f":{match['port']}" if match["port"] else ""
    path = "/sql" if match["user"] else (match["path"] or "") + (match["query"] or "")
    return f"{match['scheme']}://{match['host']}{port}{path}"


def _string_of_gateway(match: re.Match[str], database_url: str | None) -> str | None:
    if match["user"]:
        password = f":{match['password']}" if match["password"] is not None else ""
        return f"postgresql://{match['user']}{password}@{match['host']}{match['path'] or '/'}{match['query'] or ''}"
    if database_url is not None and database_url.startswith(("postgres://", "postgresql://")):
        return database_url
    return None


def _endpoint(url: str) -> Endpoint:
    match = _parsed(url, "the endpoint")
    scheme, host = match["scheme"].lower(), match["host"]
    if scheme not in ("http", "https") or not host:
        raise InterfaceError("the endpoint must be a URL that begins with http:// or https://")
    if match["user"] is not None:
        raise InterfaceError("the endpoint's URL has credentials; they belong into the connection string")
    tls = scheme == "https"
    port = int(match["port"]) if match["port"] else (443 if tls else 80)
    if port > 65535:
        raise InterfaceError(f"the endpoint's port {port} is above 65535")
    path = match["path"] or "/"
    target = ("/sql" if path == "/" else path) + (match["query"] or "")
    if not target.isascii() or not host.isascii():
        raise InterfaceError("the endpoint's URL has characters that must be percent-encoded")
    authority = host if port == (443 if tls else 80) else f"{host}:{port}"
    return Endpoint(Origin(tls, host.strip("[]"), port), authority, target)


def _parsed(url: str, what: str) -> re.Match[str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise InterfaceError(f"{what} is not a URL")  # never its text: it may hold a password
    return match


def parts_of(url: str) -> re.Match[str] | None:
    """The URL's `scheme`, `user`, `password`, `host`, `port`, `path` and `query`, as they are; None when it is none."""
    return _URL.fullmatch(url)
