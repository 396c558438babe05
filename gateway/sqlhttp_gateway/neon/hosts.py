"""A connection string that names several servers, as libpq reads one, becomes one string for each.

`postgres://h1:5432,h2:5433/db` and `?host=h1,h2&port=5432,5433` mean the same. One port for several hosts is that of
each. What sort of server is wanted, `target_session_attrs`, belongs to all of them together.
"""

from enum import StrEnum
from urllib.parse import parse_qsl, quote

from sqlhttp_gateway.errors import InvalidConnectionString

MAX_HOSTS = 32


class Wanted(StrEnum):
    """The values of target_session_attrs, and libpq's default."""

    ANY = "any"
    READ_WRITE = "read-write"
    READ_ONLY = "read-only"
    PRIMARY = "primary"
    STANDBY = "standby"
    PREFER_STANDBY = "prefer-standby"


def wanted_from_text(text: str) -> Wanted:
    """The kind of server that target_session_attrs asks for.

    Raises:
        InvalidConnectionString: it is none of libpq's words.
    """
    try:
        return Wanted(text)
    except ValueError:
        raise InvalidConnectionString(f"target_session_attrs must be one of {', '.join(Wanted)}") from None


def split_hosts(url: str) -> tuple[list[str], Wanted]:
    """A connection string for each host that `url` names, in order, and the kind of server that is wanted.

    Only what concerns several hosts is looked at. A string with one comes back as it is, without
    target_session_attrs.

    Raises:
        InvalidConnectionString: hosts and ports differ in number, one host is empty, or the kind is unknown.
    """
    head, _, query = url.partition("?")
    query, fragment_mark, fragment = query.partition("#")
    pairs = parse_qsl(query, keep_blank_values=True, separator="&")
    given = dict(pairs)
    wanted = wanted_from_text(given["target_session_attrs"]) if "target_session_attrs" in given else Wanted.ANY
    if "target_session_attrs" in given:
        kept = [pair for pair in query.split("&") if not pair.startswith("target_session_attrs=")]
        query = "&".join(kept)
    scheme, slashes, rest = head.partition("//")
    authority, slash, path = rest.partition("/")
    user, at, places = authority.rpartition("@")
    tail = f"{slash}{path}"
    if places:
        if "," not in places:
            return [_joined(head, query, fragment_mark + fragment)], wanted
        hosts = _places(places)
    elif "," in given.get("host", ""):
        hosts = _pairs(given["host"].split(","), given.get("port", "").split(","))
        kept = [pair for pair in query.split("&") if not pair.startswith(("host=", "port="))]
        query = "&".join(kept)
    else:
        return [_joined(head, query, fragment_mark + fragment)], wanted
    if len(hosts) > MAX_HOSTS:
        raise InvalidConnectionString(f"invalid connection string: more than {MAX_HOSTS} hosts")
    urls = []
    for host, port in hosts:
        if host.startswith(("/", "%2F", "%2f")):  # the folder of a Unix socket has no place in front of the path
            extra = f"host={quote(host, safe='/%')}" + (f"&port={port}" if port else "")
            place = ""
        else:
            extra, place = "", f"{host}:{port}" if port else host
        wanted_query = "&".join(part for part in (query, extra) if part)
        urls.append(_joined(f"{scheme}{slashes}{user}{at}{place}{tail}", wanted_query, fragment_mark + fragment))
    return urls, wanted


def _joined(head: str, query: str, rest: str) -> str:
    return f"{head}?{query}{rest}" if query else f"{head}{rest}"


def _places(text: str) -> list[tuple[str, str]]:
    """Host and port of each place; `[::1]:5432` keeps its brackets."""
    hosts, ports = [], []
    for place in text.split(","):
        end = place.rfind("]")
        host, _, port = place[end + 1 :].partition(":")
        hosts.append(place[: end + 1] + host)
        ports.append(port)
    return _pairs(hosts, ports)


def _pairs(hosts: list[str], ports: list[str]) -> list[tuple[str, str]]:
    if not all(hosts):
        raise InvalidConnectionString("invalid connection string: one of several hosts is empty")
    if len(ports) == 1:
        ports = ports * len(hosts)
    if len(ports) != len(hosts):
        raise InvalidConnectionString(
            f"invalid connection string: {len(hosts)} hosts and {len(ports)} ports",
            hint="Give one port for all hosts, or one for each.",
        )
    return list(zip(hosts, ports, strict=True))
